/**
 * Runs one leased saga from step to step: selects a due command, calls it, records the outcome, and repeats. It stops
 * and gives up its slots when:
 *
 * | why | lease | who continues |
 * | --- | --- | --- |
 * | the saga has ended, or only an operator can continue it | ended | the operator, if any |
 * | the next try is later | released, due then | any worker |
 * | no slot for the next call | released, due at once or after `noSlotPauseMs` | a worker with a slot |
 * | the outcome cannot be recorded | released, due after the longest backoff | any worker, by a call under the same key |
 * | another worker has the lease | lost | that worker |
 * | the worker stops | released, due at once | another worker |
 */

import { type Code, RpcError } from '../errors/errors.ts';
import type { Logger } from '../telemetry/log.ts';
import { backoffMs } from '../time/backoff.ts';
import { sleep } from '../time/sleep.ts';
import { attempt } from './attempt.ts';
import { type Branch, type Input, nextOf, type State } from './core.ts';
import { defaultTimeoutMs, elapsedMs, isLocal, type LeasedSaga, type SagaDefinition } from './definition.ts';
import { endLease, releaseLease, renewLease } from './lease-store.ts';
import type { SagaMetrics } from './metrics.ts';
import { describe, failedAt, refusal } from './outcome.ts';
import { dependencyOf, isUrgent, partitionOf } from './partitions.ts';
import {
  expired,
  type Given,
  isOverdue,
  localStepDone,
  type Recorder,
  type RecordingResult,
  record,
} from './recording.ts';
import { type Place, type Slots, slotWaitMs } from './slots.ts';
import { statusOf } from './store.ts';

/** The lease must last this much longer than a call's timeout, because the process may be delayed after the call. */
export const slackMs = 1_000;
/** How long a saga with several dependencies waits in the database when none of them has a free slot. */
const noSlotPauseMs = 1_000;
const recordingBackoff = { initialBackoffMs: 50, maxBackoffMs: 1_000 };

export interface Worker {
  recorder: Recorder;
  metrics: SagaMetrics;
  log: Logger;
  slots: Slots;
  stopping: AbortSignal;
  /** Aborted when the worker stops waiting for calls in progress. */
  giveUp: AbortSignal;
  /** 0 to 1, for jitter. */
  random: () => number;
  /** Schedules a wake-up after so many milliseconds. */
  alarm(afterMs: number): void;
}

/** A saga in progress, with its slots. */
export interface Running {
  definition: SagaDefinition;
  saga: LeasedSaga;
  /** Its place among the sagas in progress. */
  seat: Place;
  /** The slot of the next call, when it was taken with the lease. */
  reserved: { dependency: string; place: Place } | null;
}

/** Runs the saga until one of the reasons above, and releases its slots. */
export async function drive(worker: Worker, running: Running): Promise<void> {
  try {
    await driveOn(worker, running);
  } finally {
    running.reserved?.place.release();
    running.seat.release();
  }
}

/** Releases the lease. The saga is due again after this delay, and waits in the partition of its state. */
export async function giveBack(
  { recorder }: Pick<Worker, 'recorder'>,
  { definition, saga }: Pick<Running, 'definition' | 'saga'>,
  afterMs: number,
): Promise<void> {
  await recorder.db.write(null, (sql) => releaseLease(sql, saga, afterMs, partitionOf(definition, saga.state)));
}

async function driveOn(worker: Worker, running: Running): Promise<void> {
  const { definition, saga } = running;
  for (;;) {
    if (worker.stopping.aborted) return giveBack(worker, running, 0);
    running.seat.urgent = isUrgent(definition, saga.state);
    const given = await nextOutcome(worker, running);
    if (given === 'rests')
      return worker.recorder.db.write(null, (sql) => endLease(sql, saga, statusOf(saga.state, false)));
    if (given === 'lost') return lost(worker, saga);
    if (given === 'no slot') {
      const mixed = partitionOf(definition, saga.state).dependency === '';
      return giveBack(worker, running, mixed ? noSlotPauseMs : 0);
    }
    const before = { version: saga.version, state: saga.state };
    const recorded = await recordOutcome(worker, running, given);
    if (recorded.kind === 'lost') return lost(worker, saga);
    if (saga.version !== before.version) observe(worker, running, before.state);
    if (recorded.kind === 'released') return;
    if (recorded.kind === 'failed') {
      worker.log.error({ saga: saga.sagaId, name: definition.name }, 'an outcome cannot be recorded; retried later');
      return giveBack(worker, running, definition.core.retry.maxBackoffMs);
    }
  }
}

/**
 * Runs a due command and returns its outcome. `rests`: no command is due without an operator, or ever. `lost`: another
 * worker has the lease. `no slot`: every due call must wait for a slot of its dependency.
 */
