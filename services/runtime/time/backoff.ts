import { sleep } from './sleep.ts';

/** How long to wait between attempts. */
export interface BackoffPolicy {
  readonly initialBackoffMs: number;
  readonly maxBackoffMs: number;
}

/** The wait after the n-th failure in a row (n counts from 1): doubles from `initialBackoffMs` up to `maxBackoffMs`. */
export function exponentialBackoffMs(failures: number, { initialBackoffMs, maxBackoffMs }: BackoffPolicy): number {
  return Math.min(maxBackoffMs, initialBackoffMs * 2 ** Math.min(Math.max(failures, 1) - 1, 30));
}

/**
 * How much of a wait is random, so that processes that failed together do not retry together: `equal` keeps half of
 * it, `full` nothing. Terms: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
 */
export type Jitter = 'equal' | 'full';

const fixedShare: Readonly<Record<Jitter, number>> = { equal: 0.5, full: 0 };

/** The wait after the n-th failure in a row, with jitter. */
export function backoffMs(
  failures: number,
  policy: BackoffPolicy,
  { jitter = 'equal', random = Math.random }: { jitter?: Jitter; random?: () => number } = {},
): number {
  const fixed = fixedShare[jitter];
  return exponentialBackoffMs(failures, policy) * (fixed + (1 - fixed) * random());
}

/** Waits after the n-th failure in a row. Returns early when `signal` is aborted. */
export function backOff(
  failures: number,
  policy: BackoffPolicy,
  signal?: AbortSignal,
  options?: { jitter?: Jitter; random?: () => number },
): Promise<void> {
  return sleep(backoffMs(failures, policy, options), signal);
}
