/**
 * Exchanges and queues, and who declares them.
 *
 *   armature.events (topic)                     every event of every service, by routing key
 *     └─ <service>.<source>.<aggregate>         one quorum queue per consumer, bound to <source>.<aggregate>.*
 *                                               and, for baselines, to <source>.<aggregate>.baseline.<service>
 *          └─ <queue>.live (fanout)             tells relays that the queue is bound
 *   <service>.retry (topic) → <service>.retry.<delay>ms → <service>.return (topic) → back to the queue
 *   <service>.dead  (fanout) → <service>.dead   what a queue gave up on after too many deliveries
 *
 * A consumer binds ALL events of an aggregate, also those it does not handle, because only then its
 * sequence has no gaps and a missing event can be told from one that is not for us.
 *
 * Everything a consumer declares begins with its own name, so that a broker user needs no rights beyond
 * `^<service>\.` and writing to armature.events. Retries go through an exchange of the service rather than
 * the default exchange, which would let any account write to any queue.
 */
import type { EventContract } from '@armature/proto/contract.ts';
import type { ConfirmChannel } from 'amqplib';

export const eventsExchange = 'armature.events';
export const retryExchange = (service: string): string => `${service}.retry`;
export const returnExchange = (service: string): string => `${service}.return`;
export const deadQueue = (service: string): string => `${service}.dead`;

/** The queue for every event of one aggregate of one service to one consuming service. */
export const eventQueue = (service: string, source: string, aggregate: string): string =>
  `${service}.${source}.${aggregate}`;

/**
 * Declared after the queue is bound: when it exists, no event misses the queue. The queue is bound to it as well, so
 * that the broker deletes it together with the queue and its bindings.
 */
export const boundMarker = (queue: string): string => `${queue}.live`;

/** The marker of an earlier release, which remained when the queue was deleted. */
export const formerMarker = (queue: string): string => `${queue}.bound`;

/** The routing key of a baseline to one consumer: no event's routing key has four parts, so no other queue gets it. */
export const baselineRoutingKey = (source: string, aggregate: string, consumer: string): string =>
  `${source}.${aggregate}.baseline.${consumer}`;

/** The routing key of a message that waits before it returns to `queue`. */
export const retryRoutingKey = (delayMs: number, queue: string): string => `${delayMs}.${queue}`;

/** Delays of retries, each longer than the one before; after the last one a message becomes a dead letter. */
export const retryDelaysMs: readonly number[] = [1_000, 5_000, 30_000, 120_000, 600_000];

/**
 * Deliveries after which the broker itself dead-letters a message. This covers a message that ends the process before
 * the process can count the attempt. A lost connection counts as a delivery, and neighbours in the prefetch window are
 * counted too, so the limit is high.
 */
const deliveryLimit = 100;
/** Most messages in a queue; refused events stay in the producer's outbox. */
const queueLengthMax = 1_000_000;

/** A queue that a service consumes according to its contract. */
export interface ExpectedQueue {
  readonly aggregate: string;
  readonly queue: string;
}

/** A subscription: `service` consumes events of this aggregate of `source`. */
export interface Subscription {
  readonly service: string;
  readonly source: string;
  readonly aggregate: string;
}

/** The queues to which `source` publishes for its consumers. */
export function expectedQueues(source: string, subscriptions: readonly Subscription[]): ExpectedQueue[] {
  return subscriptions
    .filter((subscription) => subscription.source === source)
    .map(({ service, aggregate }) => ({ aggregate, queue: eventQueue(service, source, aggregate) }));
}

/** The event's name without its package, as a short label. */
export const shortType = (type: string): string => type.slice(type.lastIndexOf('.') + 1);

/** Events grouped by the queue that carries them. */
export function groupByQueue(service: string, events: readonly EventContract[]): Map<string, EventContract[]> {
  return Map.groupBy(events, (event) => eventQueue(service, event.source, event.aggregate));
}

const quorum = (more: Record<string, unknown>) => ({
  durable: true,
  arguments: { 'x-queue-type': 'quorum', ...more },
});

// A dead-lettered message is kept until its next queue has confirmed it.
const deadLetterSafely = (exchange: string) => ({
  'x-dead-letter-exchange': exchange,
  'x-dead-letter-strategy': 'at-least-once',
  'x-overflow': 'reject-publish',
});

/** Declares the exchange of all events if it is missing. */
export async function declareEvents(channel: ConfirmChannel): Promise<void> {
  await channel.assertExchange(eventsExchange, 'topic', { durable: true });
}

/** Declares what all queues of a consuming service share: the retry queues and the dead queue. */
export async function declareService(
  channel: ConfirmChannel,
  service: string,
  delaysMs: readonly number[],
): Promise<void> {
  await channel.assertExchange(retryExchange(service), 'topic', { durable: true });
  await channel.assertExchange(returnExchange(service), 'topic', { durable: true });
  await channel.assertExchange(deadQueue(service), 'fanout', { durable: true });
  await channel.assertQueue(
    deadQueue(service),
    quorum({ 'x-delivery-limit': 1_000_000, 'x-max-length': queueLengthMax }),
  );
  await channel.bindQueue(deadQueue(service), deadQueue(service), '');
  for (const delayMs of delaysMs) {
    // One queue per delay: a queue expires from its head, so messages of one queue must wait equally long.
    const queue = `${service}.retry.${delayMs}ms`;
    const limits = { 'x-message-ttl': delayMs, 'x-max-length': queueLengthMax };
    await channel.assertQueue(queue, quorum({ ...limits, ...deadLetterSafely(returnExchange(service)) }));
    await channel.bindQueue(queue, retryExchange(service), `${delayMs}.#`);
  }
}

/** Declares one consumer queue and its bindings. Everything here may be repeated. */
export async function declareEventQueue(
  channel: ConfirmChannel,
  service: string,
  source: string,
  aggregate: string,
): Promise<void> {
  const queue = eventQueue(service, source, aggregate);
  await channel.assertQueue(
    queue,
    quorum({
      'x-single-active-consumer': true,
      'x-delivery-limit': deliveryLimit,
      'x-max-length': queueLengthMax,
      ...deadLetterSafely(deadQueue(service)),
    }),
  );
  await channel.bindQueue(queue, returnExchange(service), `*.${queue}`);
  await channel.bindQueue(queue, eventsExchange, `${source}.${aggregate}.*`);
  await channel.bindQueue(queue, eventsExchange, baselineRoutingKey(source, aggregate, service));
  await channel.assertExchange(boundMarker(queue), 'fanout', { durable: true, autoDelete: true });
  await channel.bindQueue(queue, boundMarker(queue), '');
  await channel.deleteExchange(formerMarker(queue));
}
