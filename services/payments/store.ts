/**
 * Payments and their operations in the database. intent-store.ts records intents, pending-store.ts schedules pending
 * operations, change-store.ts writes changes, ledger-store.ts has the ledger. Locks are taken on the payment first,
 * then on the operation.
 */
import type { Page, SqlReader, Tx } from '@armature/runtime';
import { requestIdReused } from '@armature/runtime/errors';
import type { StoredHash } from '@armature/runtime/idempotency';
import { changeOperation, type PaymentAndOperation, writeChange } from './change-store.ts';
import { intentStore, type OperationRequest } from './intent-store.ts';
import { completeOperation, endHold, type HoldEnd, type Operation, type Outcome, type Payment } from './payment.ts';
import { pendingStore } from './pending-store.ts';
import {
  type OperationRow,
  operationColumns,
  type PaymentRow,
  paymentColumns,
  toOperation,
  toPayment,
} from './rows.ts';

/** What is needed to find an operation and lock its payment first, and the key that the acquirer received. */
export type OperationRef = Pick<Operation, 'operationId' | 'paymentId' | 'key'>;

/** A locked payment, and the operation of the request, if an earlier attempt recorded it. */
export interface LockedPayment {
  payment: Payment | null;
  operation: Operation | null;
}

export function paymentStore({ pendingResolveMs }: { pendingResolveMs: number }) {
  const resolveAt = `utc_timestamp(6) + interval ${pendingResolveMs * 1_000} microsecond`;
  return {
    ...intentStore(resolveAt),
    ...pendingStore(resolveAt),
    payment: findPayment,
    list: listPayments,
    paymentOfCharge: findPaymentOfCharge,
    lock: lockPayment,
    methodHash: findMethodHash,
    refundedBy: sumOfRefundsBy,
    completeOperation: applyOutcome,
    endHold: applyHoldEnd,
  };
}

export type PaymentStore = ReturnType<typeof paymentStore>;

async function findPayment(sql: SqlReader, paymentId: string): Promise<Payment | null> {
  const rows = await sql.query<PaymentRow>(`select ${paymentColumns} from payment p where p.payment_id = ?`, [
    paymentId,
  ]);
  return rows[0] ? toPayment(rows[0]) : null;
}

/**
 * Newest first, because ids are ordered by time; of one customer, or of all where the id is empty. Returns one row more
 * than the page size where there is a next page.
 */
async function listPayments(sql: SqlReader, customerId: string, page: Page<[string]>): Promise<Payment[]> {
  const rows = await sql.query<PaymentRow>(
    `select ${paymentColumns} from payment p where ${customerId ? 'p.customer_id = ? and ' : ''}p.payment_id < ?
     order by p.payment_id desc limit ?`,
    [...(customerId ? [customerId] : []), page.after?.[0] ?? 'g', page.size + 1],
  );
  return rows.map(toPayment);
}

/** The payment of a charge of the acquirer. */
async function findPaymentOfCharge(sql: SqlReader, chargeId: string): Promise<Payment | null> {
  const rows = await sql.query<PaymentRow>(`select ${paymentColumns} from payment p where p.charge_id = ? limit 1`, [
    chargeId,
  ]);
  return rows[0] ? toPayment(rows[0]) : null;
}

/**
 * Locks the payment, and finds the operation of an earlier attempt of this request. Throws REQUEST_ID_REUSED where the
 * request id belongs to a request about another payment, or to one that `same` does not recognize.
 */
async function lockPayment(
  tx: Tx,
  paymentId: string,
  request: OperationRequest,
  same: (payment: Payment, operation: Operation) => boolean,
): Promise<LockedPayment> {
  const rows = await tx.query<PaymentRow & Partial<OperationRow>>(
    `select ${paymentColumns}, ${operationColumns}
     from payment p left join payment_operation o on o.operation_id = ?
     where p.payment_id = ? for update`,
    [request.operationId, paymentId],
  );
  const [row] = rows;
  const operation = row
    ? row.o_operation_id
      ? toOperation(row as OperationRow)
      : null
    : await findOperation(tx, request.operationId);
  const payment = row ? toPayment(row) : null;
  if (operation && !(payment && operation.paymentId === paymentId && same(payment, operation)))
    throw requestIdReused('request_id');
  return { payment, operation };
}

/** The digest of the payment method of an authorization; null where none was stored. */
async function findMethodHash(tx: Tx, operationId: string): Promise<StoredHash | null> {
  const rows = await tx.query<{ digest: Buffer | null; version: number; keyId: string }>(
    `select method_digest as digest, method_hash_version as version, method_hash_key as keyId
     from payment_operation where operation_id = ?`,
    [operationId],
  );
  const [row] = rows;
  return row?.digest ? { digest: row.digest, version: Number(row.version), keyId: row.keyId } : null;
}

/** The sum of the refunds of a payment that this principal requested, including the given operation. */
async function sumOfRefundsBy(tx: Tx, principal: string, { paymentId, operationId }: OperationRef): Promise<bigint> {
  const rows = await tx.query<{ total: string }>(
    `select cast(coalesce(sum(amount_minor), 0) as char) as total from payment_operation
     where payment_id = ? and kind = 'refund' and state = 'DONE' and (asked_by = ? or operation_id = ?)`,
    [paymentId, principal, operationId],
  );
  return BigInt(rows[0]?.total ?? 0);
}

/**
 * Applies an outcome to payment, operation, ledger and outbox together. Changes nothing where the operation has
 * completed, where its key is no longer the key of this outcome, or where `outcome` is null. Returns the current
 * payment and operation.
 */
async function applyOutcome(tx: Tx, intent: OperationRef, outcome: Outcome | null): Promise<PaymentAndOperation> {
  return changeOperation(tx, intent, (payment, operation) =>
    !outcome || operation.state !== 'PENDING' || operation.key !== intent.key
      ? null
      : completeOperation(payment, operation, outcome),
  );
}

/** Records in payment, ledger and outbox that the hold has ended. Changes nothing where the payment has no hold. */
async function applyHoldEnd(tx: Tx, paymentId: string, end: HoldEnd): Promise<{ payment: Payment; changed: boolean }> {
  const rows = await tx.query<PaymentRow & { now: string }>(
    `select ${paymentColumns}, utc_timestamp(6) as now from payment p where p.payment_id = ? for update`,
    [paymentId],
  );
  const [row] = rows;
  if (!row) throw new Error(`payment ${paymentId} does not exist`);
  const change = endHold(toPayment(row), end);
  if (!change.moved) return { payment: change.payment, changed: false };
  return { payment: await writeChange(tx, row, change), changed: true };
}

export async function findOperation(sql: SqlReader, operationId: string): Promise<Operation | null> {
  const rows = await sql.query<OperationRow>(
    `select ${operationColumns} from payment_operation o where o.operation_id = ?`,
    [operationId],
  );
  return rows[0] ? toOperation(rows[0]) : null;
}

/** The operation of an acquirer key: the operation's id, or a later key that an operator requested. */
export async function findByKey(sql: SqlReader, key: string): Promise<Operation | null> {
  const byId = await findOperation(sql, key);
  if (byId) return byId;
  const rows = await sql.query<OperationRow>(
    `select ${operationColumns} from payment_operation o where o.acquirer_key = ?`,
    [key],
  );
  return rows[0] ? toOperation(rows[0]) : null;
}
