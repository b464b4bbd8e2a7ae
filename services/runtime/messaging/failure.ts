import type { Tx } from '../db/tx.ts';
import { rest } from '../waiting.ts';
import { buryForeign, buryInTurn } from './dead-letter.ts';
import { acknowledge, type Delivery } from './delivery.ts';
import type { Step } from './inbox.ts';
import type { LaneAnswer } from './lanes.ts';
import { isPermanent, postponed, reasonOf } from './retry.ts';
import { asCall, facts, type StreamWork, settle } from './stream-work.ts';
import { shortType } from './topology.ts';

/** Decides what becomes of a delivery whose handling threw: another attempt, or a dead letter. */
export async function fail(on: StreamWork, delivery: Delivery, error: unknown): Promise<LaneAnswer> {
  // Not acknowledged: the broker gives it to whoever consumes next.
  if (on.stopping.aborted || !delivery.session.open) return 'done';
  const reason = reasonOf(error);
  const delayMs = on.limits.retryDelaysMs[delivery.attempt - 1];
  if (isPermanent(error) || delayMs === undefined) return bury(on, delivery, reason);
  on.metrics.retries.inc({ event: shortType(delivery.type) });
  on.log.warn({ ...facts(delivery), reason, delay_ms: delayMs }, 'event is tried again later');
  await putOff(on, delivery, { delayMs, attempt: delivery.attempt + 1, waits: 0 });
  return 'done';
}

/** Makes the delivery a dead letter when it is its turn. */
export async function bury(on: StreamWork, delivery: Delivery, reason: string): Promise<LaneAnswer> {
  const step = await setAside(on, delivery, reason, (tx) => buryInTurn(tx, on.stream, delivery, reason));
  return step === null ? 'done' : settle(on, delivery, step, 'deadLetters');
}

/** Makes a dead letter of what is not an event of the source at all. */
export async function refuse(on: StreamWork, delivery: Delivery): Promise<void> {
  const reason = `UNAUTHENTICATED: ${delivery.fault}`;
  const step = await setAside(on, delivery, reason, async (tx): Promise<Step> => {
    await buryForeign(tx, on.stream, delivery, reason);
    return 'next';
  });
  if (step !== null) settle(on, delivery, step, 'deadLetters');
}

/** Null: it could not be written now, and the message waits as long as messages can before it is tried again. */
async function setAside(
  on: StreamWork,
  delivery: Delivery,
  reason: string,
  work: (tx: Tx) => Promise<Step>,
): Promise<Step | null> {
  const about = { name: `dead letter ${on.stream.consumer}`, event: null };
  try {
    const step = await asCall(on, delivery, about, (call) => on.db.transaction(call, work));
    if (step === 'next') on.log.error({ ...facts(delivery), reason }, 'event became a dead letter');
    return step;
  } catch (error) {
    on.log.error({ err: error, ...facts(delivery), reason }, 'dead letter not written; the event is tried again');
    const delayMs = on.limits.retryDelaysMs.at(-1)!;
    await putOff(on, delivery, { delayMs, attempt: delivery.attempt, waits: 0 });
    return null;
  }
}

/** Lets an early delivery wait in a retry queue. That is no attempt. The longer it waits, the less often we ask. */
export function wait(on: StreamWork, delivery: Delivery): Promise<void> {
  const { retryDelaysMs } = on.limits;
  const delayMs = retryDelaysMs[Math.min(delivery.waits, 2, retryDelaysMs.length - 1)]!;
  return putOff(on, delivery, { delayMs, attempt: delivery.attempt, waits: delivery.waits + 1 });
}

/** Hands the message to a retry queue, then acknowledges it: rather twice than never. */
export async function putOff(
  on: StreamWork,
  delivery: Delivery,
  how: { delayMs: number; attempt: number; waits: number },
): Promise<void> {
  const { broker, log, stream } = on;
  const copy = postponed(delivery, { service: on.service, queue: stream.consumer, ...how });
  for (let failures = 0; delivery.session.open && !on.stopping.aborted; failures += 1) {
    try {
      if ((await broker.publish(copy)) === 'routed') return acknowledge(delivery, log);
      log.error({ queue: stream.consumer, delay_ms: how.delayMs }, 'a retry queue is missing; all are declared again');
      await delivery.session.channel.close();
    } catch (error) {
      log.warn({ err: error, ...facts(delivery) }, 'event not handed to its retry queue yet');
      await rest(Math.min(5_000, 50 * 2 ** failures) * (0.5 + Math.random() / 2), on.stopping);
    }
  }
}
