/** Runs a task after all earlier tasks of the same name have ended. */
export type Turns = <T>(name: string, task: () => Promise<T>) => Promise<T>;

/**
 * A keyed executor: requests with the same idempotency key or charge run one after another, others concurrently. The
 * map has only names with a task under way, so the server's limit on requests bounds it.
 */
export function createTurns(): Turns {
  const last = new Map<string, Promise<unknown>>();
  return async <T>(name: string, task: () => Promise<T>): Promise<T> => {
    const before = last.get(name);
    const mine = before === undefined ? task() : before.then(task, task);
    last.set(name, mine);
    try {
      return await mine;
    } finally {
      if (last.get(name) === mine) last.delete(name);
    }
  };
}
