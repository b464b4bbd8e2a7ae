import { AsyncLocalStorage } from 'node:async_hooks';
import type { Socket } from 'node:net';
import type { Pool, PoolConnection } from 'mysql2';

/** One unit of work that uses the database. */
interface Work {
  /** Epoch milliseconds; Infinity when there is no deadline. */
  readonly deadline: number;
  /** The connection of its last statement. */
  connection: PoolConnection | null;
}

/** The ORM is between the work and its connection, and does not pass values through. */
const current = new AsyncLocalStorage<Work>();

/**
 * A statement that ends this soon after its deadline does not close its connection: a rollback, a response that is
 * slightly late.
 */
const graceMs = 1_000;

/** The database did not respond to a statement in time; whether the statement took effect is not known. */
export class StatementTimeout extends Error {
  readonly code = 'STATEMENT_TIMEOUT';
}

/**
 * Closes a connection of the pool that has not responded to a statement for `maxMs`, or until a second after the
 * deadline of the work that sent it; the statement fails with StatementTimeout. The server cannot do this: a server
 * that hangs or is unreachable would block every connection for ever. The connection must be closed, because the
 * response may still arrive.
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
        // Not connection.destroy(): it waits for the server to close, and never ends the statement.
        const { stream } = connection as unknown as { stream: Socket };
        stream.destroy(new StatementTimeout(`no response within ${Math.round(limitMs)} ms`));
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

/** Runs work; its statements fail after `deadline`, epoch milliseconds. */
export function limited<T>(deadline: number, work: () => Promise<T>): Promise<T> {
  return current.run({ deadline, connection: null }, work);
}

/**
 * Closes the connection that the current work used last, and frees its place in the pool. The query builder does not do
 * so when preparing a session or beginning a transaction fails, and never releases it either (kysely 0.29,
 * MysqlDriver.acquireConnection and ControlledTransactionBuilder.execute).
 */
export function dropConnection(): void {
  current.getStore()?.connection?.destroy();
}
