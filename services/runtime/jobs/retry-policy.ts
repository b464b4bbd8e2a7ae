import { type BackoffPolicy, backoffMs } from '../time/backoff.ts';

/** How often a job is run, and how long the queue waits between two attempts. */
export interface JobRetryPolicy extends BackoffPolicy {
  /** A job whose attempt of this number fails has failed for good. */
  readonly maxAttempts: number;
  /** A job is not run again later than this after it became due for the first time. */
  readonly maxElapsedMs: number;
}

/**
 * The wait after a failed attempt (counted from 1), with jitter; null when the job has failed for good. `leftMs` is
 * what is left of `maxElapsedMs`.
 */
export function retryAfterMs(
  policy: JobRetryPolicy,
  { attempt, leftMs }: { attempt: number; leftMs: number },
  random: () => number = Math.random,
): number | null {
  if (attempt >= policy.maxAttempts) return null;
  const waitMs = backoffMs(attempt, policy, { random });
  return waitMs < leftMs ? waitMs : null;
}
