/** The test bed of messaging, for tests and benchmarks: real servers, tiny events, two services in one process. */
import type { EventContract, ServiceContract } from '@armature/proto/contract.ts';
import { createDatabase, createVhost, type Teardown, type TestVirtualHost } from '../../../test/support/infra.ts';
import { Migration20261101000003_decisions } from '../authz/decision-migration.ts';
import { background } from '../context/background.ts';
import type { Interceptor } from '../context/call-context.ts';
import { type Database, openDatabase } from '../db/database.ts';
import { migrate } from '../db/migrate.ts';
import type { BaselineHandler } from '../messaging/baseline.ts';
import { Migration20261127400000_baseline_range } from '../messaging/baseline-migration.ts';
import { type Broker, openBroker } from '../messaging/connection.ts';
import { type Consumer, type RunningConsumers, startConsumers } from '../messaging/consumer.ts';
import { Migration20261101000001_messaging } from '../messaging/migration.ts';
import { Migration20261127100000_event_order } from '../messaging/order-migration.ts';
import { emit, outbox } from '../messaging/outbox.ts';
import { type Relay, type RelayOptions, startRelay } from '../messaging/relay.ts';
import type { StreamLimits } from '../messaging/stream-work.ts';
import { Migration20261124000000_operators } from '../ops/operator-migration.ts';
import { createLogger, type Logger } from '../telemetry/log.ts';
import { Registry } from '../telemetry/metrics.ts';

/** The events of the tests: a counter's id, a number, and the time of writing. */
export interface Ticked {
  id: string;
  number: number;
  atMs: number;
}

export function event(source: string, aggregate: string, name: string): EventContract<Ticked> {
  return {
    type: `test.${source}.v1.${name}`,
    source,
    aggregate,
    routingKey: `${source}.${aggregate}.${name}`,
    permission: `${source}.publish`,
    message: {
      encode: (message) => ({ finish: () => Buffer.from(JSON.stringify(message)) }),
      decode: (bytes) => JSON.parse(Buffer.from(bytes).toString()),
      fromPartial: (value) => value,
      fromJSON: (value) => value as Ticked,
      toJSON: (message) => message,
    },
    aggregateId: (message) => message.id,
  };
}

export const ticked = event('orders', 'order', 'Ticked');
export const ignored = event('orders', 'order', 'Ignored');
export const unheard = event('orders', 'unheard', 'Unheard');

export function contract(name: string, consumes: readonly EventContract[]): ServiceContract {
  return { name, domain: `${name}.armature.local`, methods: {}, consumes, serviceConfig: {} };
}

const log = createLogger('test', 'silent');
export const allowAll = (): Interceptor => (next) => next;
/** Short delays, so that a test of five attempts takes a second. */
export const quick: Partial<StreamLimits> = { retryDelaysMs: [50, 100, 200], earlyWaitMs: 200, handleTimeoutMs: 5_000 };

export interface Producer {
  db: Database;
  /** The URL for the service's own account of the schema. */
  databaseUrl: string;
  broker: Broker;
  registry: Registry;
  relay: Relay;
  /** Writes the aggregate's next events in one transaction. Wakes the relay only when requested. */
  emit(id: string, numbers: readonly number[], of?: EventContract<Ticked>): Promise<void>;
  startRelay(options?: Partial<RelayOptions>): Relay;
}

export interface Testbed {
  vhost: TestVirtualHost;
  /** A producer, by default the service orders. */
  producer(options?: Partial<RelayOptions> & { url?: string }): Promise<Producer>;
  consumer(options: ConsumerSetup): Promise<RunningConsumer>;
}

export interface ConsumerSetup {
  consumers: readonly Consumer[];
  /** By default they declare exactly the events of `consumers`. */
  contracts?: readonly ServiceContract[];
  limits?: Partial<StreamLimits>;
  authorize?: () => Interceptor;
  baselines?: readonly BaselineHandler[];
  policyLoaded?: () => boolean;
  /** Whether to wait until the queues are consumed; true by default. */
  waits?: boolean;
  log?: Logger;
  url?: string;
  /** To continue with the schema of an earlier consumer. */
  on?: Pick<RunningConsumer, 'db' | 'databaseUrl'>;
}

