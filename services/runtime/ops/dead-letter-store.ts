/** Queries of dead letters for operators. */
import type { DeadLetterFilter } from '@armature/proto/ops/v1/ops.ts';
import type { Param, SqlReader, Tx } from '../db/tx.ts';
import type { Page } from '../rpc/paging.ts';
import type { Chosen } from './actions.ts';

export type DeadLetterRowState = 'open' | 'unknown' | 'redriven' | 'dropped';

/** A dead letter without its body. */
export interface DeadLetterRow {
  id: string;
  consumer: string;
  messageId: string;
  publisher: string;
  type: string;
  aggregateId: string | null;
  sequence: string | number | null;
  reason: string;
  attempts: number;
  bodyBytes: string | number;
  deadAt: string;
  redrivenAt: string | null;
  droppedAt: string | null;
  droppedBy: string | null;
  dropWhy: string | null;
  /** 1: an event of a type that this service did not know. */
  unknownType: number;
}

const columns = `id, consumer, message_id as messageId, publisher, type, aggregate_id as aggregateId, sequence, reason,
  attempts, length(body) as bodyBytes, dead_at as deadAt, redriven_at as redrivenAt, dropped_at as droppedAt,
  dropped_by as droppedBy, drop_why as dropWhy, unknown_type as unknownType`;

const stateConditions: Record<DeadLetterRowState, string> = {
  open: 'redriven_at is null and dropped_at is null and unknown_type = 0',
  unknown: 'redriven_at is null and dropped_at is null and unknown_type = 1',
  redriven: 'redriven_at is not null',
  dropped: 'dropped_at is not null',
};

function where(
  state: DeadLetterRowState,
  filter: DeadLetterFilter | undefined,
): { conditions: string[]; params: Param[] } {
  const conditions = [stateConditions[state]];
  const params: Param[] = [];
  const add = (wanted: boolean, condition: string, ...values: Param[]) => {
    if (!wanted) return;
    conditions.push(condition);
    params.push(...values);
  };
  if (filter) {
    const { consumer, eventType, reason, olderThanSeconds } = filter;
    add(consumer !== '', 'consumer = ?', consumer);
    add(eventType.includes('.'), 'type = ?', eventType);
    add(eventType !== '' && !eventType.includes('.'), "substring_index(type, '.', -1) = ?", eventType);
    add(reason !== '', 'locate(?, reason) > 0', reason);
    add(olderThanSeconds > 0n, 'dead_at <= utc_timestamp(6) - interval ? second', olderThanSeconds);
  }
  return { conditions, params };
}

/** Newest first; one row more than the page, when there is one. Ids sort by time. */
export function listDeadLetterRows(
  sql: SqlReader,
  state: DeadLetterRowState,
  filter: DeadLetterFilter | undefined,
  page: Page<[string]>,
): Promise<DeadLetterRow[]> {
  const { conditions, params } = where(state, filter);
  return sql.query<DeadLetterRow>(
    `select ${columns} from dead_letter where ${conditions.join(' and ')} and id < ? order by id desc limit ?`,
    [...params, page.after?.[0] ?? 'g', page.size + 1],
  );
}

export async function findDeadLetter(sql: SqlReader, id: string): Promise<DeadLetterRow | null> {
  const [row] = await sql.query<DeadLetterRow>(`select ${columns} from dead_letter where id = ?`, [id]);
  return row ?? null;
}

export async function bodyOf(sql: SqlReader, id: string): Promise<Buffer> {
  const [row] = await sql.query<{ body: Buffer }>('select body from dead_letter where id = ?', [id]);
  return row?.body ?? Buffer.alloc(0);
}

/**
 * The oldest open dead letters that match, so that those of one aggregate come in the order of its events; including
 * those of formerly unknown types that are in `types` now.
 */
export async function chooseDeadLetters(
  sql: SqlReader,
  filter: DeadLetterFilter,
  types: readonly string[],
  limit: number,
): Promise<Chosen> {
  const choose = (state: 'open' | 'unknown') => {
    const { conditions, params } = where(state, filter);
    if (state === 'unknown') conditions.push('type in (?)');
    const query = `select id from dead_letter where ${conditions.join(' and ')} order by id limit ?`;
    return sql.query<{ id: string }>(query, [...params, ...(state === 'unknown' ? [types] : []), limit + 1]);
  };
  const open = await choose('open');
  const known = types.length > 0 ? await choose('unknown') : [];
  const rows = [...open, ...known].sort((a, b) => (a.id < b.id ? -1 : 1));
  return { ids: rows.slice(0, limit).map(({ id }) => id), more: rows.length > limit };
}

/** The dead letters of these ids that exist, oldest first. */
export async function deadLettersById(sql: SqlReader, ids: readonly string[]): Promise<DeadLetterRow[]> {
  if (ids.length === 0) return [];
  return sql.query<DeadLetterRow>(`select ${columns} from dead_letter where id in (?) order by id`, [ids]);
}

/**
 * Drops an open dead letter. Returns false when it is not open. A concurrent redrive commits first or finds it dropped.
 */
export async function dropDeadLetterRow(tx: Tx, id: string, by: string, why: string): Promise<boolean> {
  const { affectedRows } = await tx.execute(
    `update dead_letter set dropped_at = utc_timestamp(6), dropped_by = ?, drop_why = ?
     where id = ? and redriven_at is null and dropped_at is null`,
    [by, why, id],
  );
  return affectedRows === 1;
}

export const stateOf = (row: DeadLetterRow): DeadLetterRowState =>
  row.redrivenAt !== null
    ? 'redriven'
    : row.droppedAt !== null
      ? 'dropped'
      : row.unknownType === 1
        ? 'unknown'
        : 'open';
