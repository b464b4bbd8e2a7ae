import type { EventContract } from '@armature/proto/contract.ts';
import { crashPoint } from '../crash-point.ts';
import { type Call, DeadlineError } from '../rpc/call.ts';
import { deadlineExceeded, RpcError } from '../rpc/errors.ts';
import type { Delivery } from './delivery.ts';
import { fail, putOff } from './failure.ts';
import { noteMessage, type Step, skipMessages, stepSequence } from './inbox.ts';
import type { LaneAnswer } from './lanes.ts';
import { asCall, type EventHandler, type StreamWork, settle } from './stream-work.ts';

/** Handles one event in its turn, and settles it whatever happens. Never rejects. */
export async function handleEvent(on: StreamWork, handler: EventHandler, delivery: Delivery): Promise<LaneAnswer> {
  const about = { name: delivery.type, event: handler.event };
  try {
    const step = await asCall(on, delivery, about, (call) => applyEvent(on, handler, delivery, call));
    if (step === 'next') crashPoint('consumer.committed');
    return settle(on, delivery, step, 'handled');
  } catch (error) {
    return fail(on, delivery, error);
  }
}

/** Everything that belongs to an event, in one transaction: inbox, sequence, effect. */
function applyEvent(on: StreamWork, handler: EventHandler, delivery: Delivery, call: Call): Promise<Step> {
  call.message = decode(handler.event, delivery.message.content);
  crashPoint('consumer.before-effect');
  const applied = handler.run(call, async (tx) => {
    const step = await stepSequence(tx, on.stream, delivery);
    if (step !== 'next') return step;
    if (!(await noteMessage(tx, on.stream, delivery, 'applied'))) return 'duplicate';
    await untilAborted(handler.handle(call.message, call, tx), call.signal);
    return 'next';
  });
  return untilAborted(applied, call.signal);
}

/** Steps over events that this service does not handle, many in one transaction. Never rejects. */
export async function skipEvents(on: StreamWork, deliveries: readonly Delivery[]): Promise<LaneAnswer[]> {
  const about = { name: `skip ${on.stream.consumer}`, event: null };
  try {
    const steps = await asCall(on, deliveries[0]!, about, (call) =>
      on.db.transaction(call, (tx) => skipMessages(tx, on.stream, deliveries)),
    );
    return deliveries.map((delivery, index) => settle(on, delivery, steps[index]!, 'skipped'));
  } catch (error) {
    on.log.warn({ err: error, queue: on.stream.consumer }, 'events not skipped; they are tried again');
    const delayMs = on.limits.retryDelaysMs[0]!;
    await Promise.all(deliveries.map((one) => putOff(on, one, { delayMs, attempt: one.attempt, waits: 0 })));
    return deliveries.map(() => 'done');
  }
}

export function decode(event: EventContract, body: Buffer): unknown {
  try {
    return event.message.decode(body);
  } catch (error) {
    throw new RpcError('INVALID_ARGUMENT', 'MESSAGE_MALFORMED', `the body is not a ${event.type}`, { cause: error });
  }
}

/**
 * Stops waiting when the deadline passes. Around a handler that never returns, this ends its transaction: the locks
 * and the connection of a handler that hangs would otherwise be kept from the message's next attempt, and in the end
 * from everybody. Around the whole, the transaction may still commit; then the next attempt is a duplicate.
 */
function untilAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason instanceof DeadlineError ? deadlineExceeded() : signal.reason);
    signal.addEventListener('abort', abort, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort));
  });
}
