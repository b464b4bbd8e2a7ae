import type { Background, PeriodicJob } from '../context/background.ts';
import type { CallContext } from '../context/call-context.ts';
import type { Database } from '../db/database.ts';
import { lastSyncPoint, syncPoint } from '../sync/sync-point.ts';
import { Counter, Gauge, type Registry } from '../telemetry/metrics.ts';
import { withTimeout } from '../time/timeout.ts';
import { type JobQueue, type JobResult, type LeasedJob, StaleLeaseError } from './queue.ts';
import { retryAfterMs } from './retry-policy.ts';

/** How the jobs of a queue are run. */
export interface JobHandler<Row> {
  readonly queue: JobQueue<Row>;
  /** The name of the periodic job that claims due jobs. */
  readonly name: string;
  /** The name of the call of one attempt. */
  readonly work: string;
  /** Most jobs that this process runs at the same time. */
  readonly concurrency: number;
  /** After this time an attempt counts as failed. Default 25 s; the lease must be longer by 4 s. */
  readonly attemptTimeoutMs?: number;
  /** Does the work, outside any transaction. An exception is a failed attempt. */
  run(row: Row, call: CallContext): Promise<void>;
}

export interface JobRunner {
  /** The periodic jobs of a queue: one claims and starts due jobs, one deletes those past their retention. */
  periodicJobs<Row>(handler: JobHandler<Row>): PeriodicJob[];
  /** Waits until all attempts in progress are recorded. Call it once the periodic jobs have stopped. */
  close(): Promise<void>;
}

export interface JobRunnerParts {
  readonly db: Pick<Database, 'read' | 'write' | 'transaction'>;
  readonly background: Background;
  readonly registry: Registry;
  /** 0 to 1, for jitter. */
  readonly random?: () => number;
}

/** How often due jobs are looked for when there were none. */
const pollMs = 250;
const purgeMs = 600_000;
const defaultAttemptTimeoutMs = 25_000;
/** The call of an attempt ends this long before its lease. */
const leaseSlackMs = 1_000;
/** Time for recording the result of an attempt that has timed out. */
const recordMs = 3_000;

/** Runs the jobs of a service's queues; one for each service. */
export function jobRunner(parts: JobRunnerParts): JobRunner {
  const metrics = jobMetrics(parts);
  const inProgress = new Set<Promise<void>>();
  return {
    periodicJobs(handler) {
      metrics.watch(handler.queue);
      return [claiming(parts, metrics, handler, inProgress), purging(parts, handler)];
    },
    async close() {
      while (inProgress.size > 0) await Promise.all(inProgress);
    },
  };
}

function claiming<Row>(
  parts: JobRunnerParts,
  { outcomes }: JobMetrics,
  handler: JobHandler<Row>,
  inProgress: Set<Promise<void>>,
): PeriodicJob {
  const { queue, name, work, concurrency, attemptTimeoutMs = defaultAttemptTimeoutMs } = handler;
  if (attemptTimeoutMs + recordMs + leaseSlackMs > queue.leaseMs) {
    throw new Error(
      `queue ${queue.name}: attemptTimeoutMs must be ${recordMs + leaseSlackMs} ms less than the lease ` +
        `(got ${attemptTimeoutMs} and a lease of ${queue.leaseMs} ms)`,
    );
  }
  const running = new Set<Promise<void>>();
  const attempt = async (job: LeasedJob<Row>): Promise<void> => {
    const call = parts.background(work, queue.leaseMs - leaseSlackMs);
    try {
      const outcome = await runJob(parts, { ...handler, attemptTimeoutMs }, job, call);
      outcomes.inc({ job: queue.name, outcome });
    } catch (error) {
      call.log.warn(
        { err: error, queue: queue.name, job: job.id },
        'the result of a job was not recorded; it runs again when its lease expires',
      );
    } finally {
      call.close();
    }
  };
  const start = (job: LeasedJob<Row>): void => {
    const ending = attempt(job).finally(() => {
      running.delete(ending);
      inProgress.delete(ending);
      lastSyncPoint(`job ${queue.name} left`);
    });
    running.add(ending);
    inProgress.add(ending);
  };
  return {
    name,
    everyMs: pollMs,
    async run(call) {
      const jobs = await parts.db.transaction(call, (tx) => queue.claim(tx, concurrency - running.size));
      for (const job of jobs) start(job);
      // The next claim is a batch again. A slow job takes one slot; it does not block the others.
      while (running.size > concurrency * 0.75) await Promise.race(running);
      return jobs.length;
    },
  };
}

