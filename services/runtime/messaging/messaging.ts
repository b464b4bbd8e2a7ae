import type { Database } from '../db/database.ts';
import type { CommitParticipant } from '../db/tx.ts';
import type { Logger } from '../telemetry/log.ts';
import type { Registry } from '../telemetry/metrics.ts';
import { type BaselinePublisher, baselinePublisher } from './baseline-publisher.ts';
import { inboxKeptHours } from './conflict.ts';
import { openBroker } from './connection.ts';
import { type ConsumerOptions, type RunningConsumers, startConsumers } from './consumer.ts';
import { purgeInbox } from './inbox.ts';
import { outbox, purgeOutbox } from './outbox.ts';
import { type Relay, startRelay } from './relay.ts';
import { expectedQueues, type Subscription } from './topology.ts';
import { unknownRetention } from './unknown-retention.ts';

export { type BaselineHandler, onBaseline } from './baseline.ts';
export { type BaselineSource, tableBaselines } from './baseline-source.ts';
export { type Consumer, consume } from './consumer.ts';

export interface MessagingOptions {
  service: string;
  /** amqps://user:password@host:port/vhost?cacertfile=<file>, or amqp:// without TLS */
  url: string;
  log: Logger;
  registry: Registry;
  /**
   * Which service consumes which aggregate in the whole mesh. Events wait in the outbox for the queues of these
   * subscriptions.
   */
  subscriptions?: readonly Subscription[];
  /** How long a dead process blocks other processes of its service from publishing. */
  relayLeaseMs?: number;
}

export type MessagingStart = Pick<
  ConsumerOptions,
  'contracts' | 'consumers' | 'baselines' | 'interceptors' | 'authorize' | 'policyLoaded' | 'limits'
>;

/** The event side of a service: outbox, relay and consumers. */
export interface Messaging {
  /** For the database: writes what a transaction emitted. */
  /** Writes the events of transactions, and wakes the relay after the commit. */
  outbox: CommitParticipant;
  start(db: Database, parts: MessagingStart): void;
  /** Resolves once every queue that this service consumes is bound. */
  started(): Promise<void>;
  /** True when the broker is connected and accepts messages. */
  ready(): boolean;
  /**
   * What events wait for: "broker", or each queue that is not consumed, with the reason. Empty when all are consumed.
   */
  waitingFor(): string[];
  redrive: RunningConsumers['redrive'];
  checkRedrive: RunningConsumers['checkRedrive'];
  publishBaselines: BaselinePublisher['publish'];
  /** Deletes old rows in one bounded round; returns how many. */
  purge(db: Database): Promise<number>;
  /** Consumers finish and stop, the relay publishes what is pending, connections close. Takes 5 s at most. */
  stop(): Promise<void>;
}

const outboxKeptHours = 72;
const drainTimeoutMs = 1_000;

export function startMessaging(options: MessagingOptions): Messaging {
  const { service, url, log, registry } = options;
  const broker = openBroker({ url, service, log, registry });
  const forgetUnknown = unknownRetention({ log, registry });
  let relay: Relay | null = null;
  let consumers: RunningConsumers | null = null;
  const running = (): RunningConsumers => {
    if (!consumers) throw new Error(`messaging of ${service} has not started`);
    return consumers;
  };
  return {
    outbox: outbox(() => relay?.wake()),
    start(db, parts) {
      if (relay) throw new Error(`messaging of ${service} has started before`);
      consumers = startConsumers({ ...parts, service, db, broker, log, registry });
      const expected = expectedQueues(service, options.subscriptions ?? []);
      relay = startRelay({ db, broker, service, log, registry, expected, leaseMs: options.relayLeaseMs });
    },
    started: () => running().started,
    ready: () => broker.ready(),
    waitingFor: () => (broker.connected() ? (consumers?.faults() ?? ['consumers']) : ['broker']),
    redrive: (id) => running().redrive(id),
    checkRedrive: (id) => running().checkRedrive(id),
    publishBaselines: baselinePublisher({ service, broker }).publish,
    async purge(db) {
      const outbox = await db.write(null, (sql) => purgeOutbox(sql, outboxKeptHours));
      const inbox = await db.write(null, (sql) => purgeInbox(sql, inboxKeptHours, new Date()));
      return outbox + inbox + (await forgetUnknown(db));
    },
    async stop() {
      await consumers?.stop();
      if (relay?.leading()) await relay.drain(drainTimeoutMs);
      await relay?.stop();
      await broker.close();
    },
  };
}
