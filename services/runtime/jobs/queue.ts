/**
 * A leased work queue in a table of a service. The service names the table and its own columns (what is to be done);
 * the columns of `addQueueColumns` belong to the queue. All times are by the clock of the database.
 *
 * | state | meaning | next state |
 * | --- | --- | --- |
 * | QUEUED | due at `next_attempt_at`; leased while `lease_expires_at` is in the future | done, QUEUED, DEAD, SKIPPED |
 * | done (the queue names it) | an attempt succeeded | QUEUED by `requeue` |
 * | DEAD | the last attempt failed | QUEUED by `requeue` |
 * | SKIPPED | recorded without being due, or an attempt found that there is nothing to do any more | none |
 *
 * A job runs at least once: a worker that dies after the effect and before `record` leaves the lease, and the job runs
 * again when it expires. So the effect must be idempotent or detectable by the job's id.
 */
import type { Param, Sql, SqlReader, Tx } from '../db/tx.ts';
import { newId } from '../id/id.ts';
import { claimIndex } from './queue-columns.ts';
import type { JobRetryPolicy } from './retry-policy.ts';

export type Priority = 'high' | 'normal' | 'low';

const priorities: Readonly<Record<Priority, number>> = { high: 0, normal: 1, low: 2 };

export interface QueueDefinition {
  /** The label `job` of metrics. */
  readonly name: string;
  readonly table: string;
  /** The primary key, a UUID. */
  readonly idColumn: string;
  /** The state of a job that succeeded. */
  readonly doneState: string;
  /** A column that gets the time of success. */
  readonly doneAtColumn?: string;
  readonly retry: JobRetryPolicy;
  /** How long a dead worker blocks other workers from taking its jobs. Default 30 s. */
  readonly leaseMs?: number;
  /**
   * Days after `column` until a job of a state is deleted; jobs of other states are kept. Needs an index (state,
   * column).
   */
  readonly retention: { readonly column: string; readonly days: Readonly<Record<string, number>> };
}

/** A value of a service's own column. */
export type ColumnValue = Param | { readonly secondsFromNow: number };

export interface NewJob {
  /** A new UUID by default. */
  readonly id?: string;
  /** Values of the service's own columns. */
  readonly columns: Readonly<Record<string, ColumnValue>>;
  /** Due jobs of a higher priority always go first. Default `normal`. */
  readonly priority?: Priority;
  /** When the job is due. Default: at once. */
  readonly runAt?: Date;
  /** Replaces that of the queue's retry policy. */
  readonly maxElapsedMs?: number;
  /** Only records the row, in state SKIPPED: the same statement as for a job that will run. */
  readonly skipped?: boolean;
}

/** A job that this worker has leased. */
export interface LeasedJob<Row> {
  readonly id: string;
  /** The fencing token: it grows with every lease. */
  readonly leaseToken: bigint;
  /** Counts from 1. A worker that dies during an attempt has used it up. */
  readonly attempt: number;
  /** End of `maxElapsedMs`, by this process's monotonic clock. */
  readonly giveUpAt: number;
  /** Not later than the end of the lease, by this process's monotonic clock. */
  readonly leaseEndsAt: number;
  /** The attempt before has ended without a recorded result. */
  readonly unrecorded: boolean;
  /** The last recorded error; empty when there is none. */
  readonly lastError: string;
  readonly row: Row;
}

export type JobResult =
  | { readonly kind: 'done' }
  | { readonly kind: 'retry'; readonly error: string; readonly afterMs: number }
  | { readonly kind: 'dead'; readonly error: string }
  | { readonly kind: 'skipped'; readonly error: string };

/** The lease went to another worker, or the row is gone: the result must not be recorded. */
export class StaleLeaseError extends Error {
  override name = 'StaleLeaseError';
}