export interface RunningConsumer {
  db: Database;
  databaseUrl: string;
  broker: Broker;
  registry: Registry;
  running: RunningConsumers;
}

/** Its own broker and a schema per service, all deleted when the test ends. */
export async function openTestbed(t: Teardown): Promise<Testbed> {
  const vhost = await createVhost(t, ['orders', 'notifications', 'inventory']);
  return {
    vhost,
    async producer(options = {}) {
      const registry = new Registry();
      const service = options.service ?? 'orders';
      const broker = openBroker({ url: options.url ?? vhost.url(service), service, log, registry });
      t.teardown(() => broker.close());
      let relay: Relay | null = null;
      const { db, databaseUrl } = await schema(t, service, registry, () => relay?.wake());
      const open = background(service, log);
      const next = new Map<string, bigint>();
      const producer = {
        db,
        databaseUrl,
        broker,
        registry,
        async emit(id: string, numbers: readonly number[], of: EventContract<Ticked> = ticked) {
          const call = open('emit', 10_000);
          await db.transaction(call, async (tx) => {
            let sequence = next.get(`${of.aggregate}/${id}`) ?? 0n;
            for (const number of numbers) {
              sequence += 1n;
              emit(tx, of, { id, number, atMs: Date.now() }, sequence);
            }
            next.set(`${of.aggregate}/${id}`, sequence);
          });
          call.close();
        },
        startRelay(more: Partial<RelayOptions> = {}) {
          const started = startRelay({
            db,
            broker,
            service,
            log,
            registry: new Registry(),
            pollMs: 50,
            ...more,
          });
          relay = started;
          t.teardown(() => started.stop());
          return started;
        },
      };
      return { ...producer, relay: producer.startRelay({ ...options, registry }) };
    },
    async consumer({ consumers, contracts, limits = {}, authorize = allowAll, url, on, waits = true, ...more }) {
      const registry = new Registry();
      const brokerUrl = url ?? vhost.url('notifications');
      const broker = openBroker({ url: brokerUrl, service: 'notifications', log: more.log ?? log, registry });
      t.teardown(() => broker.close());
      const { db, databaseUrl } = on ?? (await schema(t, 'notifications', registry));
      const running = startConsumers({
        service: 'notifications',
        consumers,
        contracts: contracts ?? [
          contract(
            'notifications',
            consumers.map((one) => one.event),
          ),
        ],
        db,
        broker,
        log,
        registry,
        interceptors: [],
        authorize,
        published: [ticked, ignored, unheard],
        ...more,
        limits: { ...quick, ...limits },
      });
      t.teardown(() => running.stop());
      if (waits) await running.started;
      return { db, databaseUrl, broker, registry, running };
    },
  };
}

/** A migrated schema with an `effect` table, where handlers of tests write their effects. */
async function schema(
  t: Teardown,
  service: string,
  registry: Registry,
  onEmitted?: () => void,
): Promise<{ db: Database; databaseUrl: string }> {
  const database = await createDatabase(t, service);
  await migrate(database.migratorUrl, [
    Migration20261101000001_messaging,
    Migration20261101000003_decisions,
    Migration20261124000000_operators,
    Migration20261127100000_event_order,
    Migration20261127400000_baseline_range,
  ]);
  await database.migrated();
  const admin = await openDatabase({ url: database.adminUrl, log, registry: new Registry() });
  await admin.write(null, (sql) =>
    sql.execute(
      `create table effect (position bigint auto_increment primary key, id varchar(64) not null, number int not null,
         written_us bigint not null)`,
    ),
  );
  await admin.close();
  const db = await openDatabase({ url: database.url, log, registry, participants: [outbox(onEmitted)], poolMax: 12 });
  t.teardown(() => db.close());
  return { db, databaseUrl: database.url };
}

/** Waits until `look` returns a value; fails with the last result. */
export async function eventually<T>(
  look: () => Promise<T | null | undefined | false>,
  what: string,
  ms = 15_000,
): Promise<T> {
  const until = Date.now() + ms;
  for (;;) {
    const found = await look();
    if (found) return found;
    if (Date.now() > until) throw new Error(`${what}: not within ${ms} ms`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
