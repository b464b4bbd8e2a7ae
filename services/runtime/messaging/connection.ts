import type { ConfirmChannel } from 'amqplib';
import type { Logger } from '../telemetry/log.ts';
import { Gauge, type Registry } from '../telemetry/metrics.ts';
import type { BackoffPolicy } from '../time/backoff.ts';
import { type Link, openLink } from './link.ts';
import type { ManagedChannel } from './managed-channel.ts';
import { type Confirmed, type OutgoingMessage, openPublisher } from './publisher.ts';
import { boundMarker, declareEvents, eventsExchange, formerMarker } from './topology.ts';

export interface BrokerOptions {
  /** amqps://user:password@host:port/vhost?cacertfile=<file>, or amqp:// without TLS */
  url: string;
  service: string;
  log: Logger;
  registry: Registry;
  unconfirmedMax?: number;
  confirmTimeoutMs?: number;
  backoff?: BackoffPolicy;
}

/**
 * A client of the broker. Publishing and consuming have separate connections, so that a broker that blocks publishers
 * does not block acknowledgements. Both reconnect automatically.
 */
export interface Broker {
  /** The broker verifies that the user-id of published messages is this. */
  readonly user: string;
  /** True when both connections are up and publishing is not blocked. */
  ready(): boolean;
  /** True when both connections are up. */
  connected(): boolean;
  /**
   * The number of the publishing connection, counted from 1; 0 before the first. With a new connection, earlier
   * knowledge of the broker's state may be wrong.
   */
  generation(): number;
  /** Declares the exchange for events if it is missing. */
  declareEvents(): Promise<void>;
  /** True when `publish` may succeed now. */
  canPublish(): boolean;
  publish(message: OutgoingMessage): Promise<Confirmed>;
  /** Runs `setup` on a new channel of the consuming connection now and after every loss. */
  subscribe(name: string, setup: (channel: ConfirmChannel) => Promise<void>): ManagedChannel;
  /** Whether a consumer has declared this queue and bound it. Throws while the broker is away. */
  queueBound(queue: string): Promise<boolean>;
  /** Waits up to 2 s for unconfirmed messages, then closes both connections. */
  close(): Promise<void>;
}

export function openBroker(options: BrokerOptions): Broker {
  const { service, log, registry, unconfirmedMax = 2_000, confirmTimeoutMs = 10_000 } = options;
  const user = decodeURIComponent(new URL(options.url).username) || 'guest';
  const common = { url: options.url, log, backoff: options.backoff, prelude: makeSureOfEvents };
  let generation = 0;
  const prelude: typeof makeSureOfEvents = async (link) => {
    await makeSureOfEvents(link);
    generation += 1;
  };
  const publishing = openLink({ ...common, prelude, name: `${service} publish` });
  const consuming = openLink({ ...common, name: `${service} consume` });
  const publisher = openPublisher(publishing, user, { unconfirmedMax, confirmTimeoutMs });
  new Gauge({
    name: 'armature_broker_ready',
    help: '1 where the connection to the broker is up and not blocked',
    labelNames: ['connection'] as const,
    registers: [registry],
    collect() {
      this.set({ connection: 'publish' }, publisher.ready() ? 1 : 0);
      this.set({ connection: 'consume' }, consuming.connected() ? 1 : 0);
    },
  });
  return {
    user,
    ready: () => publisher.ready() && consuming.connected(),
    connected: () => publishing.connected() && consuming.connected(),
    generation: () => generation,
    declareEvents: () => makeSureOfEvents(publishing),
    canPublish: publisher.ready,
    publish: publisher.publish,
    subscribe: consuming.keepChannel,
    queueBound: (queue) => queueBound(publishing, queue),
    async close() {
      await publisher.close(2_000);
      await Promise.all([publishing.close(), consuming.close()]);
    },
  };
}

/**
 * Checks before it declares. A check needs no rights, so where operators declare the exchange, services need no right
 * to configure it.
 */
async function makeSureOfEvents(link: Pick<Link, 'withChannel'>): Promise<void> {
  if (await exists(link, (channel) => channel.checkExchange(eventsExchange))) return;
  await link.withChannel(declareEvents);
}

async function queueBound(link: Link, queue: string): Promise<boolean> {
  const marked = (marker: string) => exists(link, (channel) => channel.checkExchange(marker));
  if (!(await marked(boundMarker(queue))) && !(await marked(formerMarker(queue)))) return false;
  return exists(link, (channel) => channel.checkQueue(queue));
}

/** A passive declaration: the broker confirms it, or closes the channel with 404. */
async function exists(
  link: Pick<Link, 'withChannel'>,
  look: (channel: ConfirmChannel) => Promise<unknown>,
): Promise<boolean> {
  try {
    await link.withChannel(look);
    return true;
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 404) return false;
    throw error;
  }
}
