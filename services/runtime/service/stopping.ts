import { RpcError } from '../errors/errors.ts';
import type { Logger } from '../telemetry/log.ts';

/** One step of a stop. */
export interface StopStep {
  /** What is stopped, for the log. */
  readonly name: string;
  /** Milliseconds from the beginning of the stop until the next step begins, even if this one has not ended. */
  readonly endsMs: number;
  run(): Promise<unknown> | undefined;
}

/**
 * Runs the steps one after another. A step that waits for a neighbour which does not respond is left behind at its
 * time, so that the stop ends in time: its leases expire, and what it has not recorded is repeated under the same key.
 * A step that fails because of a neighbour is logged. Any other failure is thrown after the last step.
 */
export async function runStopSteps(steps: readonly StopStep[], log: Pick<Logger, 'warn'>): Promise<void> {
  const since = performance.now();
  const faults: unknown[] = [];
  for (const { name, endsMs, run } of steps) {
    const left = Promise.withResolvers<'left behind'>();
    const timer = setTimeout(() => left.resolve('left behind'), endsMs - (performance.now() - since));
    const ended = Promise.resolve(run()).catch((error: unknown) => {
      log.warn({ err: error, step: name }, 'a step of the stop failed');
      if (!(error instanceof RpcError)) faults.push(error);
    });
    if ((await Promise.race([ended, left.promise])) === 'left behind') {
      log.warn({ step: name, endsMs }, 'a step of the stop has not ended in time; it is left behind');
    }
    clearTimeout(timer);
  }
  if (faults.length > 0) throw faults[0];
}
