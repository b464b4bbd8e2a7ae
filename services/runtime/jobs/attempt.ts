import type { CallContext } from '../context/call-context.ts';
import type { Database } from '../db/database.ts';
import { syncPoint } from '../sync/sync-point.ts';
import { backOff } from '../time/backoff.ts';
import { untilAborted } from '../time/until-aborted.ts';
import { type JobQueue, type JobResult, type LeasedJob, StaleLeaseError } from './queue.ts';
import { retryAfterMs } from './retry-policy.ts';

/** The work of a queue's jobs, and its limits. */
export interface JobWork<Row> {
  readonly queue: JobQueue<Row>;
  /** The name of the call of one attempt. */
  readonly work: string;
  /** After this time an attempt counts as failed. Default 25 s; the lease must be longer by 4 s. */
  readonly attemptTimeoutMs?: number;
  /**
   * Does the work, outside any transaction. An exception is a failed attempt. `signal` is aborted when the time of the
   * attempt is over or the process stops. The attempt then ends without `run`, so `run` must pass the signal to
   * whatever it waits for: work that continues may take effect again in the next attempt.
   */
  run(row: Row, call: CallContext, signal: AbortSignal): Promise<void>;
}

/** An attempt was ended for a reason that is not the job's. The job is due again at once. */
export class InterruptedError extends Error {
  override name = 'InterruptedError';
}

/** Thrown by the work of a job that has nothing to do any more. The message says why, and the job becomes SKIPPED. */
export class SkipJobError extends Error {
  override name = 'SkipJobError';
}

/**
 * Label of an attempt's outcome: the done state of the queue in lower case, failed, dead, skipped, interrupted or
 * lease_lost.
 */
export type Outcome = string;

const defaultAttemptTimeoutMs = 25_000;
/** The call of an attempt ends this long before its lease. */
const leaseSlackMs = 1_000;
/** Time for recording the result of an attempt that has timed out. */
const recordMs = 3_000;
const recordBackoff = { initialBackoffMs: 100, maxBackoffMs: 2_000 };

/** Throws unless a lease is long enough for an attempt and for recording its result. */
export function assertLeaseLongEnough<Row>({ queue, attemptTimeoutMs = defaultAttemptTimeoutMs }: JobWork<Row>): void {
  if (attemptTimeoutMs + recordMs + leaseSlackMs > queue.leaseMs) {
    throw new Error(
      `queue ${queue.name}: attemptTimeoutMs must be ${recordMs + leaseSlackMs} ms less than the lease ` +
        `(got ${attemptTimeoutMs} and a lease of ${queue.leaseMs} ms)`,
    );
  }
}

/** How long the call of an attempt may take that begins now: until shortly before the end of the job's lease. */
export const callTimeoutMs = ({ leaseEndsAt }: LeasedJob<unknown>): number =>
  Math.max(leaseEndsAt - performance.now() - leaseSlackMs, 0);

export interface AttemptParts {
  readonly db: Pick<Database, 'transaction'>;
  /** 0 to 1, for jitter. */
  readonly random?: (() => number) | undefined;
  /** Aborted with an InterruptedError when attempts in progress must end. */
  readonly interrupt: AbortSignal;
}

/** Runs one job and records the result. */
export async function runAttempt<Row>(
  parts: AttemptParts,
  work: JobWork<Row>,
  job: LeasedJob<Row>,
  call: CallContext,
): Promise<Outcome> {
  const { queue } = work;
  await syncPoint(call)?.(`job ${queue.name}`);
  const { outcome, attempts, result } = await resultOf(parts, work, job, call);
  try {
    await record(parts, queue, { ...job, attempt: attempts }, result, call);
  } catch (error) {
    if (error instanceof StaleLeaseError) return 'lease_lost';
    throw error;
  }
  return outcome;
}

/** The result of an attempt; `attempts` is the number of attempts that the job has used up. */
interface Ended {
  outcome: Outcome;
  attempts: number;
  result: JobResult;
}

