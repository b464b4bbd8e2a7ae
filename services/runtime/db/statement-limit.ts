import { AsyncLocalStorage } from 'node:async_hooks';
import type { Socket } from 'node:net';
import type { Pool, PoolConnection } from 'mysql2';

/** One piece of work at the database. */
interface Work {
  /** Epoch milliseconds; Infinity where nobody waits. */
  readonly deadline: number;
  /** What its last statement went over. */
  connection: PoolConnection | null;
}

/** The ORM stands between a piece of work and its connection, and would not hand anything through. */
const current = new AsyncLocalStorage<Work>();

/** A statement that ends so soon after its deadline costs no connection: a rollback, an answer a moment late. */
const graceMs = 1_000;

/** The database did not answer a statement in time; whether the statement acted is not known. */
export class StatementTimeout extends Error {
  readonly code = 'STATEMENT_TIMEOUT';
}

/**
 * From now on a connection of the pool that has not answered a statement for `maxMs`, or for a second more than the
 * deadline of the work that sent it, is closed, and the statement fails with StatementTimeout. The server cannot do
 * this by itself: one that hangs, or that cannot be reached any more, would keep every connection for ever. The
 * connection has to go, for the answer may still be on its way.
 */
export function limitStatements(pool: Pool, maxMs: number): void {
  pool.on('connection', (connection: PoolConnection) => {
    const send = connection.query.bind(connection) as (sql: string, values: unknown, done: Done) => unknown;
    const limited = (sql: string, values: unknown, done: Done) => {
      const work = current.getStore();
      if (work) work.connection = connection;
      const leftMs = (work?.deadline ?? Number.POSITIVE_INFINITY) - Date.now();
      const limitMs = Math.min(maxMs, Math.max(0, leftMs) + graceMs);
      const timer = setTimeout(() => {
        // Not connection.destroy(): that waits for the server's farewell, and never ends the statement.
        const { stream } = connection as unknown as { stream: Socket };
        stream.destroy(new StatementTimeout(`no answer within ${Math.round(limitMs)} ms`));
      }, limitMs);
      return send(sql, values, (error, ...rest) => {
        clearTimeout(timer);
        done(error, ...rest);
      });
    };
    connection.query = limited as unknown as PoolConnection['query'];
  });
}

type Done = (error: unknown, ...rest: unknown[]) => void;

/** Runs work whose statements nobody waits for after `deadline`, epoch milliseconds. */
export function limited<T>(deadline: number, work: () => Promise<T>): Promise<T> {
  return current.run({ deadline, connection: null }, work);
}

/**
 * Closes the connection that the work at hand has used last, and gives its place in the pool to another. The query
 * builder does not do so when preparing a session or beginning a transaction fails, and never gives it back either
 * (kysely 0.29, MysqlDriver.acquireConnection and ControlledTransactionBuilder.execute).
 */
export function dropConnection(): void {
  current.getStore()?.connection?.destroy();
}
