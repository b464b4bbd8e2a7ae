/** Queries of sagas for operators. */
import type { SqlReader } from '../db/tx.ts';
import type { Page } from '../rpc/paging.ts';
import type { Input } from '../saga/core.ts';
import type { Status } from '../saga/store.ts';
import type { Chosen } from './actions.ts';

export interface SagaView {
  sagaId: string;
  name: string;
  definitionVersion: number;
  subjectId: string;
  status: Status;
  /** As stored: `readState` makes it a State. */
  state: string;
  data: Record<string, unknown>;
  createdAt: string;
  updatedAt: string;
  deadlineAt: string;
}

interface Row extends Omit<SagaView, 'data'> {
  data: string;
}

const columns = `saga_id as sagaId, name, definition_version as definitionVersion, subject_id as subjectId, status, state, data, created_at as createdAt,
  updated_at as updatedAt, deadline_at as deadlineAt`;

const toView = (row: Row): SagaView => ({
  ...row,
  data: JSON.parse(row.data) as Record<string, unknown>,
});

/**
 * Newest first; one row more than the page, when there is one. Sagas that have not ended are few and are found by their
 * status. Without the index hint the server might scan all ended ones.
 */
export async function listSagas(
  sql: SqlReader,
  wanted: { statuses: readonly Status[]; name: string; olderThanSeconds: bigint },
  page: Page<[string]>,
): Promise<SagaView[]> {
  const unfinished = wanted.statuses.every((status) => status !== 'COMPLETED' && status !== 'FAILED');
  const conditions = ['status in (?)', 'saga_id < ?'];
  const params: (string | number | bigint | readonly string[])[] = [wanted.statuses, page.after?.[0] ?? 'g'];
  if (wanted.name) {
    conditions.push('name = ?');
    params.push(wanted.name);
  }
  if (wanted.olderThanSeconds > 0n) {
    conditions.push('created_at <= utc_timestamp(6) - interval ? second');
    params.push(wanted.olderThanSeconds);
  }
  const rows = await sql.query<Row>(
    `select ${columns} from saga ${unfinished ? 'force index (saga_status)' : ''}
     where ${conditions.join(' and ')} order by saga_id desc limit ?`,
    [...params, page.size + 1],
  );
  return rows.map(toView);
}

export async function findSaga(sql: SqlReader, sagaId: string): Promise<SagaView | null> {
  const [row] = await sql.query<Row>(`select ${columns} from saga where saga_id = ?`, [sagaId]);
  return row ? toView(row) : null;
}

/** The filter for stuck sagas. `steps` are the indexes of a step in the versions of definitions; null: any. */
export interface StuckWanted {
  /** The definitions that this process has: it can resume no other saga. */
  known: readonly { name: string; version: number }[];
  name: string;
  steps: readonly { name: string; version: number; index: number }[] | null;
  reason: string;
  olderThanSeconds: bigint;
}

/**
 * The oldest stuck sagas that match and whose version this process knows: others would fill every page without a
 * result.
 */
export async function chooseStuck(sql: SqlReader, wanted: StuckWanted, limit: number): Promise<Chosen> {
  const conditions = ["status = 'STUCK'"];
  const params: (string | number | bigint)[] = [];
  const add = (condition: string, ...values: (string | number | bigint)[]) => {
    conditions.push(condition);
    params.push(...values);
  };
  const versions = wanted.known.map(() => '(name = ? and definition_version = ?)');
  add(
    versions.length > 0 ? `(${versions.join(' or ')})` : '1 = 0',
    ...wanted.known.flatMap((one) => [one.name, one.version]),
  );
  if (wanted.name !== '') add('name = ?', wanted.name);
  if (wanted.olderThanSeconds > 0n) {
    // Branches that are not stuck update the row repeatedly.
    add('if(due_at is null, updated_at, created_at) <= utc_timestamp(6) - interval ? second', wanted.olderThanSeconds);
  }
  const places = wanted.steps?.map(() => '(name = ? and definition_version = ? and step = ?)').join(' or ') || '1 = 0';
  add(
    `exists (select 1 from ${branches} where why is not null and locate(lower(?), lower(why)) > 0${wanted.steps ? ` and (${places})` : ''})`,
    wanted.reason,
    ...(wanted.steps ?? []).flatMap(({ name, version, index }) => [name, version, index]),
  );
  const rows = await sql.query<{ id: string }>(
    `select saga_id as id from saga force index (saga_status) where ${conditions.join(' and ')} order by saga_id limit ?`,
    [...params, limit + 1],
  );
  return { ids: rows.slice(0, limit).map(({ id }) => id), more: rows.length > limit };
}

/**
 * The branches of a saga, as a table; `why` is null where one is not stuck. States of format 1 are a branch themselves.
 */
const branches = `json_table(coalesce(json_extract(state, '$.branches'), concat('[', state, ']')), '$[*]'
  columns (step int path '$.step', why varchar(500) path '$.stuck.reason')) branch`;

/** The sagas of these ids that exist, oldest first. */
export async function sagasById(sql: SqlReader, ids: readonly string[]): Promise<SagaView[]> {
  if (ids.length === 0) return [];
  const rows = await sql.query<Row>(`select ${columns} from saga where saga_id in (?) order by saga_id`, [ids]);
  return rows.map(toView);
}

export interface LogView {
  position: number;
  step: string;
  kind: string;
  outcome: string;
  attempt: number;
  input: Input;
  at: string;
}

/** The newest entries of a saga's history, oldest first. */
export async function sagaHistory(sql: SqlReader, sagaId: string, limit: number): Promise<LogView[]> {
  const rows = await sql.query<Omit<LogView, 'input'> & { detail: string }>(
    `select position, step, kind, outcome, attempt, detail, at from saga_log where saga_id = ?
     order by position desc limit ?`,
    [sagaId, limit],
  );
  return rows.reverse().map(({ detail, ...row }) => ({ ...row, input: JSON.parse(detail) as Input }));
}
