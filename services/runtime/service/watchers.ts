import type { Tx } from '../db/tx.ts';
import { sleep } from '../time/sleep.ts';

/** Wakes streams that watch rows, by keys such as an order's id. */
export interface Watchers {
  /** Wakes the watchers of these keys, once the transaction has committed. */
  wakeAfter(tx: Tx, keys: Iterable<string>): void;
  /**
   * Yields at once, then whenever one of the keys may have changed: woken by commits of this process, and periodically
   * for those of other instances. Ends by throwing the signal's reason.
   */
  changes(keys: Iterable<string>, signal: AbortSignal): AsyncGenerator<void>;
}

interface Watcher {
  keys: ReadonlySet<string>;
  wake: () => void;
}

/** An explicit reason: without one, every wake would make an exception with a stack. */
const somethingChanged = Symbol('something changed');

export function watchers(pollMs: number): Watchers {
  const byKey = new Map<string, Set<Watcher>>();
  const enter = (watcher: Watcher) => {
    for (const key of watcher.keys) byKey.set(key, (byKey.get(key) ?? new Set()).add(watcher));
  };
  const leave = (watcher: Watcher) => {
    for (const key of watcher.keys) {
      const here = byKey.get(key);
      here?.delete(watcher);
      if (here?.size === 0) byKey.delete(key);
    }
  };
  return {
    wakeAfter(tx, keys) {
      const touched = [...keys];
      tx.afterCommit(() => {
        for (const key of touched) for (const watcher of byKey.get(key) ?? []) watcher.wake();
      });
    },
    async *changes(keys, signal) {
      let woken = new AbortController();
      const watcher = { keys: new Set(keys), wake: () => woken.abort(somethingChanged) };
      enter(watcher);
      try {
        for (;;) {
          signal.throwIfAborted();
          // A wake between here and the pause is not lost: the signal of the pause is aborted already.
          woken = new AbortController();
          yield;
          await sleep(pollMs, AbortSignal.any([woken.signal, signal]));
        }
      } finally {
        leave(watcher);
      }
    },
  };
}
