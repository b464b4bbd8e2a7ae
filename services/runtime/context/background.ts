import type { Logger } from '../telemetry/log.ts';
import { type Call, type Caller, openCall } from './call.ts';
import { childTrace } from './trace.ts';

/** Opens calls for work that nobody outside asked for; they act as the service itself. */
export type Background = (name: string, timeoutMs: number, traceparent?: string) => Call<null>;

export function background(service: string, log: Logger): Background {
  const caller: Caller = { workload: `service:${service}`, user: null };
  return (name, timeoutMs, traceparent) =>
    openCall({
      kind: 'background',
      name,
      message: null,
      deadline: Date.now() + timeoutMs,
      trace: childTrace(traceparent),
      log,
      caller,
    });
}

/** A chore that is done again and again: expiring, purging. */
export interface Sweeper {
  name: string;
  everyMs: number;
  /** Does a bounded piece of work; returns how many things it handled. More than 0: it is called again at once. */
  sweep(call: Call): Promise<number>;
}

/** Runs each sweeper in its own loop. `stop` waits for the pieces in progress. */
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
    if (handled === 0) await pause(sweeper.everyMs * (0.8 + Math.random() * 0.4), stopping);
  }
}

/** Waits, or returns early when the signal is aborted. */
export function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener('abort', done, { once: true });
  });
}
