import type { EventContract } from '@armature/proto/contract.ts';
import type { SqlEntityManager } from '@mikro-orm/mysql';

export type Param = string | number | bigint | boolean | Date | Buffer | null;

/** Runs SQL; `?` stands for a parameter. Only stores and the runtime use it. */
export interface Sql {
  /** Rows as plain objects: 64-bit integers may come as number or string (`BigInt()` takes both), times as strings. */
  query<Row>(sql: string, params?: readonly (Param | readonly Param[])[]): Promise<Row[]>;
  /** A statement without rows. */
  execute(sql: string, params?: readonly (Param | readonly Param[])[]): Promise<{ affectedRows: number }>;
  /** MikroORM's entity manager, forked for this piece of work and, in a transaction, inside it. */
  readonly em: SqlEntityManager;
}

/** One open transaction. Everything done through it commits together or not at all. */
export interface Tx extends Sql {
  /**
   * Writes an event to the outbox. `sequence` is the aggregate's own count: from 1, without gaps. All
   * events of a transaction are inserted together, just before it commits.
   */
  emit<E>(event: EventContract<E>, message: E, sequence: bigint): void;
  /** Runs once the transaction has committed; not when it rolls back. For waking things up, not for effects. */
  afterCommit(action: () => void): void;
}

/** The time in a datetime(6) column as a Date: the driver hands it over as text, without a zone, in UTC. */
export const utcDate = (text: string): Date => new Date(`${text.replace(' ', 'T')}Z`);
