import type { Background, PeriodicJob } from '../context/background.ts';
import type { Database } from '../db/database.ts';
import { cached } from '../messaging/metrics.ts';
import { lastSyncPoint } from '../sync/sync-point.ts';
import { Counter, Gauge, type Registry } from '../telemetry/metrics.ts';
import { assertLeaseLongEnough, callTimeoutMs, InterruptedError, type JobWork, runAttempt } from './attempt.ts';
import type { JobQueue, LeasedJob } from './queue.ts';

/** How the jobs of a queue are run. */
export interface JobHandler<Row> extends JobWork<Row> {
  /** The name of the periodic job that claims due jobs. */
  readonly name: string;
  /** Most jobs that this process runs at the same time. */
  readonly concurrency: number;
}

export interface JobRunner {
  /** The periodic jobs of a queue: one claims and starts due jobs, one deletes those past their retention. */
  periodicJobs<Row>(handler: JobHandler<Row>): PeriodicJob[];
  /**
   * Waits until all attempts in progress are recorded. It interrupts those that still run 6 s after the stop of the
   * periodic jobs; their jobs are due again at once. Call it once the periodic jobs have stopped.
   */
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
/** Attempts may continue this long after the beginning of a stop, which is 4 s less than a service's drain takes. */
const stopGraceMs = 6_000;
const gaugesCachedMs = 5_000;

/** Runs the jobs of a service's queues; one for each service. */
export function jobRunner(parts: JobRunnerParts): JobRunner {
  const metrics = jobMetrics(parts);
  const progress = attemptsInProgress();
  return {
    periodicJobs(handler) {
      metrics.watch(handler.queue);
      return [claiming(parts, metrics, handler, progress), purging(parts, handler)];
    },
    close: progress.end,
  };
}

type AttemptsInProgress = ReturnType<typeof attemptsInProgress>;

function attemptsInProgress() {
  const all = new Set<Promise<void>>();
  const interrupting = new AbortController();
  let grace: NodeJS.Timeout | undefined;
  const beginStop = (): void => {
    grace ??= setTimeout(() => interrupting.abort(new InterruptedError('the process stopped')), stopGraceMs);
  };
  return {
    interrupt: interrupting.signal,
    add(attempt: Promise<void>): void {
      const ending = attempt.finally(() => all.delete(ending));
      all.add(ending);
    },
    /** The time for attempts in progress begins. */
    beginStop,
    async end(): Promise<void> {
      beginStop();
      while (all.size > 0) await Promise.all(all);
      clearTimeout(grace);
      grace = undefined;
    },
  };
}

function claiming<Row>(
  { db, background, random }: JobRunnerParts,
  { outcomes }: JobMetrics,
  handler: JobHandler<Row>,
  progress: AttemptsInProgress,
): PeriodicJob {
  const { queue, name, work, concurrency } = handler;
  assertLeaseLongEnough(handler);
  let running = 0;
  let stopping = false;
  let wake = (): void => {};
  const attempt = async (job: LeasedJob<Row>): Promise<void> => {
    const call = background(work, callTimeoutMs(job));
    try {
      const outcome = await runAttempt({ db, random, interrupt: progress.interrupt }, handler, job, call);
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
    running += 1;
    const ending = attempt(job).finally(() => {
      running -= 1;
      wake();
      lastSyncPoint(`job ${queue.name} left`);
    });
    progress.add(ending);
  };
  return {
    name,
    everyMs: pollMs,
    async run(call) {
      const jobs = await db.transaction(call, (tx) => queue.claim(tx, concurrency - running));
      for (const job of jobs) start(job);
      // The next claim is a batch again. A slow job takes one slot; it does not block the others.
      while (running > concurrency * 0.75 && !stopping) {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
      return jobs.length;
    },
    stop() {
      stopping = true;
      wake();
      progress.beginStop();
    },
  };
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
  const queues: { name: string; due: () => Promise<number>; dead: () => Promise<number> }[] = [];
  /** A gauge with one value per queue, read at most every 5 s; without the database it has no values. */
  const gauge = (name: string, help: string, counted: 'due' | 'dead') =>
    new Gauge({
      name,
      help,
      labelNames: ['job'],
      registers,
      async collect() {
        const values = await Promise.all(
          queues.map(async (queue) => ({ job: queue.name, count: await queue[counted]().catch(() => null) })),
        );
        this.reset();
        for (const { job, count } of values) if (count !== null) this.set({ job }, count);
      },
    });
  gauge('armature_jobs_due', 'Jobs that are due, leased ones included, up to 10,000', 'due');
  gauge('armature_jobs_dead', 'Jobs whose last attempt failed, up to 10,000', 'dead');
  return {
    outcomes: new Counter({
      name: 'armature_jobs_total',
      help: 'Attempts of background jobs by outcome',
      labelNames: ['job', 'outcome'],
      registers,
    }),
    watch: ({ name, countDue, countDead }: Counted) =>
      void queues.push({
        name,
        due: cached(gaugesCachedMs, () => db.read(null, countDue)),
        dead: cached(gaugesCachedMs, () => db.read(null, countDead)),
      }),
  };
}