async function nextOutcome(worker: Worker, running: Running): Promise<Given | 'lost' | 'rests' | 'no slot'> {
  const { definition, saga } = running;
  const next = nextOf(definition.core, saga.state);
  if (next.kind !== 'due') return 'rests';
  // Checked before a new command begins; an outcome that arrives later is checked when it is recorded.
  if (isOverdue(definition, saga)) return { input: expired };
  const local = localStepDone(definition, saga.state);
  if (local) return local;
  const chosen = await chooseBranch(worker, running, next.branches);
  if (!chosen) return 'no slot';
  try {
    return await call(worker, running, chosen.branch);
  } finally {
    chosen.place?.release();
  }
}

/**
 * Selects the branch to run now, with a slot for its call: the one with the fewest tries of those whose dependency has
 * a free slot. When none has, and recent calls to the dependency of the first branch were short, it waits up to
 * `slotWaitMs` for a slot of that dependency. Returns null when there is still none.
 */
async function chooseBranch(
  worker: Worker,
  running: Running,
  due: readonly Branch[],
): Promise<{ branch: Branch; place: Place | null } | null> {
  const { definition, saga, seat, reserved } = running;
  running.reserved = null;
  const inOrder = inOrderOfTries(due, elapsedMs(saga));
  for (const branch of inOrder) {
    const dependency = dependencyOf(definition, branch.step);
    if (reserved?.dependency === dependency) return { branch, place: reserved.place };
    const pool = worker.slots.dependency(dependency);
    const place = pool?.take(seat.urgent) ?? null;
    if (pool && !place) continue;
    reserved?.place.release();
    return { branch, place };
  }
  reserved?.place.release();
  const [first] = inOrder;
  const pool = first && worker.slots.dependency(dependencyOf(definition, first.step));
  if (!first || !pool?.worthWaiting) return null;
  const place = await pool.wait(seat.urgent, slotWaitMs);
  if (place && worker.stopping.aborted) place.release();
  return place && !worker.stopping.aborted ? { branch: first, place } : null;
}

/**
 * Returns the due branches, those with the fewest tries first. When none is due by the clock of this process, returns
 * all, the earliest first: the saga was leased because one is due by the database's clock.
 */
function inOrderOfTries(branches: readonly Branch[], now: number): Branch[] {
  const due = branches.filter(({ notBefore }) => notBefore <= now);
  if (due.length > 0) return due.sort((one, other) => one.attempt - other.attempt);
  return [...branches].sort((one, other) => one.notBefore - other.notBefore);
}

/** Calls the step of a branch. */
async function call(worker: Worker, { definition, saga }: Running, branch: Branch): Promise<Given | 'lost'> {
  const step = definition.steps[branch.step];
  if (!step || isLocal(step)) throw new Error(`saga ${definition.name}: step ${branch.step} cannot be called`);
  if (!(await coverCall(worker, saga, (step.timeoutMs ?? defaultTimeoutMs) + slackMs))) return 'lost';
  const { metrics, recorder, log } = worker;
  const labels = { saga: definition.name, step: step.name, action: branch.phase };
  const end = metrics.stepSeconds.startTimer(labels);
  const parts = { background: recorder.background, giveUp: worker.giveUp };
  const given = await attempt(parts, definition, saga, step, branch);
  end();
  const { kind } = given.input;
  metrics.outcomes.inc({ ...labels, outcome: kind });
  if (kind === 'unknown' || kind === 'uncompensated') {
    const { detail } = given.input;
    log.warn({ ...labels, id: saga.sagaId, attempt: branch.attempt, detail }, 'the outcome of a step is not known');
  }
  return given;
}

/** Extends the lease when it would end within `ms`. Returns false when another worker has it. */
async function coverCall(worker: Worker, saga: LeasedSaga, ms: number): Promise<boolean> {
  const { db, leaseMs } = worker.recorder;
  if (saga.leasedUntil - performance.now() >= ms) return true;
  const since = performance.now();
  if (!(await db.write(null, (sql) => renewLease(sql, saga, leaseMs)))) return false;
  saga.leasedUntil = since + leaseMs;
  return true;
}

function lost({ metrics, log }: Worker, saga: LeasedSaga): void {
  metrics.leasesLost.inc();
  log.warn({ saga: saga.sagaId }, 'saga lease lost; another worker has taken over');
}

/** Whether to keep the lease after a recording: a command is due at once, and has a slot now or soon. */
function keepsLease(worker: Worker, { definition }: Running, state: State): boolean {
  if (worker.stopping.aborted) return false;
  if (localStepDone(definition, state)) return true;
  return state.branches.some(({ step, stuck }) => {
    const pool = stuck === null ? worker.slots.dependency(dependencyOf(definition, step)) : null;
    return stuck === null && (pool === null || pool.worthWaiting || pool.room(isUrgent(definition, state)) > 0);
  });
}

