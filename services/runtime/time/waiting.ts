import { setTimeout as sleep } from 'node:timers/promises';

/** Rejects when `work` takes longer. */
export async function within<T>(timeoutMs: number, work: Promise<T>, what: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} took longer than ${timeoutMs} ms`)), timeoutMs);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Waits, or returns at once when `signal` is aborted. */
export async function rest(ms: number, signal: AbortSignal): Promise<void> {
  await sleep(ms, undefined, { signal }).catch(() => undefined);
}

export interface Backoff {
  first: number;
  longest: number;
}

/** Twice as long after each failure, with jitter so that a mesh does not come back in step. */
export async function backOff(failures: number, { first, longest }: Backoff, signal: AbortSignal): Promise<void> {
  const ms = Math.min(longest, first * 2 ** Math.min(failures, 16));
  await rest(ms * (0.5 + Math.random() / 2), signal);
}
