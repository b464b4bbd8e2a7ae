/** Runs a task when every task that asked earlier under the same name has ended. */
export type Turns = <T>(name: string, task: () => Promise<T>) => Promise<T>;

/**
 * Makes requests that share an idempotency key or a charge go one after another, and no others. The map holds
 * only names with a task under way, so the server's limit on requests bounds it.
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
