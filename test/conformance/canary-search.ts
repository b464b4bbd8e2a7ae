import { existsSync, globSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { RowDataPacket } from 'mysql2/promise';
import { withConnection } from '../../scripts/devmesh/provision.ts';
import type { RunningService } from '../support/service.ts';

/** A secret that is planted somewhere, and the kind of secret that it stands for. */
export interface Canary {
  kind: string;
  value: string;
}

/** Where a canary was seen: "orders.saga.data", "log of orders", "queue notifications.dead". */
export interface Sighting {
  kind: string;
  place: string;
}

/** Some text, and what it is called when something is found in it. */
export interface Place {
  place: string;
  content: Buffer;
}

/** The forms in which a secret may turn up: as it is, and as programs write bytes. */
function formsOf(value: string): string[] {
  const bytes = Buffer.from(value);
  const base64 = [0, 1, 2].map((shift) => {
    // The letters of Base64 depend on where in its groups of three the secret begins; the ends depend on neighbours.
    const whole = Buffer.concat([Buffer.alloc(shift), bytes]).toString('base64url');
    return whole.slice(shift === 0 ? 0 : shift + 1, -4);
  });
  return [value, encodeURIComponent(value), ...base64, bytes.toString('hex'), bytes.toString('hex').toUpperCase()];
}

/** Every canary that is in one of the places, each once. */
export function sightings(canaries: readonly Canary[], places: readonly Place[]): Sighting[] {
  const found = new Map<string, Sighting>();
  for (const { kind, value } of canaries) {
    const forms = formsOf(value).map((form) => Buffer.from(form));
    for (const { place, content } of places) {
      if (forms.some((form) => content.includes(form))) found.set(`${kind} ${place}`, { kind, place });
    }
  }
  return [...found.values()];
}

/** Everything that these services keep or show: tables, logs, queues, metrics, files. */
export async function everywhere(services: readonly RunningService[]): Promise<Place[]> {
  const places: Place[] = [];
  for (const service of services) {
    places.push({ place: `log of ${service.name}`, content: Buffer.from(service.logs()) });
    if (service.admin) {
      const page = await (await fetch(`http://${service.admin}/metrics`)).text();
      places.push({ place: `metrics of ${service.name}`, content: Buffer.from(page) });
    }
    places.push(...(await tablesOf(service)), ...filesOf(service));
  }
  const [first] = services.flatMap(({ vhost }) => vhost ?? []);
  return first ? [...places, ...(await queuesOf(first))] : places;
}

/** Every column of every table of the service's schema, all rows of it together. */
async function tablesOf({ name, database }: RunningService): Promise<Place[]> {
  if (!database) return [];
  return withConnection(database.adminUrl, async (connection) => {
    const [tables] = await connection.query<RowDataPacket[]>(
      'select table_name as name from information_schema.tables where table_schema = ?',
      [database.schema],
    );
    const places: Place[] = [];
    for (const { name: table } of tables) {
      const [rows, fields] = await connection.query<RowDataPacket[]>('select * from ??.??', [database.schema, table]);
      for (const field of fields) {
        const values = rows.map((row) => bytesOf(row[field.name]));
        places.push({ place: `${name}.${table}.${field.name}`, content: Buffer.concat(values) });
      }
    }
    return places;
  });
}

function bytesOf(value: unknown): Buffer {
  if (Buffer.isBuffer(value)) return value;
  return Buffer.from(`${typeof value === 'object' ? JSON.stringify(value) : String(value)}\n`);
}

/** Mails, last good copies, and what the acquirer has written down. */
function filesOf({ name, dir }: RunningService): Place[] {
  if (!existsSync(dir)) return [];
  return ['mail', 'copies', 'data'].flatMap((folder) =>
    globSync(join(dir, folder, '**/*'))
      .filter((path) => statSync(path).isFile())
      .map((path) => ({ place: `${folder} of ${name}`, content: readFileSync(path) })),
  );
}

/** Every message that waits in any queue, as the management API shows it; they stay where they are. */
async function queuesOf({ api, name }: NonNullable<RunningService['vhost']>): Promise<Place[]> {
  const queues = (await api.request('GET', `/queues/${name}?columns=name`)) as { name: string }[];
  return Promise.all(
    queues.map(async ({ name: queue }) => {
      const path = `/queues/${name}/${encodeURIComponent(queue)}/get`;
      const messages = await api
        .request('POST', path, { count: 1_000, ackmode: 'ack_requeue_true', encoding: 'base64' })
        // A queue whose one consumer is at work lets nobody else in; what it holds comes to a table.
        .catch((error: Error) => {
          if (/exclusive|single active|refused/i.test(error.message)) return [];
          throw error;
        });
      const contents = (messages as { payload: string }[]).map((message) =>
        Buffer.concat([Buffer.from(message.payload, 'base64'), Buffer.from(JSON.stringify(message))]),
      );
      return { place: `queue ${queue}`, content: Buffer.concat(contents) };
    }),
  );
}
