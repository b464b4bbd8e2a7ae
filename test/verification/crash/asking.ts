// How customers of a shop under fire ask until they know.
import { setTimeout as sleep } from 'node:timers/promises';
import { RpcError } from '@armature/runtime';
import type { Random } from '../../support/random.ts';

/** What says nothing about whether the request was carried out: it has to be asked again, under the same id. */
const unclear = ['UNAVAILABLE', 'DEADLINE_EXCEEDED', 'RESOURCE_EXHAUSTED', 'ABORTED', 'CANCELLED'];
export const isUnclear = (error: unknown): boolean => error instanceof RpcError && unclear.includes(error.code);

export const callTimeoutMs = 6_000;
/** A request without a clear answer for so long is given up, and counts as a fault. */
const patienceMs = 120_000;

/**
 * Asks until there is a clear answer, with pauses that grow from `firstPauseMs` to ten times as much. `again` is told
 * of each try that said nothing and is followed by another. Throws a refusal, and the last try's error when patience
 * has ended.
 */
export async function untilClear<T>(
  random: Random,
  firstPauseMs: number,
  act: () => Promise<T>,
  again: (error: RpcError) => void,
): Promise<T> {
  const deadline = performance.now() + patienceMs;
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await act();
    } catch (error) {
      if (!isUnclear(error) || performance.now() > deadline) throw error;
      again(error as RpcError);
      await sleep(firstPauseMs * Math.min(attempt, 10) * (0.5 + random.next()));
    }
  }
}
