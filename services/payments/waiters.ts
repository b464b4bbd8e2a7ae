/** Waits between polls for the outcome of an operation, which end early when a webhook about its key arrives. */
export interface Waiters {
  /** Resolves after `ms`, when `wake` is called for the key, or when the signal is aborted. */
  wait(key: string, ms: number, signal: AbortSignal): Promise<void>;
  wake(key: string): void;
}

export function waiters(): Waiters {
  const waiting = new Map<string, Set<() => void>>();
  return {
    wait(key, ms, signal) {
      return new Promise((resolve) => {
        if (signal.aborted) return resolve();
        const all = waiting.get(key) ?? new Set();
        const end = () => {
          clearTimeout(timer);
          signal.removeEventListener('abort', end);
          all.delete(end);
          if (all.size === 0) waiting.delete(key);
          resolve();
        };
        const timer = setTimeout(end, ms);
        signal.addEventListener('abort', end);
        waiting.set(key, all.add(end));
      });
    },
    wake(key) {
      for (const end of [...(waiting.get(key) ?? [])]) end();
    },
  };
}
