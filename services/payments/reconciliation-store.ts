import type { Sql, SqlReader, Tx } from '@armature/runtime';
import { type DifferenceName, differenceKinds, type LedgerDifference } from './comparison.ts';
import type { EntryKind, Operation, Payment } from './payment.ts';
import {
  type OperationRow,
  operationColumns,
  type PaymentRow,
  paymentColumns,
  toOperation,
  toPayment,
} from './rows.ts';

export interface LedgerLine {
  position: string;
  externalId: string;
  paymentId: string;
  kind: EntryKind;
  amountMinor: bigint;
  currencyCode: string;
  /** Empty where no operation has this external id. */
  operationId: string;
}

interface LedgerLineRow {
  position: string | number;
  external_id: string;
  payment_id: string;
  kind: EntryKind;
  amount: string | number;
  currency: string;
  operation_id: string | null;
}

/** The amount of a capture is the charged amount, which may be less than the released hold. */
const select = `select e.position, e.external_id, e.payment_id, e.kind,
    coalesce(max(if(p.pending, null, p.amount_minor)), max(p.amount_minor)) as amount,
    min(p.currency_code) as currency, min(o.operation_id) as operation_id
  from ledger_entry e join ledger_posting p on p.position = e.position
    left join payment_operation o on o.payment_id = e.payment_id and o.external_id = e.external_id`;
const groups = 'group by e.position, e.external_id, e.payment_id, e.kind order by e.position';

const toLine = (row: LedgerLineRow): LedgerLine => ({
  position: String(row.position),
  externalId: row.external_id,
  paymentId: row.payment_id,
  kind: row.kind,
  amountMinor: BigInt(row.amount),
  currencyCode: row.currency,
  operationId: row.operation_id ?? '',
});

/**
 * Entries after a position that are older than `graceSeconds`: lower positions than a younger entry's may commit later.
 */
export async function linesAfter(
  sql: SqlReader,
  position: string,
  { limit, graceSeconds }: { limit: number; graceSeconds: number },
): Promise<LedgerLine[]> {
  const page = await sql.query<{ position: string | number; young: number }>(
    `select position, created_at > utc_timestamp(6) - interval ? second as young
     from ledger_entry where position > ? order by position limit ?`,
    [graceSeconds, position, limit],
  );
  const young = page.findIndex((row) => Number(row.young) !== 0);
  const positions = (young < 0 ? page : page.slice(0, young)).map((row) => String(row.position));
  if (positions.length === 0) return [];
  return (await sql.query<LedgerLineRow>(`${select} where e.position in (?) ${groups}`, [positions])).map(toLine);
}

export async function linesOf(sql: SqlReader, externalIds: readonly string[]): Promise<Map<string, LedgerLine>> {
  if (externalIds.length === 0) return new Map();
  const rows = await sql.query<LedgerLineRow>(`${select} where e.external_id in (?) ${groups}`, [externalIds]);
  return new Map(rows.map((row) => [row.external_id, toLine(row)]));
}

/** Operations by acquirer key. */
export async function operationsOf(sql: SqlReader, keys: readonly string[]): Promise<Map<string, Operation>> {
  const found = new Map<string, Operation>();
  if (keys.length === 0) return found;
  for (const column of ['operation_id', 'acquirer_key']) {
    const rows = await sql.query<OperationRow & { seen: string }>(
      `select ${operationColumns}, o.${column} as seen from payment_operation o where o.${column} in (?)`,
      [keys],
    );
    for (const row of rows) found.set(row.seen, toOperation(row));
  }
  return found;
}

export async function paymentsOf(sql: SqlReader, chargeIds: readonly string[]): Promise<Map<string, Payment>> {
  if (chargeIds.length === 0) return new Map();
  const rows = await sql.query<PaymentRow>(`select ${paymentColumns} from payment p where p.charge_id in (?)`, [
    chargeIds,
  ]);
  return new Map(rows.map((row) => [row.charge_id, toPayment(row)]));
}

/** Records a resolution and its principal, in the transaction of the resolution. */
export async function recordResolution(
  tx: Tx,
  {
    resolvedBy,
    operationId,
    before,
    after,
    externalId,
  }: { resolvedBy: string; operationId: string; before: string; after: string; externalId: string },
): Promise<void> {
  await tx.execute(
    `insert into reconciliation (operation_id, resolved_by, state_before, state_after, external_id, created_at)
     values (?, ?, ?, ?, ?, utc_timestamp(6))`,
    [operationId, resolvedBy, before, after, externalId],
  );
}

/** A pass over the acquirer's log or the ledger. Full passes restart at an interval; the others continue. */
export const passes = ['acquirer', 'ledger', 'acquirer-full', 'ledger-full'] as const;
export type PassName = (typeof passes)[number];

