import type { Background, PeriodicJob } from '../context/background.ts';
import type { CallContext } from '../context/call-context.ts';
import { draining } from '../errors/errors.ts';
import type { Logger } from '../telemetry/log.ts';
import { sleep } from '../time/sleep.ts';

const runTimeoutMs = 30_000;
/** Runs in progress may continue this long after the beginning of a stop; then their calls are cancelled. */
const defaultStopGraceMs = 4_000;

/** Runs each periodic job in its own loop. `stop` waits for the runs in progress. */
export function startPeriodicJobs(
  periodicJobs: readonly PeriodicJob[],
  { open, log, stopGraceMs = defaultStopGraceMs }: { open: Background; log: Logger; stopGraceMs?: number },
): { stop(): Promise<void> } {
  const stopping = new AbortController();
  const running = new Set<CallContext>();
  const loops = periodicJobs.map(async (job) => {
    while (!stopping.signal.aborted) {
      const call = open(`periodic job ${job.name}`, runTimeoutMs);
      running.add(call);
      const handled = await runOnce(job, call, log);
      running.delete(call);
      if (handled === 0) await sleep(job.everyMs * (0.8 + Math.random() * 0.4), stopping.signal);
    }
  });
  return {
    async stop() {
      stopping.abort();
      for (const job of periodicJobs) job.stop?.();
      const grace = setTimeout(() => {
        for (const call of running) call.cancel(draining());
      }, stopGraceMs);
      await Promise.all(loops);
      clearTimeout(grace);
    },
  };
}

/** Returns how many items the run handled; 0 after a failure. */
async function runOnce(job: PeriodicJob, call: CallContext<null>, log: Logger): Promise<number> {
  try {
    return await job.run(call);
  } catch (error) {
    if (call.cancelReason) log.info({ job: job.name }, 'periodic job ended because the service stops');
    else log.warn({ err: error, job: job.name }, 'periodic job failed; it is tried again');
    return 0;
  } finally {
    call.close();
  }
}
