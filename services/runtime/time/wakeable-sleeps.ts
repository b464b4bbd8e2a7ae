/** Sleeps by key that end early when their key is woken. */
export interface WakeableSleeps {
  /** Resolves after `ms`, when `wake` is called for the key, or when the signal is aborted. Never rejects. */
  sleep(key: string, ms: number, signal: AbortSignal): Promise<void>;
  /** Ends the sleeps of the key that have begun. */
  wake(key: string): void;
}

/** Each sleep removes its timer and its listener, so that a caller that lives for long may sleep often. */
export function wakeableSleeps(): WakeableSleeps {
  const sleeping = new Map<string, Set<() => void>>();
  return {
    sleep(key, ms, signal) {
      return new Promise((resolve) => {
        if (signal.aborted) return resolve();
        const all = sleeping.get(key) ?? new Set();
        const end = () => {
          clearTimeout(timer);
          signal.removeEventListener('abort', end);
          all.delete(end);
          if (all.size === 0) sleeping.delete(key);
          resolve();
        };
        const timer = setTimeout(end, ms);
        signal.addEventListener('abort', end);
        sleeping.set(key, all.add(end));
      });
    },
    wake(key) {
      for (const end of [...(sleeping.get(key) ?? [])]) end();
    },
  };
}
