import { existsSync, globSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { RowDataPacket } from 'mysql2/promise';
import { withConnection } from '../../scripts/devmesh/provision.ts';
import type { RunningService } from '../support/service.ts';

/** A secret that the test plants, and the kind of secret that it stands for. */
export interface Canary {
  kind: string;
  value: string;
}

/** A place where a canary was found: "orders.saga.data", "log of orders", "queue notifications.dead". */
export interface Sighting {
  kind: string;
  place: string;
}

/** Bytes to search, and the name of their place. */
export interface Place {
  place: string;
  content: Buffer;
}

/** The encodings of a secret to search for: as text, and in common byte encodings. */
function formsOf(value: string): string[] {
  const bytes = Buffer.from(value);
  const base64 = [0, 1, 2].map((shift) => {
    // Base64 depends on the offset of the secret in its group of three bytes, and its ends depend on neighbours.
    const whole = Buffer.concat([Buffer.alloc(shift), bytes]).toString('base64url');
    return whole.slice(shift === 0 ? 0 : shift + 1, -4);
  });
  return [value, encodeURIComponent(value), ...base64, bytes.toString('hex'), bytes.toString('hex').toUpperCase()];
}

/** Every canary that is found in one of the places, each once per place. */
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

/** Everything that these services store or expose: tables, logs, queues, metrics, files. */
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

/** Every column of every table of the service's schema, with all its rows together. */
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

/** E-mails, last good copies, and the log of the acquirer. */
function filesOf({ name, dir }: RunningService): Place[] {
  if (!existsSync(dir)) return [];
  return ['mail', 'copies', 'data'].flatMap((folder) =>
    globSync(join(dir, folder, '**/*'))
      .filter((path) => statSync(path).isFile())
      .map((path) => ({ place: `${folder} of ${name}`, content: readFileSync(path) })),
  );
}

/** The messages in all queues, read by the management API; they stay in the queues. */
async function queuesOf({ api, name }: NonNullable<RunningService['vhost']>): Promise<Place[]> {
  const queues = (await api.request('GET', `/queues/${name}?columns=name`)) as { name: string }[];
  return Promise.all(
    queues.map(async ({ name: queue }) => {
      const path = `/queues/${name}/${encodeURIComponent(queue)}/get`;
      const messages = await api
        .request('POST', path, { count: 1_000, ackmode: 'ack_requeue_true', encoding: 'base64' })
        // A queue with an exclusive consumer refuses other readers; its messages end in a table.
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
