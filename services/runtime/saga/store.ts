/** The tables of the saga engine. All times are the database's own. */

import type { Sql, Tx } from '../db/tx.ts';
import type { Input, State } from './core.ts';
import type { Held, Json } from './definition.ts';

export type Status = 'RUNNING' | 'WAITING' | 'COMPLETED' | 'FAILED' | 'STUCK';

/** A saga as its row says. */
export interface SagaRow {
  sagaId: string;
  name: string;
  subjectId: string;
  status: Status;
  state: State;
  version: number;
  leased: boolean;
}

const us = (ms: number) => Math.round(ms * 1000);

/** The status that a state shows itself by. */
export function statusOf(state: State, waits: boolean): Status {
  if (state.phase === 'completed') return 'COMPLETED';
  if (state.phase === 'failed') return 'FAILED';
  if (state.phase === 'stuck') return 'STUCK';
  return waits ? 'WAITING' : 'RUNNING';
}

export async function insertSaga(
  tx: Tx,
  saga: {
    sagaId: string;
    name: string;
    subjectId: string;
    state: State;
    data: string;
    timeLimitMs: number;
    traceparent: string | null;
    lease: { holder: string; leaseMs: number } | null;
  },
): Promise<void> {
  const { lease } = saga;
  await tx.execute(
    `insert into saga (saga_id, name, subject_id, status, state, results, data, lease_holder, lease_token, due_at,
       deadline_at, traceparent, created_at, updated_at)
     values (?, ?, ?, 'RUNNING', ?, '{}', ?, ?, ?, utc_timestamp(6) + interval ? microsecond,
       utc_timestamp(6) + interval ? microsecond, ?, utc_timestamp(6), utc_timestamp(6))`,
    [
      saga.sagaId,
      saga.name,
      saga.subjectId,
      JSON.stringify(saga.state),
      saga.data,
      lease?.holder ?? null,
      lease ? 1 : 0,
      us(lease?.leaseMs ?? 0),
      us(saga.timeLimitMs),
      saga.traceparent,
    ],
  );
}

interface LeasedRow {
  saga_id: string;
  name: string;
  subject_id: string;
  state: string;
  results: string;
  data: string;
  version: number;
  lease_token: string | number;
  traceparent: string | null;
  left_us: string | number;
  age_us: string | number;
}

/** Takes up to `limit` sagas that are due. What another worker is taking at this moment is passed over. */
export async function leaseDue(
  tx: Tx,
  names: readonly string[],
  limit: number,
  lease: { holder: string; leaseMs: number },
): Promise<{ name: string; saga: Held }[]> {
  const asked = performance.now();
  const rows = await tx.query<LeasedRow>(
    `select saga_id, name, subject_id, state, results, data, version, lease_token, traceparent,
       timestampdiff(microsecond, utc_timestamp(6), deadline_at) as left_us,
       timestampdiff(microsecond, created_at, utc_timestamp(6)) as age_us
     from saga where due_at <= utc_timestamp(6) and name in (?) order by due_at limit ? for update skip locked`,
    [names, limit],
  );
  if (rows.length === 0) return [];
  await tx.execute(
    `update saga set lease_holder = ?, lease_token = lease_token + 1, status = 'RUNNING',
       due_at = utc_timestamp(6) + interval ? microsecond where saga_id in (?)`,
    [lease.holder, us(lease.leaseMs), rows.map((row) => row.saga_id)],
  );
  return rows.map((row) => ({
    name: row.name,
    saga: {
      sagaId: row.saga_id,
      subjectId: row.subject_id,
      data: JSON.parse(row.data) as unknown,
      traceparent: row.traceparent,
      token: BigInt(row.lease_token) + 1n,
      state: JSON.parse(row.state) as State,
      results: JSON.parse(row.results) as Record<string, Json>,
      version: row.version,
      leasedUntil: asked + lease.leaseMs,
      expiresAt: asked + Number(row.left_us) / 1000,
      startedAt: asked - Number(row.age_us) / 1000,
    },
  }));
}

/** What a recording leaves behind. */
export interface Written {
  state: State;
  results: Readonly<Record<string, Json>>;
  version: number;
  status: Status;
  /** Null: the lease goes back. */
  holder: string | null;
  /** From now until the saga is due again, or its lease ends. Null: it rests. */
  dueInMs: number | null;
}

/**
 * Writes a new state if the lease is still the same and nothing was written meanwhile; else changes nothing
 * and returns false. This is the fence: a worker that was paused past its lease fails here.
 */
