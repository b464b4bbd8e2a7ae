/** The tables of the saga engine. All times are by the clock of the database. */

import type { SqlReader, Tx } from '../db/tx.ts';
import type { Input, State } from './core.ts';
import type { Json, LeasedSaga } from './definition.ts';
import type { Partition } from './partitions.ts';

export type Status = 'RUNNING' | 'WAITING' | 'COMPLETED' | 'FAILED' | 'STUCK';

/** The row of a saga. */
export interface SagaRow {
  sagaId: string;
  name: string;
  definitionVersion: number;
  subjectId: string;
  status: Status;
  /** As stored: `readState` makes it a State. */
  state: string;
  data: unknown;
  results: Record<string, Json>;
  version: number;
  leased: boolean;
}

/**
 * The deadline of a saga without a time limit: the column is not nullable, and processes of earlier releases read it.
 */
export const noDeadline = '9999-12-31 00:00:00';

const us = (ms: number) => Math.round(ms * 1000);

/**
 * The status of a state. One stuck branch makes it STUCK, so that operators see it, also while other branches continue:
 * whether a worker takes the saga depends on `due_at` alone.
 */
export function statusOf(state: State, waits: boolean): Status {
  if (state.end === 'completed') return 'COMPLETED';
  if (state.end === 'failed') return 'FAILED';
  if (state.branches.some(({ stuck }) => stuck !== null)) return 'STUCK';
  return waits ? 'WAITING' : 'RUNNING';
}

export async function insertSaga(
  tx: Tx,
  saga: {
    sagaId: string;
    partition: Partition;
    subjectId: string;
    state: State;
    data: string;
    timeLimitMs: number | null;
    traceparent: string | null;
    lease: { holder: string; leaseMs: number } | null;
  },
): Promise<void> {
  const { partition, lease } = saga;
  await tx.execute(
    `insert into saga (saga_id, name, definition_version, subject_id, status, state, results, data, lease_holder,
       lease_token, due_at, dependency, urgent, deadline_at, traceparent, created_at, updated_at)
     values (?, ?, ?, ?, 'RUNNING', ?, '{}', ?, ?, ?, utc_timestamp(6) + interval ? microsecond, ?, ?,
       coalesce(utc_timestamp(6) + interval ? microsecond, '${noDeadline}'), ?, utc_timestamp(6), utc_timestamp(6))`,
    [
      saga.sagaId,
      partition.name,
      partition.version,
      saga.subjectId,
      JSON.stringify(saga.state),
      saga.data,
      lease?.holder ?? null,
      lease ? 1 : 0,
      us(lease?.leaseMs ?? 0),
      partition.dependency,
      partition.urgent ? 1 : 0,
      saga.timeLimitMs === null ? null : us(saga.timeLimitMs),
      saga.traceparent,
    ],
  );
}

/** The columns that a recording writes. */
export interface Written {
  state: State;
  results: Readonly<Record<string, Json>>;
  version: number;
  status: Status;
  /** Null: the lease is released. */
  holder: string | null;
  /** From now until the saga is due again, or its lease ends. Null: it rests. */
  dueInMs: number | null;
  /** The data to be stored, without secrets when the saga ends. Null: unchanged. */
  data: string | null;
  partition: Partition;
}

/**
 * Writes a new state if the lease is still the same and no other state was written meanwhile; else changes nothing and
 * returns false. This is the fence: a worker that was paused past its lease fails here.
 */
export async function writeState(
  tx: Tx,
  saga: { sagaId: string; token: bigint; version: number },
  written: Written,
): Promise<boolean> {
  const { affectedRows } = await tx.execute(
    `update saga set state = ?, results = ?, data = coalesce(?, data), version = ?, status = ?, lease_holder = ?,
       due_at = utc_timestamp(6) + interval ? microsecond, dependency = ?, urgent = ?, secrets_removed = ?,
       updated_at = utc_timestamp(6)
     where saga_id = ? and lease_token = ? and version = ?`,
    [
      JSON.stringify(written.state),
      JSON.stringify(written.results),
      written.data,
      written.version,
      written.status,
      written.holder,
      written.dueInMs === null ? null : us(written.dueInMs),
      written.partition.dependency,
      written.partition.urgent ? 1 : 0,
      written.state.end === null ? 0 : 1,
      saga.sagaId,
      saga.token,
      saga.version,
    ],
  );
  return affectedRows === 1;
}

/** One applied input: the command that was due, and the input itself. */
export interface LogEntry {
  step: string;
  kind: string;
  attempt: number;
  input: Input;
}