async function resultOf<Row>(
  { random, interrupt }: AttemptParts,
  work: JobWork<Row>,
  job: LeasedJob<Row>,
  call: CallContext,
): Promise<Ended> {
  const { queue } = work;
  const { attempt, giveUpAt } = job;
  const { maxAttempts } = queue.retry;
  if (attempt > maxAttempts) {
    return { outcome: 'dead', attempts: attempt - 1, result: { kind: 'dead', error: whyNotRun(job, maxAttempts) } };
  }
  try {
    await runLimited(work, job, call, interrupt);
    return { outcome: queue.doneState.toLowerCase(), attempts: attempt, result: { kind: 'done' } };
  } catch (cause) {
    const error = cause instanceof Error ? cause.message : String(cause);
    if (cause instanceof SkipJobError) {
      call.log.info({ queue: queue.name, job: job.id }, `${work.work} was skipped: ${error}`);
      return { outcome: 'skipped', attempts: attempt, result: { kind: 'skipped', error } };
    }
    if (cause instanceof InterruptedError) {
      call.log.info({ queue: queue.name, job: job.id, attempt }, `${work.work} was interrupted: ${error}`);
      // The last attempt can be made again.
      const attempts = Math.min(attempt, maxAttempts - 1);
      return { outcome: 'interrupted', attempts, result: { kind: 'retry', error, afterMs: 0 } };
    }
    call.log.warn({ err: cause, queue: queue.name, job: job.id, attempt }, `${work.work} failed`);
    const afterMs = retryAfterMs(queue.retry, { attempt, leftMs: giveUpAt - performance.now() }, random);
    return afterMs === null
      ? { outcome: 'dead', attempts: attempt, result: { kind: 'dead', error } }
      : { outcome: 'failed', attempts: attempt, result: { kind: 'retry', error, afterMs } };
  }
}

/** The error of a job that has no attempt left when it is leased. */
function whyNotRun({ attempt, unrecorded, lastError }: LeasedJob<unknown>, maxAttempts: number): string {
  const earlier = lastError === '' ? '' : `; the error before: ${lastError}`;
  return unrecorded
    ? `attempt ${attempt - 1} ended without a result${earlier}`
    : `not run again after ${attempt - 1} attempts, because the limit is ${maxAttempts} now${earlier}`;
}

/** Rejects when the time of the attempt is over, counted so that its result can be recorded within the lease. */
async function runLimited<Row>(
  { work, run, attemptTimeoutMs = defaultAttemptTimeoutMs }: JobWork<Row>,
  job: LeasedJob<Row>,
  call: CallContext,
  interrupt: AbortSignal,
): Promise<void> {
  const limitMs = Math.floor(Math.min(attemptTimeoutMs, callTimeoutMs(job) - recordMs));
  if (limitMs <= 0) throw new InterruptedError('too little of the lease was left');
  const limit = new AbortController();
  const timer = setTimeout(() => limit.abort(new Error(`${work} took longer than ${limitMs} ms`)), limitMs);
  const signal = AbortSignal.any([limit.signal, interrupt]);
  try {
    signal.throwIfAborted();
    await untilAborted(run(job.row, call, signal), signal);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Records a result. After any error but a lost lease it tries again until the end of the call, because a result that
 * is not recorded means that the job runs again. When the result of a commit was unknown, the second try may find the
 * lease lost to the first.
 */
async function record(
  { db, interrupt }: AttemptParts,
  queue: JobQueue<unknown>,
  job: LeasedJob<unknown>,
  result: JobResult,
  call: CallContext,
): Promise<void> {
  for (let failures = 1; ; failures += 1) {
    try {
      return await db.transaction(call, (tx) => queue.record(tx, job, result));
    } catch (error) {
      // A stopping process has no time left for another try.
      if (error instanceof StaleLeaseError || interrupt.aborted) throw error;
      call.log.warn(
        { err: error, queue: queue.name, job: job.id },
        'recording the result of a job failed; tried again',
      );
      await backOff(failures, recordBackoff, AbortSignal.any([call.signal, interrupt]));
      if (call.signal.aborted) throw error;
    }
  }
}
