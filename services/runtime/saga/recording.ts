import type { Background } from '../context/background.ts';
import type { Database } from '../db/database.ts';
import type { Tx } from '../db/tx.ts';
import { crashPoint } from '../sync/crash-point.ts';
import { advance, type Branch, branchOf, type Input, isPastPivot, nextOf, type State } from './core.ts';
import {
  elapsedMs,
  isLocal,
  type Json,
  type LeasedSaga,
  type SagaDefinition,
  type SagaFacts,
  withoutSecrets,
} from './definition.ts';
import { about } from './history.ts';
import { partitionOf } from './partitions.ts';
import { readState } from './state-format.ts';
import { appendLog, type LogEntry, reload, statusOf, writeState } from './store.ts';

/** An input, and the result that the step returned. */
export interface Given {
  input: Input;
  result?: Json;
}

export interface Recorder {
  db: Database;
  background: Background;
  /** The id of the lease holder. */
  holder: string;
  leaseMs: number;
  /** 0 to 1, for jitter. */
  random: () => number;
}

/** One outcome to be recorded. */
export interface OutcomeToRecord {
  definition: SagaDefinition;
  /** Its state, results, version and lease are updated. */
  saga: LeasedSaga;
  given: Given;
  /** Whether the local steps that come next run in the same transaction. */
  merge: boolean;
  /** Whether the lease is kept for commands that are due at once in this state; otherwise it is released. */
  keep: (state: State) => boolean;
}

export type RecordingResult =
  | {
      /**
       * kept: recorded, and the next command is due at once. released: recorded, now or before; the lease is released,
       * since the saga has ended, rests or waits. lost: another worker has the lease, nothing is written.
       */
      readonly kind: 'kept' | 'released' | 'lost';
    }
  /** Nothing is written: the database was unreachable, or the effect of the outcome could not be written. */
  | { readonly kind: 'failed'; readonly error: unknown };

/** Thrown through the transaction, so that writes with a stale lease or state are rolled back. */
class StaleLeaseError extends Error {
  override name = 'StaleLeaseError';
}

const recordTimeoutMs = 10_000;
const reloadsMax = 10;

/**
 * Applies outcomes and records each with its effect in the domain. The results are in the order of the items, which are
 * of different sagas. Items are independent: an exception, a lost lease or a changed state of one does not affect the
 * others. Never rejects.
 *
 * The row of a saga is written last, after the rows of the domain, and is the fence: when the lease is lost, everything
 * is rolled back. When only the state has changed, by a cancel request, the input is applied to the new state.
 */
export function record(recorder: Recorder, items: readonly OutcomeToRecord[]): Promise<RecordingResult[]> {
  return Promise.all(
    items.map((item) => recordOne(recorder, item).catch((error: unknown) => ({ kind: 'failed', error }) as const)),
  );
}

async function recordOne(recorder: Recorder, item: OutcomeToRecord): Promise<RecordingResult> {
  const { definition, saga } = item;
  for (let reloads = 0; reloads < reloadsMax; reloads += 1) {
    const call = recorder.background(`saga ${definition.name} record`, recordTimeoutMs, saga);
    try {
      const since = performance.now();
      const written = await recorder.db.transaction(call, (tx) => write(tx, recorder, item));
      crashPoint('saga.recorded');
      if (!written) return { kind: 'kept' };
      saga.state = written.state;
      saga.results = written.results;
      saga.version = written.version;
      if (written.keepsLease) saga.leasedUntil = since + recorder.leaseMs;
      return { kind: written.keepsLease ? 'kept' : 'released' };
    } catch (error) {
      if (!(error instanceof StaleLeaseError)) throw error;
    } finally {
      call.close();
    }
    const now = await recorder.db.read(null, (sql) => reload(sql, saga));
    if (!now) return { kind: 'lost' };
    saga.state = readState(now.state, definition.core);
    saga.results = now.results;
    saga.version = now.version;
    // It was recorded before and only the response to the commit was lost.
    if (!now.leased) return { kind: 'released' };
  }
  throw new Error(`saga ${definition.name}: its state changed ${reloadsMax} times while one outcome was recorded`);
}

interface Written {
  state: State;
  results: Record<string, Json>;
  version: number;
  keepsLease: boolean;
}

