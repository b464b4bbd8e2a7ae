/** Lets somebody who waits for news of an operation be told that there is some, instead of asking again and again. */
export interface Waiters {
  /** Waits so long, or until there is news under the key, or until the signal is aborted. */
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
