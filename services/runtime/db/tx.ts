import type { SqlEntityManager } from '@mikro-orm/mysql';
import type { CallContext } from '../context/call-context.ts';
import type { Attachments } from '../context/keys.ts';

export type Param = string | number | bigint | boolean | Date | Buffer | null;

/**
 * Reads by SQL; `?` stands for a parameter. Only stores and the runtime use it. Outside a transaction, a statement that
 * writes or locks rows is refused.
 */
export interface SqlReader {
  /** Rows as plain objects: 64-bit integers may come as number or string (`BigInt()` takes both), times as strings. */
  query<Row>(sql: string, params?: readonly (Param | readonly Param[])[]): Promise<Row[]>;
  /** Reads mapped tables. */
  readonly find: SqlEntityManager['find'];
}

/** Reads and writes by SQL. */
export interface Sql extends SqlReader {
  /** A statement without rows. */
  execute(sql: string, params?: readonly (Param | readonly Param[])[]): Promise<{ affectedRows: number }>;
}

/** One open transaction. Everything done through it commits together or not at all. */
export interface Tx extends Sql, Attachments {
  /** MikroORM's entity manager, forked for this transaction and inside it. */
  readonly em: SqlEntityManager;
  /** Runs once the transaction has committed; not when it rolls back. For wake-ups, not for effects. */
  afterCommit(action: () => void): void;
}

/**
 * Adds its own rows to the transactions of a database, such as outbox rows. It keeps its state in attachments of the
 * transaction or the call.
 */
export interface CommitParticipant {
  /** Prepares a transaction, before its work starts. */
  begin?(tx: Tx): void;
  /** Sends its statements, after the work and before the commit. Called again when the transaction is run again. */
  beforeCommit(tx: Tx, call: CallContext): Promise<void>;
  /** Called after the commit. Must not throw. */
  committed?(tx: Tx, call: CallContext): void;
}

/** Converts a datetime(6) column to a Date: the driver returns it as text, without a zone, in UTC. */
export const utcDate = (text: string): Date => new Date(`${text.replace(' ', 'T')}Z`);