async function write(tx: Tx, recorder: Recorder, item: OutcomeToRecord): Promise<Written | null> {
  const { definition, saga } = item;
  const { state, results, log } = await apply(tx, item);
  if (log.length === 0) return null;
  const next = nextOf(definition.core, state);
  const waitMs = next.kind === 'due' ? pauseMs(next.branches, nowOf(item)) : null;
  // Half of the pause is random, so that sagas that failed together do not retry together.
  const dueInMs = waitMs && waitMs * (0.5 + 0.5 * recorder.random());
  const keepsLease = dueInMs === 0 && item.keep(state);
  const version = saga.version + log.length;
  const written = await writeState(tx, saga, {
    ...{ state, results, version },
    status: statusOf(state, dueInMs !== null && dueInMs > 0),
    holder: keepsLease ? recorder.holder : null,
    dueInMs: keepsLease ? recorder.leaseMs : dueInMs,
    data: next.kind === 'finished' ? withoutSecrets(definition, saga.data) : null,
    partition: partitionOf(definition, state),
  });
  if (!written) throw new StaleLeaseError(`saga ${definition.name}: the lease or the state is not what it was`);
  await appendLog(tx, saga.sagaId, saga.version, log);
  return { state, results, version, keepsLease };
}

/** The time from which pauses count: that of a try that has just failed, or now. */
function nowOf({ given: { input }, saga }: OutcomeToRecord): number {
  return 'at' in input && input.at !== undefined ? input.at : elapsedMs(saga);
}

const pauseMs = (due: readonly Branch[], now: number): number =>
  Math.max(0, Math.min(...due.map(({ notBefore }) => notBefore)) - now);

/** Whether the saga's time limit has passed while it can still compensate. */
export function isOverdue(definition: SagaDefinition, { state, expiresAt }: LeasedSaga): boolean {
  if (state.end !== null || state.failure || isPastPivot(definition.core, state)) return false;
  return definition.timeLimitMs !== null && performance.now() >= expiresAt;
}

/** The input of a saga whose time limit has passed. */
export const expired: Input = { kind: 'abandon', cause: 'expired', reason: 'TIME_LIMIT', detail: '' };

/** Applies inputs one after another, with their effects in the domain. */
async function apply(tx: Tx, { definition, saga, given, merge }: OutcomeToRecord) {
  let state = saga.state;
  let results = saga.results;
  const log: LogEntry[] = [];
  const queue: Given[] = isOverdue(definition, saga) ? [{ input: expired }, given] : [given];
  for (;;) {
    const next = queue.shift() ?? (merge ? localStepDone(definition, state) : null);
    if (!next) break;
    const after = advance(definition.core, state, next.input);
    if (after === state) continue;
    log.push({ ...about(definition.core, state, next.input), input: next.input });
    results = await takeEffect(tx, { definition, saga, results, before: state }, next);
    state = after;
  }
  const end = nextOf(definition.core, state);
  if (end.kind === 'finished' && log.length > 0) await definition.finished?.(tx, factsOf(saga, results), end.result);
  return { state, results, log };
}

/** The input for a local step: recording it is doing it. */
export function localStepDone({ core }: SagaDefinition, state: State): Given | null {
  const next = nextOf(core, state);
  const [only] = next.kind === 'due' ? next.branches : [];
  if (only?.phase !== 'run' || !core.steps[only.step]?.local) return null;
  return { input: { kind: 'done', epoch: only.epoch } };
}

export function factsOf(saga: LeasedSaga, results: Readonly<Record<string, Json>>): SagaFacts {
  const { sagaId, subjectId, data } = saga;
  return { sagaId, subjectId, data, results };
}

interface Effect {
  definition: SagaDefinition;
  saga: LeasedSaga;
  results: Record<string, Json>;
  before: State;
}

async function takeEffect(tx: Tx, effect: Effect, { input, result = null }: Given): Promise<Record<string, Json>> {
  const { definition, saga, results, before } = effect;
  const branch = branchOf(before, input);
  const step = branch && definition.steps[branch.step];
  if (!step) return results;
  if (isLocal(step)) {
    if (input.kind === 'done') await step.record(tx, factsOf(saga, results));
    return results;
  }
  const { name, record } = step;
  if (input.kind === 'done') {
    const more = { ...results, [name]: result };
    await record?.(tx, factsOf(saga, more), { kind: 'done', result });
    return more;
  }
  if (input.kind === 'compensated') {
    const more = result === null ? results : { ...results, [name]: result };
    await record?.(tx, factsOf(saga, more), { kind: 'compensated', result, acted: !branch.absent });
    return more;
  }
  // A refusal after the pivot is not final: an operator will have it retried.
  if (input.kind === 'rejected' && !isPastPivot(definition.core, before)) {
    const { reason, detail } = input;
    await record?.(tx, factsOf(saga, results), { kind: 'rejected', reason, detail });
  }
  return results;
}
