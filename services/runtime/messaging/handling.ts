import type { EventContract } from '@armature/proto/contract.ts';
import type { Baseline } from '@armature/proto/runtime/v1/baseline.ts';
import { type CallContext, DeadlineError } from '../context/call-context.ts';
import { deadlineExceeded, RpcError } from '../errors/errors.ts';
import { crashPoint } from '../sync/crash-point.ts';
import { untilAborted } from '../time/until-aborted.ts';
import { applyBaseline } from './baseline.ts';
import { deadLetterForeign, keepUnknown } from './dead-letter.ts';
import { acknowledge, type Delivery } from './delivery.ts';
import { fail } from './failure.ts';
import { assertDuplicate, noteMessage, type Step, skipMessages, stepMissed, stepSequence } from './inbox.ts';
import type { TaskResult } from './keyed-executor.ts';
import { reasonOf } from './retry.ts';
import { ackDelivery, asCall, type EventHandler, facts, type StreamWork } from './stream-work.ts';

/** Handles one event in its turn, and decides what happens with it after any error. Never rejects. */
export async function handleEvent(on: StreamWork, handler: EventHandler, delivery: Delivery): Promise<TaskResult> {
  const about = { name: delivery.type, event: handler.event };
  try {
    const step = await asCall(on, delivery, about, (call) => applyEvent(on, handler, delivery, call));
    if (step === 'next') crashPoint('consumer.committed');
    return ackDelivery(on, delivery, step, 'handled');
  } catch (error) {
    return fail(on, delivery, error);
  }
}

/** Does everything for an event in one transaction: inbox, sequence, effect. */
function applyEvent(on: StreamWork, handler: EventHandler, delivery: Delivery, call: CallContext): Promise<Step> {
  call.message = decode(handler.event, delivery.message.content);
  assertSameAggregate(handler.event, call.message, delivery.aggregateId);
  crashPoint('consumer.before-effect');
  const applied = handler.run(call, async (tx) => {
    const step = await stepSequence(tx, on.stream, delivery, 'applied');
    if (step === 'early' || step === 'superseded') return step;
    const outcome = step === 'missed' ? await stepMissed(tx, on.stream, delivery, handler.orderIndependent) : 'applied';
    if (step === 'duplicate' || !(await noteMessage(tx, on.stream, delivery, outcome))) {
      await assertDuplicate(tx, on.stream, delivery);
      return 'duplicate';
    }
    if (outcome === 'skipped') return 'superseded';
    await untilDeadline(handler.handle(call.message, call, tx), call.signal);
    return 'next';
  });
  return untilDeadline(applied, call.signal);
}

/** Moves an aggregate's sequence forward to a baseline of its owner. Never rejects. */
export async function handleBaseline(on: StreamWork, delivery: Delivery): Promise<TaskResult> {
  const { baselines, stream } = on;
  const about = { name: delivery.type, event: baselines.contract };
  try {
    const step = await asCall(on, delivery, about, (call) => {
      const baseline = decode(baselines.contract, delivery.message.content) as Baseline;
      assertSameAggregate(baselines.contract, baseline, delivery.aggregateId);
      call.message = baseline;
      const applied = baselines.run(call, (tx) =>
        untilDeadline(applyBaseline(tx, call, stream, baseline, baselines.handlers), call.signal),
      );
      return untilDeadline(applied, call.signal);
    });
    on.metrics.baselines.inc({ outcome: step === 'next' ? 'moved' : 'behind' });
    if (step === 'next') on.early.inTurn(stream.consumer, delivery.aggregateId);
    acknowledge(delivery, on.log);
    return 'done';
  } catch (error) {
    return fail(on, delivery, error);
  }
}

/**
 * Steps over events that this service does not handle, many in one transaction. When that fails, each is tried alone,
 * and one that fails alone loses an attempt. Never rejects.
 */
export async function skipEvents(on: StreamWork, deliveries: readonly Delivery[]): Promise<TaskResult[]> {
  const about = { name: `skip ${on.stream.consumer}`, event: null };
  const isUnknown = (delivery: Delivery) => on.known(delivery.type) === 'unknown';
  try {
    const { steps, unknown, conflicts } = await asCall(on, deliveries[0]!, about, (call) =>
      on.db.transaction(call, async (tx) => {
        const found = await skipMessages(tx, on.stream, deliveries, isUnknown);
        if (found.unknown.length > 0) await keepUnknown(tx, on.stream.consumer, found.unknown);
        for (const [delivery, conflict] of found.conflicts)
          await deadLetterForeign(tx, on.stream.consumer, delivery, reasonOf(conflict));
        return found;
      }),
    );
    on.metrics.unknown.inc(unknown.length);
    return deliveries.map((delivery, index) => {
      const conflict = conflicts.get(delivery);
      if (!conflict) return ackDelivery(on, delivery, steps[index]!, 'skipped');
      on.log.error({ ...facts(delivery), reason: reasonOf(conflict) }, 'event became a dead letter');
      return ackDelivery(on, delivery, 'next', 'deadLetters');
    });
  } catch (error) {
    if (await on.gate.closesFor(error)) return deliveries.map((one) => (one.session.open ? 'again' : 'done'));
    if (deliveries.length > 1) {
      // One of them may cause the failure; the others must not wait with it.
      on.log.warn({ err: error, queue: on.stream.consumer }, 'events not skipped together; each is tried alone');
      const results: TaskResult[] = [];
      for (const one of deliveries) results.push(...(await skipEvents(on, [one])));
      return results;
    }
    return [await fail(on, deliveries[0]!, error)];
  }
}

export function decode(event: EventContract, body: Buffer): unknown {
  try {
    return event.message.decode(body);
  } catch (error) {
    throw new RpcError('INVALID_ARGUMENT', 'MESSAGE_MALFORMED', `the body is not a ${event.type}`, { cause: error });
  }
}

/** Every field of a message may be missing on the wire, so an empty body would be an event without an aggregate. */
export function assertSameAggregate(event: EventContract, message: unknown, aggregateId: string): void {
  if (event.aggregateId(message) === aggregateId) return;
  throw new RpcError(
    'INVALID_ARGUMENT',
    'EVENT_MISMATCHED',
    `the body is about another ${event.aggregate} than the header aggregate-id, ${aggregateId}`,
  );
}

/**
 * Stops waiting when the deadline passes. Around a handler that never returns, this ends its transaction: its locks and
 * connection would otherwise block the message's next attempt, and in the end all work of the service. Around the
 * whole, the transaction may still commit; then the next attempt is a duplicate.
 */
const untilDeadline = <T>(work: Promise<T>, signal: AbortSignal): Promise<T> =>
  untilAborted(work, signal, (reason) => (reason instanceof DeadlineError ? deadlineExceeded() : reason));
