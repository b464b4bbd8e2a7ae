import type { Sql, Tx } from '@armature/runtime';
import type { EntryKind, Operation } from './payment.ts';
import { type OperationRow, operationColumns, toOperation } from './rows.ts';

export interface LedgerLine {
  position: string;
  externalId: string;
  paymentId: string;
  kind: EntryKind;
  amountMinor: bigint;
  currencyCode: string;
  /** Empty where no operation of ours has this external id. */
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

const select = `select e.position, e.external_id, e.payment_id, e.kind, max(p.amount_minor) as amount,
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

export async function linesAfter(sql: Sql, position: string, limit: number): Promise<LedgerLine[]> {
  const rows = await sql.query<LedgerLineRow>(
    `${select} where e.position in (select position from (
       select position from ledger_entry where position > ? order by position limit ?) page) ${groups}`,
    [position, limit],
  );
  return rows.map(toLine);
}

export async function linesOf(sql: Sql, externalIds: readonly string[]): Promise<Map<string, LedgerLine>> {
  if (externalIds.length === 0) return new Map();
  const rows = await sql.query<LedgerLineRow>(`${select} where e.external_id in (?) ${groups}`, [externalIds]);
  return new Map(rows.map((row) => [row.external_id, toLine(row)]));
}

export async function operationsOf(sql: Sql, operationIds: readonly string[]): Promise<Map<string, Operation>> {
  if (operationIds.length === 0) return new Map();
  const rows = await sql.query<OperationRow>(
    `select ${operationColumns} from payment_operation o where o.operation_id in (?)`,
    [operationIds],
  );
  return new Map(rows.map((row) => [row.o_operation_id, toOperation(row)]));
}

/** Who resolved what, in the transaction of the resolution. */
export async function recordResolution(
  tx: Tx,
  { resolvedBy, before, after }: { resolvedBy: string; before: Operation; after: Operation },
): Promise<void> {
  await tx.execute(
    `insert into reconciliation (operation_id, resolved_by, state_before, state_after, external_id, created_at)
     values (?, ?, ?, ?, ?, utc_timestamp(6))`,
    [before.operationId, resolvedBy, before.state, after.state, after.externalId],
  );
}