export interface JobQueue<Row> extends QueueDefinition {
  readonly leaseMs: number;
  /** Inserts a job in the caller's transaction. Returns its id. */
  enqueue(tx: Tx, job: NewJob): Promise<string>;
  /** Queues a job that is done or dead again, with all its attempts. False when there is no such job. */
  requeue(tx: Tx, id: string): Promise<boolean>;
  /** Leases up to `limit` due jobs. Jobs that another worker has locked are skipped. */
  claim(tx: Tx, limit: number): Promise<LeasedJob<Row>[]>;
  /** Records the result of an attempt and ends the lease. Throws StaleLeaseError, and has then changed nothing. */
  record(tx: Tx, job: Pick<LeasedJob<Row>, 'id' | 'leaseToken' | 'attempt'>, result: JobResult): Promise<void>;
  /** Deletes up to 500 jobs of one state that are past their retention. Returns how many. */
  purge(sql: Sql, state: string): Promise<number>;
  /** Number of jobs that are due, counted up to 10,000. */
  countDue(sql: SqlReader): Promise<number>;
  /** Number of jobs that have failed for good, counted up to 10,000. */
  countDead(sql: SqlReader): Promise<number>;
}

const defaultLeaseMs = 30_000;
const lastErrorMax = 500;
const us = (ms: number): number => Math.round(ms * 1000);

export function jobQueue<Row>(definition: QueueDefinition): JobQueue<Row> {
  const queue = { leaseMs: defaultLeaseMs, ...definition };
  return {
    ...queue,
    enqueue: (tx, job) => enqueue(queue, tx, job),
    requeue: (tx, id) => requeue(queue, tx, id),
    claim: (tx, limit) => claim(queue, tx, limit),
    record: (tx, job, result) => record(queue, tx, job, result),
    purge: (sql, state) => purge(queue, sql, state),
    countDue: (sql) => countDue(queue, sql),
    countDead: (sql) => countDead(queue, sql),
  };
}

type Queue = QueueDefinition & { leaseMs: number };

type Relative = Extract<ColumnValue, { secondsFromNow: number }>;
const isRelative = (value: ColumnValue): value is Relative =>
  typeof value === 'object' && value !== null && 'secondsFromNow' in value;

async function enqueue(
  { table, idColumn, retry }: Queue,
  tx: Tx,
  { id = newId(), columns, priority = 'normal', runAt, maxElapsedMs = retry.maxElapsedMs, skipped }: NewJob,
): Promise<string> {
  const names = Object.keys(columns).map((name) => `${name}, `);
  const values = Object.values(columns);
  const places = values.map((value) => (isRelative(value) ? 'utc_timestamp(6) + interval ? second, ' : '?, '));
  const params = values.map((value) => (isRelative(value) ? value.secondsFromNow : value));
  await tx.execute(
    `insert into ${table} (${names.join('')}${idColumn}, state, priority, next_attempt_at, give_up_at, created_at)
     values (${places.join('')}?, ?, ?, coalesce(?, utc_timestamp(6)),
       coalesce(?, utc_timestamp(6)) + interval ? microsecond, utc_timestamp(6))`,
    [
      ...params,
      ...[id, skipped ? 'SKIPPED' : 'QUEUED', priorities[priority]],
      ...[runAt ?? null, runAt ?? null, us(maxElapsedMs)],
    ],
  );
  return id;
}

async function requeue({ table, idColumn, doneState, retry }: Queue, tx: Tx, id: string): Promise<boolean> {
  const { affectedRows } = await tx.execute(
    `update ${table} set state = 'QUEUED', attempts = 0, last_error = '', next_attempt_at = utc_timestamp(6),
       give_up_at = utc_timestamp(6) + interval ? microsecond
     where ${idColumn} = ? and state in (?, 'DEAD')`,
    [us(retry.maxElapsedMs), id, doneState],
  );
  return affectedRows === 1;
}

interface QueueRow {
  [column: string]: unknown;
  attempts: number;
  last_error: string;
  lease_token: string | number;
  lease_expires_at: unknown;
  give_up_in_us: string | number | null;
}