/** Label of an attempt's outcome: the done state of the queue in lower case, failed, dead or lease_lost. */
type Outcome = string;

/** Runs one job and records the result. Returns the label of its outcome. */
async function runJob<Row>(
  { db, random }: JobRunnerParts,
  handler: JobHandler<Row> & { attemptTimeoutMs: number },
  job: LeasedJob<Row>,
  call: CallContext,
): Promise<Outcome> {
  const { queue } = handler;
  await syncPoint(call)?.(`job ${queue.name}`);
  const result = await resultOf(handler, job, call, random);
  // The attempt beyond the last one did not run.
  const attempt = Math.min(job.attempt, queue.retry.maxAttempts);
  try {
    await db.transaction(call, (tx) => queue.record(tx, { ...job, attempt }, result));
  } catch (error) {
    if (error instanceof StaleLeaseError) return 'lease_lost';
    throw error;
  }
  return { done: queue.doneState.toLowerCase(), retry: 'failed', dead: 'dead' }[result.kind];
}

async function resultOf<Row>(
  { queue, work, attemptTimeoutMs, run }: JobHandler<Row> & { attemptTimeoutMs: number },
  job: LeasedJob<Row>,
  call: CallContext,
  random?: () => number,
): Promise<JobResult> {
  const { attempt, giveUpAt } = job;
  const { maxAttempts } = queue.retry;
  if (attempt > maxAttempts) return { kind: 'dead', error: `attempt ${maxAttempts} ended without a result` };
  try {
    await withTimeout(attemptTimeoutMs, run(job.row, call), work);
    return { kind: 'done' };
  } catch (cause) {
    call.log.warn({ err: cause, queue: queue.name, job: job.id, attempt }, `${work} failed`);
    const error = cause instanceof Error ? cause.message : String(cause);
    const afterMs = retryAfterMs(queue.retry, { attempt, leftMs: giveUpAt - performance.now() }, random);
    return afterMs === null ? { kind: 'dead', error } : { kind: 'retry', error, afterMs };
  }
}

function purging<Row>({ db }: JobRunnerParts, { queue, name }: JobHandler<Row>): PeriodicJob {
  return {
    name: `${name} past`,
    everyMs: purgeMs,
    async run(call) {
      let deleted = 0;
      for (const state of Object.keys(queue.retention.days)) {
        deleted += await db.write(call, (sql) => queue.purge(sql, state));
      }
      return deleted;
    },
  };
}

type JobMetrics = ReturnType<typeof jobMetrics>;
type Counted = Pick<JobQueue<unknown>, 'name' | 'countDue' | 'countDead'>;

function jobMetrics({ db, registry }: Pick<JobRunnerParts, 'db' | 'registry'>) {
  const registers = [registry];
  const queues: Counted[] = [];
  /** A gauge with one value per queue; without the database it has no values. */
  const gauge = (name: string, help: string, count: (queue: Counted) => Counted['countDue']) =>
    new Gauge({
      name,
      help,
      labelNames: ['job'],
      registers,
      async collect() {
        this.reset();
        for (const queue of queues) {
          const value = await db.read(null, count(queue)).catch(() => null);
          if (value !== null) this.set({ job: queue.name }, value);
        }
      },
    });
  gauge('armature_jobs_due', 'Jobs that are due, leased ones included, up to 10,000', (queue) => queue.countDue);
  gauge('armature_jobs_dead', 'Jobs whose last attempt failed, up to 10,000', (queue) => queue.countDead);
  return {
    outcomes: new Counter({
      name: 'armature_jobs_total',
      help: 'Attempts of background jobs by outcome',
      labelNames: ['job', 'outcome'],
      registers,
    }),
    watch: (queue: Counted) => void queues.push(queue),
  };
}
