import { backoffMs } from '@armature/runtime/time';

const policy = { initialBackoffMs: 250, maxBackoffMs: 10_000 };

/** How long to wait before the n-th restart in a row, in whole milliseconds (n counts from 1). */
export function restartDelayMs(attempt: number, random: () => number = Math.random): number {
  return Math.round(backoffMs(attempt, policy, { random }));
}