/** Appends to the history, after position `after`. */
export async function appendLog(tx: Tx, sagaId: string, after: number, entries: readonly LogEntry[]): Promise<void> {
  const rows = entries.map(() => '(?, ?, ?, ?, ?, ?, ?, utc_timestamp(6))').join(', ');
  await tx.execute(
    `insert into saga_log (saga_id, position, step, kind, outcome, attempt, detail, at) values ${rows}`,
    entries.flatMap(({ step, kind, attempt, input }, index) => [
      sagaId,
      after + index + 1,
      step,
      kind,
      input.kind,
      attempt,
      JSON.stringify(input),
    ]),
  );
}

/** Reads the columns that have changed while the saga was leased. Null when the lease is lost. */
export async function reload(
  sql: SqlReader,
  saga: LeasedSaga,
): Promise<{ state: string; results: Record<string, Json>; version: number; leased: boolean } | null> {
  const rows = await sql.query<{ state: string; results: string; version: number; lease_holder: string | null }>(
    'select state, results, version, lease_holder from saga where saga_id = ? and lease_token = ?',
    [saga.sagaId, saga.token],
  );
  const [row] = rows;
  if (!row) return null;
  return {
    state: row.state,
    results: JSON.parse(row.results) as Record<string, Json>,
    version: row.version,
    leased: row.lease_holder !== null,
  };
}

interface StoredRow {
  saga_id: string;
  name: string;
  definition_version: number;
  subject_id: string;
  status: Status;
  state: string;
  data: string;
  results: string;
  version: number;
  lease_holder: string | null;
}

const toRow = (row: StoredRow): SagaRow => ({
  sagaId: row.saga_id,
  name: row.name,
  definitionVersion: row.definition_version,
  subjectId: row.subject_id,
  status: row.status,
  state: row.state,
  data: JSON.parse(row.data) as unknown,
  results: JSON.parse(row.results) as Record<string, Json>,
  version: row.version,
  leased: row.lease_holder !== null,
});

const columns = 'saga_id, name, definition_version, subject_id, status, state, data, results, version, lease_holder';

export async function lockBySubject(tx: Tx, name: string, subjectId: string): Promise<SagaRow | null> {
  const rows = await tx.query<StoredRow>(`select ${columns} from saga where name = ? and subject_id = ? for update`, [
    name,
    subjectId,
  ]);
  return rows[0] ? toRow(rows[0]) : null;
}

export async function lockById(tx: Tx, sagaId: string): Promise<SagaRow | null> {
  const rows = await tx.query<StoredRow>(`select ${columns} from saga where saga_id = ? for update`, [sagaId]);
  return rows[0] ? toRow(rows[0]) : null;
}

/**
 * Writes a state that a cancel request or an operator has changed. The row must be locked. A saga that ends or rests by
 * it loses its holder, whose next recording detects that; a saga without a holder is due at once.
 */
export async function writeLocked(
  tx: Tx,
  row: SagaRow,
  { state, data, partition }: { state: State; data: string | null; partition: Partition },
  log: LogEntry,
): Promise<void> {
  const rests = state.branches.every(({ stuck }) => stuck !== null) ? 1 : 0;
  await tx.execute(
    `update saga set state = ?, data = coalesce(?, data), version = version + 1, updated_at = utc_timestamp(6), status = ?,
       due_at = if(? = 1, null, if(lease_holder is null, utc_timestamp(6), due_at)), dependency = ?, urgent = ?,
       secrets_removed = ?, lease_holder = if(? = 1, null, lease_holder)
     where saga_id = ?`,
    [
      ...[JSON.stringify(state), data, statusOf(state, false), rests],
      ...[partition.dependency, partition.urgent ? 1 : 0, state.end === null ? 0 : 1, rests, row.sagaId],
    ],
  );
  await appendLog(tx, row.sagaId, row.version, [log]);
}

/** Removes the time limit of a saga. The row must be locked. */
export async function removeDeadline(tx: Tx, sagaId: string): Promise<void> {
  await tx.execute('update saga set deadline_at = ? where saga_id = ?', [noDeadline, sagaId]);
}

export interface Tally {
  name: string;
  version: number;
  status: Status;
  count: number;
  oldestSeconds: number;
}

/** Counts sagas that have not ended; ended ones are never read, however many there are. */
export async function tally(sql: SqlReader): Promise<Tally[]> {
  interface Row extends Omit<Tally, 'count' | 'oldestSeconds'> {
    count: string | number;
    age: string | number;
  }
  const rows = await sql.query<Row>(
    `select name, definition_version as version, status, count(*) as count,
       timestampdiff(microsecond, min(created_at), utc_timestamp(6)) as age
     from saga where status in ('RUNNING', 'WAITING', 'STUCK') group by name, definition_version, status`,
  );
  return rows.map(({ name, version, status, count, age }) => ({
    name,
    version,
    status,
    count: Number(count),
    oldestSeconds: Number(age) / 1_000_000,
  }));
}
