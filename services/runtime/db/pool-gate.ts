import { overloaded } from '../errors/errors.ts';

export interface PoolGate {
  /**
   * Waits for a free connection and returns the function that releases it. Throws RESOURCE_EXHAUSTED when too many
   * callers wait already or the wait takes too long, and the signal's reason when it is aborted. `signalOf` is called
   * only when there is a wait.
   */
  enter(signalOf?: () => AbortSignal): Promise<() => void>;
  inUse(): number;
  waiting(): number;
}

interface Waiter {
  admit: () => void;
}

/**
 * Limits access to the connection pool, first come first served: mysql2 bounds its queue but not the time spent in it.
 */
export function poolGate(options: { size: number; waitersMax: number; waitTimeoutMs: number }): PoolGate {
  let inUse = 0;
  const queue = new Set<Waiter>();
  const leave = () => {
    const next = queue.values().next();
    if (next.done) inUse -= 1;
    else {
      queue.delete(next.value);
      next.value.admit();
    }
  };
  const once = () => {
    let left = false;
    return () => {
      if (left) return;
      left = true;
      leave();
    };
  };
  return {
    async enter(signalOf) {
      if (inUse < options.size) {
        inUse += 1;
        return once();
      }
      if (queue.size >= options.waitersMax) throw overloaded('database', 'too many calls wait for the database');
      const signal = signalOf?.();
      signal?.throwIfAborted();
      await new Promise<void>((resolve, reject) => {
        const finish = (outcome: () => void) => {
          queue.delete(waiter);
          clearTimeout(timer);
          signal?.removeEventListener('abort', abort);
          outcome();
        };
        const waiter: Waiter = { admit: () => finish(resolve) };
        const abort = () => finish(() => reject(signal?.reason));
        const timer = setTimeout(
          () => finish(() => reject(overloaded('database', `no connection within ${options.waitTimeoutMs} ms`))),
          options.waitTimeoutMs,
        );
        signal?.addEventListener('abort', abort, { once: true });
        queue.add(waiter);
      });
      return once();
    },
    inUse: () => inUse,
    waiting: () => queue.size,
  };
}