export async function writeState(
  tx: Tx,
  saga: { sagaId: string; token: bigint; version: number },
  written: Written,
): Promise<boolean> {
  const { affectedRows } = await tx.execute(
    `update saga set state = ?, results = ?, version = ?, status = ?, lease_holder = ?,
       due_at = utc_timestamp(6) + interval ? microsecond, updated_at = utc_timestamp(6)
     where saga_id = ? and lease_token = ? and version = ?`,
    [
      JSON.stringify(written.state),
      JSON.stringify(written.results),
      written.version,
      written.status,
      written.holder,
      written.dueInMs === null ? null : us(written.dueInMs),
      saga.sagaId,
      saga.token,
      saga.version,
    ],
  );
  return affectedRows === 1;
}

/** One applied input: what was due when it came, and the input itself. */
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

/** Reads what changed under the holder's feet. Null when the lease is somebody else's. */
export async function reload(
  sql: Sql,
  saga: Held,
): Promise<{ state: State; results: Record<string, Json>; version: number; leased: boolean } | null> {
  const rows = await sql.query<{ state: string; results: string; version: number; lease_holder: string | null }>(
    'select state, results, version, lease_holder from saga where saga_id = ? and lease_token = ?',
    [saga.sagaId, saga.token],
  );
  const [row] = rows;
  if (!row) return null;
  return {
    state: JSON.parse(row.state) as State,
    results: JSON.parse(row.results) as Record<string, Json>,
    version: row.version,
    leased: row.lease_holder !== null,
  };
}

/** Prolongs a lease. False when it is lost. */
export async function renewLease(sql: Sql, saga: Held, leaseMs: number): Promise<boolean> {
  const { affectedRows } = await sql.execute(
    `update saga set due_at = utc_timestamp(6) + interval ? microsecond
     where saga_id = ? and lease_token = ? and lease_holder is not null`,
    [us(leaseMs), saga.sagaId, saga.token],
  );
  return affectedRows === 1;
}

/** Gives a lease back; the saga is due again after `dueInMs`. */
export async function releaseLease(sql: Sql, saga: Held, dueInMs: number): Promise<void> {
  await sql.execute(
    `update saga set lease_holder = null, due_at = utc_timestamp(6) + interval ? microsecond,
       status = if(? > 0, 'WAITING', 'RUNNING')
     where saga_id = ? and lease_token = ? and lease_holder is not null`,
    [us(dueInMs), us(dueInMs), saga.sagaId, saga.token],
  );
}

interface StoredRow {
  saga_id: string;
  name: string;
  subject_id: string;
  status: Status;
  state: string;
  version: number;
  lease_holder: string | null;
}

const toRow = (row: StoredRow): SagaRow => ({
  sagaId: row.saga_id,
  name: row.name,
  subjectId: row.subject_id,
  status: row.status,
  state: JSON.parse(row.state) as State,
  version: row.version,
  leased: row.lease_holder !== null,
});

const columns = 'saga_id, name, subject_id, status, state, version, lease_holder';

export async function lockBySubject(tx: Tx, name: string, subjectId: string): Promise<SagaRow | null> {
  const rows = await tx.query<StoredRow>(`select ${columns} from saga where name = ? and subject_id = ? for update`, [
    name,
    subjectId,
  ]);
  return rows[0] ? toRow(rows[0]) : null;
}

export async function lockById(tx: Tx, name: string, sagaId: string): Promise<SagaRow | null> {
  const rows = await tx.query<StoredRow>(`select ${columns} from saga where saga_id = ? and name = ? for update`, [
    sagaId,
    name,
  ]);
  return rows[0] ? toRow(rows[0]) : null;
}

/** Writes a state that somebody other than the holder has changed. The row must be locked. A saga nobody holds is due at once. */
export async function writeLocked(tx: Tx, row: SagaRow, state: State, log: LogEntry): Promise<void> {
  const resting = statusOf(state, false) !== 'RUNNING';
  await tx.execute(
    `update saga set state = ?, version = version + 1, updated_at = utc_timestamp(6),
       status = if(lease_holder is null, ?, status),
       due_at = if(lease_holder is null, if(?, null, utc_timestamp(6)), due_at)
     where saga_id = ?`,
    [JSON.stringify(state), statusOf(state, false), resting ? 1 : 0, row.sagaId],
  );
  await appendLog(tx, row.sagaId, row.version, [log]);
}

export interface Tally {
  name: string;
  status: Status;
  count: number;
  oldestSeconds: number;
}

/** Counts what has not ended; what has is never looked at, however much there is. */
export async function tally(sql: Sql): Promise<Tally[]> {
  const rows = await sql.query<{ name: string; status: Status; count: string | number; age: string | number }>(
    `select name, status, count(*) as count, timestampdiff(microsecond, min(created_at), utc_timestamp(6)) as age
     from saga where status in ('RUNNING', 'WAITING', 'STUCK') group by name, status`,
  );
  return rows.map(({ name, status, count, age }) => ({
    name,
    status,
    count: Number(count),
    oldestSeconds: Number(age) / 1_000_000,
  }));
}