/** Due: every priority is a range of the claim index, so a claim reads the rows that it returns and leased ones. */
const due = "state = 'QUEUED' and priority in (0, 1, 2) and next_attempt_at <= utc_timestamp(6)";

async function claim<Row>(
  { table, idColumn, leaseMs, retry }: Queue,
  tx: Tx,
  limit: number,
): Promise<LeasedJob<Row>[]> {
  const since = performance.now();
  const rows = await tx.query<QueueRow>(
    `select ${table}.*, timestampdiff(microsecond, utc_timestamp(6), give_up_at) as give_up_in_us
     from ${table} force index (${claimIndex(table)})
     where ${due}
       and (lease_expires_at is null or lease_expires_at < utc_timestamp(6))
     order by priority, next_attempt_at limit ? for update skip locked`,
    [limit],
  );
  if (rows.length === 0) return [];
  const leased = rows.map((row) => ({
    id: String(row[idColumn]),
    leaseToken: BigInt(row.lease_token) + 1n,
    attempt: row.attempts + 1,
    giveUpAt: row.give_up_in_us === null ? Number.POSITIVE_INFINITY : since + Number(row.give_up_in_us) / 1000,
    leaseEndsAt: since + leaseMs,
    unrecorded: row.lease_expires_at !== null,
    lastError: row.last_error,
    row: row as Row,
  }));
  await tx.execute(
    `update ${table} set attempts = greatest(attempts, least(attempts + 1, ?)), lease_token = lease_token + 1,
       lease_expires_at = utc_timestamp(6) + interval ? microsecond where ${idColumn} in (?)`,
    [retry.maxAttempts, us(leaseMs), leased.map(({ id }) => id)],
  );
  return leased;
}

async function record(
  { name, table, idColumn, doneState, doneAtColumn }: Queue,
  tx: Tx,
  { id, leaseToken, attempt }: Pick<LeasedJob<unknown>, 'id' | 'leaseToken' | 'attempt'>,
  result: JobResult,
): Promise<void> {
  const state = { done: doneState, retry: 'QUEUED', dead: 'DEAD', skipped: 'SKIPPED' }[result.kind];
  const doneAt = result.kind === 'done' && doneAtColumn ? `, ${doneAtColumn} = utc_timestamp(6)` : '';
  const { affectedRows } = await tx.execute(
    `update ${table} set state = ?, attempts = ?, last_error = ?, lease_expires_at = null,
       next_attempt_at = utc_timestamp(6) + interval ? microsecond${doneAt}
     where ${idColumn} = ? and lease_token = ? and state = 'QUEUED'`,
    [
      ...[state, attempt, result.kind === 'done' ? '' : result.error.slice(0, lastErrorMax)],
      ...[us(result.kind === 'retry' ? result.afterMs : 0), id, leaseToken],
    ],
  );
  if (affectedRows === 0) throw new StaleLeaseError(`job ${id} of queue ${name}: lease ${leaseToken} is lost`);
}

async function purge({ table, retention: { column, days } }: Queue, sql: Sql, state: string): Promise<number> {
  const { affectedRows } = await sql.execute(
    `delete from ${table} where state = ? and ${column} < utc_timestamp(6) - interval ? day order by ${column} limit 500`,
    [state, days[state] ?? null],
  );
  return affectedRows;
}

async function countDue({ table }: Queue, sql: SqlReader): Promise<number> {
  const [row] = await sql.query<{ n: string | number }>(
    `select count(*) as n from
       (select 1 from ${table} force index (${claimIndex(table)}) where ${due} limit 10000) counted`,
  );
  return Number(row!.n);
}

async function countDead({ table }: Queue, sql: SqlReader): Promise<number> {
  const [row] = await sql.query<{ n: string | number }>(
    `select count(*) as n from
       (select 1 from ${table} force index (${claimIndex(table)}) where state = 'DEAD' limit 10000) counted`,
  );
  return Number(row!.n);
}
