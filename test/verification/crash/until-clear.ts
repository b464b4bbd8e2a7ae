// Retries of a customer until the outcome of a request is known.
import { setTimeout as sleep } from 'node:timers/promises';
import { RpcError } from '@armature/runtime';
import type { Random } from '../../support/random.ts';

/** Codes that leave the outcome unknown. The request must be sent again with the same request id. */
const unclear = ['UNAVAILABLE', 'DEADLINE_EXCEEDED', 'RESOURCE_EXHAUSTED', 'ABORTED', 'CANCELLED'];
export const isUnclear = (error: unknown): boolean => error instanceof RpcError && unclear.includes(error.code);

export const callTimeoutMs = 6_000;
/** A request whose outcome is unknown for this long fails, and counts as a fault. */
const maxElapsedMs = 120_000;

/**
 * Retries until the outcome is known, with pauses that grow from `firstPauseMs` to ten times as much. Calls `again` for
 * each failed attempt that is followed by another. Throws a permanent error at once, and the last error when
 * `maxElapsedMs` has passed.
 */
export async function untilClear<T>(
  random: Random,
  firstPauseMs: number,
  act: () => Promise<T>,
  again: (error: RpcError) => void,
): Promise<T> {
  const deadline = performance.now() + maxElapsedMs;
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