/** The position of a pass. A full pass restarts at the first record `fullEverySeconds` after its last start. */
export async function passPosition(sql: Sql, pass: PassName, fullEverySeconds: number): Promise<string> {
  await sql.execute(
    `insert into reconciliation_position (pass, position, begun_at) values (?, 0, utc_timestamp(6))
     on duplicate key update pass = pass`,
    [pass],
  );
  if (pass.endsWith('-full')) {
    await sql.execute(
      `update reconciliation_position set position = 0, begun_at = utc_timestamp(6), caught_up_at = null
       where pass = ? and begun_at < utc_timestamp(6) - interval ? second and caught_up_at is not null`,
      [pass, fullEverySeconds],
    );
  }
  const rows = await sql.query<{ position: string | number }>(
    'select position from reconciliation_position where pass = ?',
    [pass],
  );
  return String(rows[0]?.position ?? 0);
}

/** Advances a pass, unless another process has advanced it. */
export async function advancePass(
  sql: Sql,
  pass: PassName,
  { from, to, caughtUp }: { from: string; to: string; caughtUp: boolean },
): Promise<void> {
  await sql.execute(
    `update reconciliation_position set position = ? ${caughtUp ? ', caught_up_at = utc_timestamp(6)' : ''}
     where pass = ? and position = ?`,
    [to, pass, from],
  );
}

/** Seconds since the incremental passes had compared all records; null before the first time. */
export async function secondsSinceCaughtUp(sql: SqlReader): Promise<number | null> {
  const rows = await sql.query<{ age: string | number | null; n: string | number }>(
    `select max(timestampdiff(microsecond, caught_up_at, utc_timestamp(6))) as age, count(caught_up_at) as n
     from reconciliation_position where pass in ('acquirer', 'ledger')`,
  );
  return Number(rows[0]?.n) === 2 ? Number(rows[0]?.age) / 1e6 : null;
}

export type Direction = 'acquirer' | 'ledger';

/** Stores a difference with the time of its first occurrence. True where it is new. */
export async function keepDifference(sql: Sql, direction: Direction, found: LedgerDifference): Promise<boolean> {
  const cut = (text: string) => text.slice(0, 200);
  const { affectedRows } = await sql.execute(
    `insert into reconciliation_difference (direction, external_id, kind, position, operation_id, payment_id, ours,
       theirs, first_seen_at, last_seen_at)
     values (?, ?, ?, ?, ?, ?, ?, ?, utc_timestamp(6), utc_timestamp(6))
     on duplicate key update kind = values(kind), operation_id = values(operation_id),
       payment_id = values(payment_id), ours = values(ours), theirs = values(theirs), last_seen_at = utc_timestamp(6)`,
    [
      ...[direction, found.externalId, found.kind, found.position, found.operationId, found.paymentId],
      ...[cut(found.ours), cut(found.theirs)],
    ],
  );
  return affectedRows === 1;
}

/** Deletes differences that no longer exist. */
export async function dropDifferences(sql: Sql, direction: Direction, externalIds: readonly string[]): Promise<void> {
  if (externalIds.length === 0) return;
  await sql.execute('delete from reconciliation_difference where direction = ? and external_id in (?)', [
    direction,
    externalIds,
  ]);
}

/** The external ids of the differences that were checked longest ago. */
export async function stalestDifferences(sql: SqlReader, direction: Direction, limit: number): Promise<string[]> {
  const rows = await sql.query<{ external_id: string }>(
    'select external_id from reconciliation_difference where direction = ? order by last_seen_at limit ?',
    [direction, limit],
  );
  return rows.map((row) => row.external_id);
}

export interface KeptDifference extends LedgerDifference {
  firstSeenAt: string;
  /** External id and direction, which are unique together. */
  seek: string;
}

/** Stored differences, oldest first. */
export async function listDifferences(
  sql: SqlReader,
  after: readonly [firstSeen: string, cursor: string] | null,
  limit: number,
): Promise<KeptDifference[]> {
  const [from, cursor] = after ?? ['1970-01-01', ''];
  return sql.query<KeptDifference>(
    `select kind, position, external_id as externalId, operation_id as operationId, payment_id as paymentId, ours,
       theirs, first_seen_at as firstSeenAt, concat(external_id, ' ', direction) as seek
     from reconciliation_difference
     where first_seen_at >= ? and (first_seen_at > ? or concat(external_id, ' ', direction) > ?)
     order by first_seen_at, external_id, direction limit ?`,
    [from, from, cursor, limit],
  );
}

/** The number of stored differences of each kind. */
export async function countDifferences(sql: SqlReader): Promise<Map<DifferenceName, number>> {
  const rows = await sql.query<{ kind: DifferenceName; n: string | number }>(
    'select kind, count(*) as n from reconciliation_difference group by kind',
  );
  const counted = new Map(rows.map((row) => [row.kind, Number(row.n)]));
  return new Map(differenceKinds.map((kind) => [kind, counted.get(kind) ?? 0]));
}
