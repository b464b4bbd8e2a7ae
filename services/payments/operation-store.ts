/** Operations and their resolutions, as operators list and read them. */
import type { SqlReader, Tx } from '@armature/runtime';
import type { Operation, OperationState } from './payment.ts';
import type { Resolution } from './resolution.ts';
import { type OperationRow, operationColumns, toOperation } from './rows.ts';

/** An operation with fields of its payment. Times are the database's, as text. */
export interface ShownOperation extends Operation {
  orderId: string;
  currencyCode: string;
  chargeId: string;
  createdAt: string;
  attemptedAt: string;
  needsOperatorAt: string | null;
}

interface ShownRow extends OperationRow {
  order_id: string;
  currency_code: string;
  charge_id: string;
  o_created_at: string;
  o_attempted_at: string;
}

const select = `select ${operationColumns}, o.created_at as o_created_at, o.attempted_at as o_attempted_at,
    p.order_id, p.currency_code, p.charge_id
  from payment_operation o join payment p on p.payment_id = o.payment_id`;

const toShown = (row: ShownRow): ShownOperation => ({
  ...toOperation(row),
  orderId: row.order_id,
  currencyCode: row.currency_code,
  chargeId: row.charge_id,
  createdAt: row.o_created_at,
  attemptedAt: row.o_attempted_at,
  needsOperatorAt: row.o_needs_operator_at,
});

/** The selection of operations, and the time that they are ordered by. */
export type Listing = { by: 'needs_operator_at' } | { by: 'created_at'; paymentId: string };

/** The next `limit` operations after a time and an id, oldest first. */
export async function listOperations(
  sql: SqlReader,
  listing: Listing,
  after: readonly [time: string, operationId: string] | null,
  limit: number,
): Promise<ShownOperation[]> {
  const time = `o.${listing.by}`;
  const [from, id] = after ?? ['1970-01-01', ''];
  const conditions = [`${time} >= ?`, `(${time} > ? or o.operation_id > ?)`];
  const params: string[] = [from, from, id];
  if (listing.by === 'created_at') {
    conditions.push(listing.paymentId ? 'o.payment_id = ?' : "o.state = 'PENDING'");
    if (listing.paymentId) params.push(listing.paymentId);
  }
  const rows = await sql.query<ShownRow>(
    `${select} where ${conditions.join(' and ')} order by ${time}, o.operation_id limit ?`,
    [...params, limit],
  );
  return rows.map(toShown);
}

export async function shownOperation(sql: SqlReader, operationId: string): Promise<ShownOperation | null> {
  const rows = await sql.query<ShownRow>(`${select} where o.operation_id = ?`, [operationId]);
  return rows[0] ? toShown(rows[0]) : null;
}

/** How many operations need an operator, and for how many seconds the oldest has. */
export async function operatorBacklog(sql: SqlReader): Promise<{ count: number; oldestSeconds: number }> {
  const rows = await sql.query<{ count: number | string; age: number | string | null }>(
    `select count(*) as count, timestampdiff(microsecond, min(needs_operator_at), utc_timestamp(6)) as age
     from payment_operation where needs_operator_at >= '1970-01-01'`,
  );
  return { count: Number(rows[0]?.count ?? 0), oldestSeconds: Number(rows[0]?.age ?? 0) / 1e6 };
}

export interface RecordedResolution {
  resolutionId: string;
  operationId: string;
  resolution: Resolution | 'RECORDED';
  reason: string;
  resolvedBy: string;
  stateBefore: OperationState;
  stateAfter: OperationState;
  externalId: string;
  createdAt: string;
}

/** Records a decision with its operator and reason, in the transaction of the decision. */
export async function recordDecision(tx: Tx, decision: Omit<RecordedResolution, 'createdAt'>): Promise<void> {
  await tx.execute(
    `insert into operation_resolution (resolution_id, operation_id, resolution, reason, resolved_by, state_before,
       state_after, external_id, created_at)
     values (?, ?, ?, ?, ?, ?, ?, ?, utc_timestamp(6))`,
    [
      decision.resolutionId,
      decision.operationId,
      decision.resolution,
      decision.reason,
      decision.resolvedBy,
      decision.stateBefore,
      decision.stateAfter,
      decision.externalId,
    ],
  );
}

/** Whether a decision of this id was recorded. */
export async function isDecided(sql: SqlReader, resolutionId: string): Promise<boolean> {
  const rows = await sql.query('select 1 from operation_resolution where resolution_id = ?', [resolutionId]);
  return rows.length > 0;
}

/** The first 100 resolutions of an operation, oldest first. */
export function resolutionsOf(sql: SqlReader, operationId: string): Promise<RecordedResolution[]> {
  return sql.query<RecordedResolution>(
    `select resolution_id as resolutionId, operation_id as operationId, resolution, reason,
       resolved_by as resolvedBy, state_before as stateBefore, state_after as stateAfter, external_id as externalId,
       created_at as createdAt
     from operation_resolution where operation_id = ? order by position limit 100`,
    [operationId],
  );
}

/** Whether the ledger has an entry of this external id. */
export async function inLedger(sql: SqlReader, externalId: string): Promise<boolean> {
  const rows = await sql.query('select 1 from ledger_entry where external_id = ?', [externalId]);
  return rows.length > 0;
}
