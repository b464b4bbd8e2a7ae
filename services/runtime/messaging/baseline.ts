/**
 * Baselines, as a consumer handles them. The owner of an aggregate sends its current sequence. The consumer moves its
 * own sequence forward to it, never back, and continues with the events that follow. See docs/adr/0040.
 */
import type { Codec, EventContract } from '@armature/proto/contract.ts';
import { Baseline } from '@armature/proto/runtime/v1/baseline.ts';
import type { CallContext } from '../context/call-context.ts';
import type { Tx } from '../db/tx.ts';
import { RpcError } from '../errors/errors.ts';
import { baselineType } from './delivery.ts';
import { moveToBaseline, type Step, type Stream } from './inbox.ts';

/** How a service handles the state in a baseline of another service. */
export interface BaselineHandler {
  readonly source: string;
  readonly aggregate: string;
  readonly stateType: string;
  readonly decode: (bytes: Uint8Array) => unknown;
  // biome-ignore lint/suspicious/noExplicitAny: a list holds handlers of different states
  readonly handle: (state: any, call: CallContext, tx: Tx) => Promise<void>;
}

/**
 * Handles the state of an aggregate from its owner's baseline, in the transaction that moves the sequence. `handle`
 * replaces what this service stores of the aggregate, and may get the same state again. Of the events that the state
 * includes only order-independent ones are handled afterwards.
 */
export function onBaseline<S>(
  of: { source: string; aggregate: string; stateType: string; state: Codec<S> },
  handle: (state: S, call: CallContext, tx: Tx) => Promise<void>,
): BaselineHandler {
  const { source, aggregate, stateType, state } = of;
  return { source, aggregate, stateType, decode: (bytes) => state.decode(bytes), handle };
}

/** Makes a contract for baselines, so that their publisher is authorized like that of the aggregate's events. */
export function baselineContract(of: EventContract): EventContract<Baseline> {
  return {
    type: baselineType,
    source: of.source,
    aggregate: of.aggregate,
    routingKey: '',
    permission: of.permission,
    message: Baseline,
    aggregateId: (message) => message.aggregateId,
  };
}

/** Moves the sequence forward to the baseline, and passes the state to its handler when both exist. */
export async function applyBaseline(
  tx: Tx,
  call: CallContext,
  stream: Stream,
  { aggregate, aggregateId, sequence, historyAfter, stateType, state, historySkipped: skipped }: Baseline,
  handlers: readonly BaselineHandler[],
): Promise<Step> {
  if (aggregate !== stream.aggregate) {
    throw new RpcError(
      'INVALID_ARGUMENT',
      'EVENT_MISMATCHED',
      `a baseline of ${aggregate} in a queue of ${stream.aggregate}`,
    );
  }
  const handler = stateType === '' ? undefined : handlers.find((one) => one.stateType === stateType);
  const target = handler ? sequence : historyAfter;
  if (target <= 0n) return 'duplicate';
  const withState = handler !== undefined;
  const moved = await moveToBaseline(tx, stream, { aggregateId, sequence: target, withState, skipped });
  if (!moved) return 'duplicate';
  if (handler) await handler.handle(handler.decode(state), call, tx);
  return 'next';
}
