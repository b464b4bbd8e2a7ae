import { hash } from 'node:crypto';
import type { ConfirmChannel, ConsumeMessage } from 'amqplib';
import type { Database } from '../db/database.ts';
import type { Logger } from '../telemetry/log.ts';
import { backOff } from '../time/backoff.ts';
import { sleep } from '../time/sleep.ts';
import type { Broker } from './connection.ts';
import { countForeign, deadLetterForeign } from './dead-letter.ts';
import { acknowledge, type Delivery, readDelivery, type Session } from './delivery.ts';
import { quietly } from './managed-channel.ts';
import type { ConsumerMetrics } from './metrics.ts';
import { openSession, type RunningStream } from './stream.ts';
import { deadQueue, declareService } from './topology.ts';

export interface DeadQueueParts {
  service: string;
  db: Pick<Database, 'read' | 'write'>;
  broker: Broker;
  log: Logger;
  metrics: ConsumerMetrics;
  retryDelaysMs: readonly number[];
  topologyCheckMs: number;
  /** The service's streams, by their queue. */
  streams: ReadonlyMap<string, RunningStream>;
}

export interface RunningDeadQueue {
  /** The reason why the queue is not consumed now; null when it is. */
  fault(): string | null;
  stop(): Promise<void>;
}

/** Most foreign messages that are kept; further ones are only counted and logged. */
const foreignMax = 1_000;
/** How long a message is left for another version of the service, counted from its death. */
const leftToOthersMs = 10 * 60_000;
/** A larger body is stored as its digest: a publisher could otherwise fill the disk. */
const foreignBytesMax = 64 * 1024;
const keepBackoff = { initialBackoffMs: 100, maxBackoffMs: 5_000 };

/**
 * Turns messages that exceeded the delivery limit into dead letters of the stream they came from. A message that came
 * from no queue of this service becomes a dead letter of this queue, so that it does not block those behind it.
 */
export function consumeDead(parts: DeadQueueParts): RunningDeadQueue {
  const { broker, service, streams } = parts;
  const queue = deadQueue(service);
  const stopping = new AbortController();
  let consuming: Session | null = null;
  const subscription = broker.subscribe(queue, async (channel) => {
    await declareService(channel, service, parts.retryDelaysMs);
    await channel.prefetch(1);
    const check = checkTopology(parts, channel);
    const session = openSession(channel, () => clearInterval(check));
    await channel.consume(queue, (message) => {
      if (!message) return void quietly(channel.close());
      const stream = streams.get(deathOf(message).queue);
      if (stream) void stream.giveUpOn(session, message);
      else if (isOfAnotherVersion(service, message)) void leaveToOthers(parts, session, message, stopping.signal);
      else void keepForeign(parts, session, message, stopping.signal);
    });
    consuming = session;
  });
  return {
    fault: () => (consuming?.open ? null : (subscription.failure() ?? 'not consumed yet')),
    async stop() {
      stopping.abort();
      await subscription.release();
    },
  };
}

function checkTopology({ service, retryDelaysMs, topologyCheckMs, log }: DeadQueueParts, channel: ConfirmChannel) {
  return setInterval(() => {
    // An error of the broker closes the channel; setting up the next one reports the cause.
    declareService(channel, service, retryDelaysMs).catch((error: unknown) =>
      log.debug({ err: error }, 'retry and dead-letter queues not declared again'),
    );
  }, topologyCheckMs);
}

/** The queue whose delivery limit the message exceeded, and when (0 without a time). */
function deathOf(message: ConsumeMessage): { queue: string; atMs: number } {
  const deaths: unknown = message.properties.headers?.['x-death'];
  const death = Array.isArray(deaths) ? deaths.find((one) => one?.reason === 'delivery_limit') : undefined;
  return { queue: String(death?.queue ?? ''), atMs: Number(death?.time?.value ?? 0) * 1_000 };
}

/**
 * Whether the message recently exceeded the limit in a queue of this service that only another version of it consumes,
 * as during a deployment. The age of the death limits the wait, not the number of returns: a returned message goes to
 * the head of the queue, so with a limit for each message the messages behind several of them would wait for each in
 * turn.
 */
function isOfAnotherVersion(service: string, message: ConsumeMessage): boolean {
  const { queue, atMs } = deathOf(message);
  return queue.startsWith(`${service}.`) && Math.abs(Date.now() - atMs) < leftToOthersMs;
}

/** Returns the message after the first retry delay, so that a process that consumes its queue can receive it. */
async function leaveToOthers(
  { service, retryDelaysMs, log }: DeadQueueParts,
  session: Session,
  message: ConsumeMessage,
  stopping: AbortSignal,
): Promise<void> {
  log.debug({ queue: deadQueue(service), died_in: deathOf(message).queue }, 'left to another version of this service');
  await sleep(retryDelaysMs[0] ?? 0, stopping);
  if (session.open) session.channel.nack(message, false, true);
}

/** Stores a foreign message as a dead letter, as soon as the database accepts it. */
async function keepForeign(
  parts: DeadQueueParts,
  session: Session,
  message: ConsumeMessage,
  stopping: AbortSignal,
): Promise<void> {
  const { service, db, broker, log, metrics } = parts;
  const queue = deadQueue(service);
  const delivery = bounded({
    ...readDelivery(session, message, { source: '', user: broker.user }),
    fault: `not from a queue of ${service}`,
  });
  for (let failures = 0; session.open && !stopping.aborted; failures += 1) {
    try {
      const kept = (await db.read(null, (sql) => countForeign(sql, queue, foreignMax))) < foreignMax;
      const reason = `INVALID_ARGUMENT MESSAGE_FOREIGN: in the dead-letter queue, ${delivery.fault}`;
      if (kept) await db.write(null, (sql) => deadLetterForeign(sql, queue, delivery, reason));
      metrics.foreign.inc({ outcome: kept ? 'kept' : 'dropped' });
      log.error({ queue, message_id: delivery.messageId, publisher: delivery.publisher, kept }, 'foreign message');
      return acknowledge(delivery, log);
    } catch (error) {
      if (failures === 0) log.warn({ err: error, queue }, 'foreign message not kept yet');
      await backOff(failures + 1, keepBackoff, stopping);
    }
  }
}

function bounded(delivery: Delivery): Delivery {
  const { content } = delivery.message;
  if (content.length <= foreignBytesMax) return delivery;
  const digest = Buffer.from(`${content.length} bytes, SHA-256 ${hash('sha256', content, 'hex')}`);
  return { ...delivery, message: { ...delivery.message, content: digest } };
}
