import type { Background, Sweeper } from '../context/background.ts';
import type { Logger } from '../telemetry/log.ts';
import { sleep } from '../time/sleep.ts';

/** Runs each periodic job in its own loop. `stop` waits for the runs in progress. */
export function startSweepers(sweepers: readonly Sweeper[], open: Background, log: Logger): { stop(): Promise<void> } {
  const stopping = new AbortController();
  const loops = sweepers.map((sweeper) => sweepLoop(sweeper, open, log, stopping.signal));
  return {
    async stop() {
      stopping.abort();
      await Promise.all(loops);
    },
  };
}

async function sweepLoop(sweeper: Sweeper, open: Background, log: Logger, stopping: AbortSignal): Promise<void> {
  while (!stopping.aborted) {
    let handled = 0;
    const call = open(`sweep ${sweeper.name}`, 30_000);
    try {
      handled = await sweeper.sweep(call);
    } catch (error) {
      log.warn({ err: error, sweeper: sweeper.name }, 'sweep failed; it is tried again');
    } finally {
      call.close();
    }
    if (handled === 0) await sleep(sweeper.everyMs * (0.8 + Math.random() * 0.4), stopping);
  }
}