/**
 * Records an outcome, in up to three attempts:
 * 1. the outcome, with the local steps that follow, in one transaction;
 * 2. the outcome alone, since a local step may have failed;
 * 3. a try without a known outcome (see `withoutEffect`), since `record` of the step itself may have failed. The saga
 *    then queries the status, or tries again.
 * Each attempt is repeated while the database is unreachable or busy, until the lease ends.
 */
async function recordOutcome(worker: Worker, running: Running, given: Given): Promise<RecordingResult> {
  const { definition, saga } = running;
  const alone = localStepDone(definition, saga.state) !== null;
  const plans: ((error: unknown) => { given: Given; merge: boolean } | null)[] = [
    () => ({ given, merge: true }),
    () => (alone ? null : { given, merge: false }),
    (error) => withoutEffect(given.input, alone, { error, at: elapsedMs(saga) }),
  ];
  let last: RecordingResult = { kind: 'failed', error: undefined };
  for (const plan of plans) {
    const planned = plan(last.kind === 'failed' ? last.error : undefined);
    if (!planned) continue;
    last = await persist(worker, running, planned);
    if (last.kind !== 'failed') return last;
    if (isPassing(last.error)) throw last.error;
    worker.metrics.recordingsFailed.inc({ saga: definition.name });
    // A local step's refusal is an outcome; every other exception during recording is a fault.
    if (!refusal(last.error)) worker.log.error({ err: last.error, saga: saga.sagaId }, 'recording an outcome failed');
  }
  return last;
}

/**
 * Returns what to record in place of an outcome whose effect could not be written: a compensation or a call is tried
 * again, a local step is refused when its exception is a refusal. Null for inputs that belong to no branch.
 */
function withoutEffect(
  input: Input,
  local: boolean,
  { error, at }: { error: unknown; at: number },
): { given: Given; merge: boolean } | null {
  if (!('epoch' in input)) return null;
  const { epoch } = input;
  const as = (instead: Input) => ({ given: { input: failedAt(instead, at) }, merge: false });
  const detail = `recording failed: ${describe(error)}`.slice(0, 500);
  if (input.kind === 'compensated' || input.kind === 'uncompensated') {
    return as({ kind: 'uncompensated', epoch, permanent: false, reason: '', detail });
  }
  if (!local) return as({ kind: 'unknown', epoch, detail });
  const no = refusal(error);
  if (!no) return as({ kind: 'absent', epoch });
  return as({ kind: 'rejected', epoch, reason: no.reason.slice(0, 64), detail: no.message.slice(0, 500) });
}

const passing = new Set<Code>(['UNAVAILABLE', 'ABORTED', 'RESOURCE_EXHAUSTED', 'DEADLINE_EXCEEDED']);

/** Whether an error of a recording means that the database is unreachable or busy. */
const isPassing = (error: unknown): boolean =>
  error instanceof RpcError ? passing.has(error.code) : error instanceof Error && error.name === 'DeadlineError';

/** Retries while the lease lasts: without a record, the next worker must call the step again under the same key. */
async function persist(
  worker: Worker,
  running: Running,
  planned: { given: Given; merge: boolean },
): Promise<RecordingResult> {
  const { definition, saga } = running;
  const item = { definition, saga, ...planned, keep: (state: State) => keepsLease(worker, running, state) };
  for (let failures = 1; ; failures += 1) {
    const [result] = await record(worker.recorder, [item]);
    if (!result) throw new Error('a recording has no result for its only item');
    if (result.kind !== 'failed' || !isPassing(result.error)) return result;
    const delayMs = backoffMs(failures, recordingBackoff, { random: worker.random });
    if (performance.now() + delayMs >= saga.leasedUntil || worker.stopping.aborted) return result;
    await sleep(delayMs, worker.stopping);
  }
}

/** Updates metrics and logs after a recording. */
function observe(worker: Worker, { definition, saga }: Running, before: State): void {
  const { metrics, log } = worker;
  const next = nextOf(definition.core, saga.state);
  const of = { id: saga.sagaId, saga: definition.name, subject: saga.subjectId };
  for (const { step, stuck } of saga.state.branches) {
    const wasStuck = before.branches.some((branch) => branch.step === step && branch.stuck !== null);
    if (!stuck || wasStuck) continue;
    const name = definition.steps[step]?.name;
    log.error({ ...of, step: name, reason: stuck.reason }, 'a step of a saga is stuck: an operator must resume it');
  }
  if (next.kind === 'finished') {
    const labels = { saga: definition.name, result: next.result.kind };
    metrics.finished.inc(labels);
    metrics.seconds.observe(labels, (performance.now() - saga.startedAt) / 1000);
    log.debug({ ...of, result: next.result }, 'saga finished');
  }
  if (next.kind !== 'due') return;
  const afterMs = Math.min(...next.branches.map(({ notBefore }) => notBefore)) - elapsedMs(saga);
  if (afterMs > 0) worker.alarm(afterMs);
}
