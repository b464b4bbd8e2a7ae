import type { Tx } from '../db/tx.ts';
import { advance, begin, type Input, isPastPivot, nextOf, type State } from './core.ts';
import { type SagaDefinition, withoutSecrets } from './definition.ts';
import { sagaVersionUnknown } from './errors.ts';
import { about } from './history.ts';
import { partitionOf } from './partitions.ts';
import { readState } from './state-format.ts';
import { insertSaga, lockById, lockBySubject, removeDeadline, type SagaRow, writeLocked } from './store.ts';

/**
 * Starts a saga in the caller's transaction: it runs once that commits, and never if it does not. A saga has one
 * subject, such as an order, and a subject has one saga of a name: a second one is a duplicate-key error. A worker in
 * this process takes the saga over without a query, unless all of its slots are used.
 */
export async function startSaga<Data>(
  tx: Tx,
  definition: SagaDefinition<Data>,
  start: { sagaId: string; subjectId: string; data: Data; traceparent?: string },
): Promise<void> {
  const { sagaId, subjectId, traceparent = null } = start;
  const data = JSON.stringify(start.data);
  const state = begin(definition.core);
  const partition = partitionOf(definition, state);
  const startedAt = performance.now();
  const { timeLimitMs } = definition;
  let taker: { lease: { holder: string; leaseMs: number }; adopt: () => void } | null = null;
  for (const worker of definition.workers) {
    const lease: { holder: string; leaseMs: number } | null = taker ? null : worker.offer(definition);
    if (!lease) continue;
    const leased = {
      ...{ sagaId, subjectId, traceparent, state, startedAt },
      // As any other worker would read it: values that JSON drops must be missing the first time too.
      data: JSON.parse(data) as unknown,
      token: 1n,
      results: {},
      version: 0,
      leasedUntil: startedAt + lease.leaseMs,
      expiresAt: timeLimitMs === null ? Number.POSITIVE_INFINITY : startedAt + timeLimitMs,
    };
    taker = { lease, adopt: () => worker.adopt(definition, leased) };
  }
  const lease = taker?.lease ?? null;
  await insertSaga(tx, { sagaId, partition, subjectId, state, data, timeLimitMs, traceparent, lease });
  tx.afterCommit(taker ? taker.adopt : () => wake(definition));
}

/** The result of a cancel request. */
export type CancelResult = 'accepted' | 'too_late' | 'unknown_saga';

/**
 * Records in the caller's transaction that the saga of this subject must be undone. It is undone as soon as the outcome
 * of its current step is known. After the pivot it is not, and the result says so. `definitions` are all versions of
 * one saga that this process knows; the version that the saga was started with applies. Throws UNAVAILABLE when that
 * version is missing: another process, deployed earlier or later, can handle the request.
 *
 * The saga's row is locked from here to the commit. Lock rows of the domain first: the engine's transactions use that
 * order.
 */
export async function requestCancel(
  tx: Tx,
  definitions: SagaDefinition | readonly SagaDefinition[],
  subjectId: string,
  why: { reason: string; detail?: string } = { reason: 'CANCELLED' },
): Promise<CancelResult> {
  const known = Array.isArray(definitions) ? definitions : [definitions as SagaDefinition];
  const name = nameOf(known);
  const row = await lockBySubject(tx, name, subjectId);
  if (!row) return 'unknown_saga';
  const definition = known.find(({ version }) => version === row.definitionVersion);
  if (!definition) throw sagaVersionUnknown(row);
  const { reason, detail = '' } = why;
  const { state } = await change(tx, definition, row, { kind: 'abandon', cause: 'cancelled', reason, detail });
  return isPastPivot(definition.core, state) ? 'too_late' : 'accepted';
}

function nameOf(definitions: readonly SagaDefinition[]): string {
  const [first, ...others] = definitions;
  if (!first) throw new Error('requestCancel needs a definition');
  if (others.some(({ name }) => name !== first.name)) throw new Error('requestCancel takes versions of one saga');
  return first.name;
}

/** The result of an operator's command. */
export type OperatorResult = 'accepted' | 'not_possible' | 'unknown_saga';

/**
 * Resumes a stuck saga at its current steps. A step or compensation that was refused is called again under a new key,
 * since a refusal is final for the old one and had no effect.
 */
export async function resumeSaga(tx: Tx, definition: SagaDefinition, sagaId: string): Promise<OperatorResult> {
  return order(tx, definition, sagaId, { kind: 'resume' });
}

/**
 * Starts the compensation of a saga before its pivot, stuck or not. Nothing is compensated before the outcome of its
 * current step is known. After the pivot the request is refused: the saga can only go forward.
 */
export async function forceCompensate(
  tx: Tx,
  definition: SagaDefinition,
  sagaId: string,
  detail = '',
): Promise<OperatorResult> {
  return order(tx, definition, sagaId, { kind: 'abandon', cause: 'operator', reason: 'OPERATOR', detail });
}

/**
 * Restarts a saga that must complete and that an earlier release ended as failed, from its first step. Only for sagas
 * whose failed end has sent nothing: steps run under the keys that they would have had. Not possible for any other.
 */
export async function restartFailedSaga(
  tx: Tx,
  definitions: readonly SagaDefinition[],
  sagaId: string,
): Promise<OperatorResult> {
  const row = await lockById(tx, sagaId);
  const definition = definitions.find(({ name, version }) => name === row?.name && version === row.definitionVersion);
  if (!row || !definition) return 'unknown_saga';
  if (row.status !== 'FAILED') return 'not_possible';
  const { epoch } = readState(row.state, definition.core);
  const { changed } = await change(tx, definition, row, { kind: 'restart', after: epoch });
  if (!changed) return 'not_possible';
  // A process of the earlier release that leases it must not find it late again.
  await removeDeadline(tx, sagaId);
  return 'accepted';
}

async function order(tx: Tx, definition: SagaDefinition, sagaId: string, input: Input): Promise<OperatorResult> {
  const row = await lockById(tx, sagaId);
  if (row?.name !== definition.name || row.definitionVersion !== definition.version) return 'unknown_saga';
  return (await change(tx, definition, row, input)).changed ? 'accepted' : 'not_possible';
}

async function change(
  tx: Tx,
  definition: SagaDefinition,
  row: SagaRow,
  input: Input,
): Promise<{ state: State; changed: boolean }> {
  const before = readState(row.state, definition.core);
  const state = advance(definition.core, before, input);
  if (state === before) return { state, changed: false };
  const next = nextOf(definition.core, state);
  if (next.kind === 'finished') await definition.finished?.(tx, row, next.result);
  const data = next.kind === 'finished' ? withoutSecrets(definition, row.data) : null;
  const partition = partitionOf(definition, state);
  await writeLocked(tx, row, { state, data, partition }, { ...about(definition.core, before, input), input });
  tx.afterCommit(() => wake(definition));
  return { state, changed: true };
}

function wake(definition: SagaDefinition): void {
  for (const worker of definition.workers) worker.wake();
}
