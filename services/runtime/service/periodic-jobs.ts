import type { Background, PeriodicJob } from '../context/background.ts';
import type { Logger } from '../telemetry/log.ts';
import { sleep } from '../time/sleep.ts';

/** Runs each periodic job in its own loop. `stop` waits for the runs in progress. */
export function startPeriodicJobs(
  periodicJobs: readonly PeriodicJob[],
  open: Background,
  log: Logger,
): { stop(): Promise<void> } {
  const stopping = new AbortController();
  const loops = periodicJobs.map((job) => runPeriodically(job, open, log, stopping.signal));
  return {
    async stop() {
      stopping.abort();
      for (const job of periodicJobs) job.stop?.();
      await Promise.all(loops);
    },
  };
}

async function runPeriodically(job: PeriodicJob, open: Background, log: Logger, stopping: AbortSignal): Promise<void> {
  while (!stopping.aborted) {
    let handled = 0;
    const call = open(`periodic job ${job.name}`, 30_000);
    try {
      handled = await job.run(call);
    } catch (error) {
      log.warn({ err: error, job: job.name }, 'periodic job failed; it is tried again');
    } finally {
      call.close();
    }
    if (handled === 0) await sleep(job.everyMs * (0.8 + Math.random() * 0.4), stopping);
  }
}
