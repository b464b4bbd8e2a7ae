import type { Tx } from '../db/tx.ts';
import { backOff } from '../time/backoff.ts';
import { deadLetterForeign, deadLetterInTurn } from './dead-letter.ts';
import { acknowledge, type Delivery, isBaseline } from './delivery.ts';
import type { Step } from './inbox.ts';
import type { TaskResult } from './keyed-executor.ts';
import { isPermanent, postponed, reasonOf } from './retry.ts';
import { ackDelivery, asCall, facts, labelOf, type StreamWork } from './stream-work.ts';
import { declareService } from './topology.ts';

const retryBackoff = { initialBackoffMs: 50, maxBackoffMs: 5_000 };

/** Decides what happens with a delivery whose handling failed: it waits here, is retried, or becomes a dead letter. */
export async function fail(on: StreamWork, delivery: Delivery, error: unknown): Promise<TaskResult> {
  // Not acknowledged: the broker delivers it to the next consumer.
  if (on.stopping.aborted || !delivery.session.open) return 'done';
  if (await on.gate.closesFor(error)) return delivery.session.open ? 'again' : 'done';
  const reason = reasonOf(error);
  const delayMs = on.limits.retryDelaysMs[delivery.attempt - 1];
  if (isPermanent(error) || delayMs === undefined) return deadLetter(on, delivery, reason);
  on.metrics.retries.inc({ event: labelOf(on, delivery) });
  on.log.warn({ ...facts(delivery), reason, delay_ms: delayMs }, 'event is tried again later');
  await scheduleRetry(on, delivery, { delayMs, attempt: delivery.attempt + 1, waits: 0 });
  return 'done';
}

/** Makes the delivery a dead letter in its turn. A baseline has no turn. */
export async function deadLetter(on: StreamWork, delivery: Delivery, reason: string): Promise<TaskResult> {
  if (isBaseline(delivery)) return deadLetterOutOfTurn(on, delivery, reason);
  const step = await write(on, delivery, reason, (tx) => deadLetterInTurn(tx, on.stream, delivery, reason));
  if (step === 'again' || step === 'later') return step === 'again' ? 'again' : 'done';
  return ackDelivery(on, delivery, step, 'deadLetters');
}

/** Makes a dead letter of a message that is not an event of the source. */
export async function rejectForeign(on: StreamWork, delivery: Delivery): Promise<void> {
  const reason = `UNAUTHENTICATED: ${delivery.fault}`;
  while ((await deadLetterOutOfTurn(on, delivery, reason)) === 'again' && delivery.session.open) {
    await on.gate.whenOpen(on.stopping);
    if (on.stopping.aborted) return;
  }
}

async function deadLetterOutOfTurn(on: StreamWork, delivery: Delivery, reason: string): Promise<TaskResult> {
  const step = await write(on, delivery, reason, async (tx): Promise<Step> => {
    await deadLetterForeign(tx, on.stream.consumer, delivery, reason);
    return 'next';
  });
  if (step === 'again' || step === 'later') return step === 'again' ? 'again' : 'done';
  return ackDelivery(on, delivery, step, 'deadLetters');
}

/**
 * Writes a dead letter. `again`: consumption pauses. `later`: it could not be written now, and the message waits the
 * longest retry delay before the next try.
 */
async function write(
  on: StreamWork,
  delivery: Delivery,
  reason: string,
  work: (tx: Tx) => Promise<Step>,
): Promise<Step | 'again' | 'later'> {
  const about = { name: `dead letter ${on.stream.consumer}`, event: null };
  try {
    const step = await asCall(on, delivery, about, (call) => on.db.transaction(call, work));
    if (step === 'next') on.log.error({ ...facts(delivery), reason }, 'event became a dead letter');
    return step;
  } catch (error) {
    if (await on.gate.closesFor(error)) return delivery.session.open ? 'again' : 'later';
    on.log.error({ err: error, ...facts(delivery), reason }, 'dead letter not written; the event is tried again');
    const delayMs = on.limits.retryDelaysMs.at(-1)!;
    await scheduleRetry(on, delivery, { delayMs, attempt: delivery.attempt, waits: 0 });
    return 'later';
  }
}

/**
 * Lets an early delivery wait in a retry queue. That does not count as an attempt. The delays grow with the waiting
 * time.
 */
export function wait(on: StreamWork, delivery: Delivery): Promise<void> {
  const { retryDelaysMs } = on.limits;
  const delayMs = retryDelaysMs[Math.min(delivery.waits, 2, retryDelaysMs.length - 1)]!;
  const earlySinceMs = delivery.earlySinceMs || Date.now();
  return scheduleRetry(on, delivery, { delayMs, attempt: delivery.attempt, waits: delivery.waits + 1, earlySinceMs });
}

/** Publishes the message to a retry queue, then acknowledges it: a duplicate is possible, a loss is not. */
export async function scheduleRetry(
  on: StreamWork,
  delivery: Delivery,
  how: { delayMs: number; attempt: number; waits: number; earlySinceMs?: number },
): Promise<void> {
  const { broker, log, stream } = on;
  const copy = postponed(delivery, { service: on.service, queue: stream.consumer, ...how });
  for (let failures = 0; delivery.session.open && !on.stopping.aborted; failures += 1) {
    try {
      if ((await broker.publish(copy)) === 'routed') return acknowledge(delivery, log);
      const missing = { queue: stream.consumer, delay_ms: how.delayMs };
      if (failures === 0) log.error(missing, 'a retry queue is missing; all are declared again');
    } catch (error) {
      if (failures === 0) log.warn({ err: error, ...facts(delivery) }, 'event not handed to its retry queue yet');
    }
    await declareRetries(on, delivery);
    await backOff(failures + 1, retryBackoff, on.stopping);
  }
}

/** A missing exchange closes the channel without naming the exchange, so all are declared again. */
async function declareRetries({ service, limits, log }: StreamWork, { session }: Delivery): Promise<void> {
  if (!session.open) return;
  try {
    await declareService(session.channel, service, limits.retryDelaysMs);
  } catch (error) {
    // An error of the broker closes the channel; the next one reports the cause, and is not consumed until that is
    // repaired.
    log.debug({ err: error }, 'retry queues not declared');
  }
}
