/** How changes of payments and operations are written: row, ledger and event together, under the payment's lock. */
import {
  PaymentAuthorizedEvent,
  PaymentCapturedEvent,
  PaymentDeclinedEvent,
  PaymentRefundedEvent,
  PaymentVoidedEvent,
} from '@armature/proto/payments/v1/contract.ts';
import { VoidReason } from '@armature/proto/payments/v1/events.ts';
import { emit, type Tx, utcDate } from '@armature/runtime';
import { chainEntry } from './ledger.ts';
import { writeEntry } from './ledger-store.ts';
import type { Change, EventKind, Operation, OperationChange, Payment } from './payment.ts';
import {
  type OperationRow,
  operationColumns,
  type PaymentRow,
  paymentColumns,
  toOperation,
  toPayment,
} from './rows.ts';

/** How often the periodic job processes an operation that waits for an operator, which may take days. */
export const operatorPollInterval = 'interval 1 hour';
/** The failure code of operations that are too old to be sent again. */
export const keyTooOld = 'key_too_old';

/** A payment together with one of its operations. */
export interface PaymentAndOperation {
  payment: Payment;
  operation: Operation;
}

/**
 * Locks a payment and its operation, and writes the result of `change`; null changes nothing. Returns both as they are
 * then.
 */
export async function changeOperation(
  tx: Tx,
  { operationId, paymentId }: Pick<Operation, 'operationId' | 'paymentId'>,
  change: (payment: Payment, operation: Operation) => OperationChange | null,
): Promise<PaymentAndOperation> {
  const rows = await tx.query<PaymentRow & OperationRow & { now: string }>(
    `select ${paymentColumns}, ${operationColumns}, utc_timestamp(6) as now
     from payment p left join payment_operation o on o.operation_id = ?
     where p.payment_id = ? for update`,
    [operationId, paymentId],
  );
  const [row] = rows;
  if (!row?.o_operation_id) throw new Error(`operation ${operationId} of payment ${paymentId} does not exist`);
  const before = { payment: toPayment(row), operation: toOperation(row) };
  const changed = change(before.payment, before.operation);
  if (!changed) return before;
  await writeOperation(tx, changed.operation, row.now);
  await closeSuperseded(tx, changed);
  return { payment: await writeChange(tx, row, changed), operation: changed.operation };
}

/**
 * Earlier refused refunds need no operator once the whole charge is refunded, or a later refund of the rest is refused.
 */
async function closeSuperseded(tx: Tx, { payment, operation }: OperationChange): Promise<void> {
  const restRefused = operation.rest && operation.state === 'REFUSED';
  if (operation.kind !== 'refund' || !(restRefused || payment.state === 'REFUNDED')) return;
  await tx.execute(
    `update payment_operation set needs_operator_at = null
     where payment_id = ? and kind = 'refund' and state = 'REFUSED' and operation_id <> ?`,
    [payment.paymentId, operation.operationId],
  );
}

/** Writes a changed operation. The periodic job processes one that needs an operator only once an hour. */
async function writeOperation(tx: Tx, o: Operation, now: string): Promise<void> {
  const needsOperator = o.needsOperator ? 'coalesce(needs_operator_at, ?)' : 'null';
  await tx.execute(
    `update payment_operation set state = ?, external_id = ?, failure_code = ?, needs_operator_at = ${needsOperator},
       resolve_at = utc_timestamp(6) ${o.needsOperator ? `+ ${operatorPollInterval}` : ''}
     where operation_id = ?`,
    [o.state, o.externalId, o.failureCode, ...(o.needsOperator ? [now] : []), o.operationId],
  );
  if (o.key === o.operationId) return;
  // SQL evaluates assignments from left to right, so the first one still sees the old key.
  await tx.execute(
    `update payment_operation set acquirer_key_at = if(acquirer_key <=> ?, acquirer_key_at, ?), acquirer_key = ?
     where operation_id = ?`,
    [o.key, now, o.key, o.operationId],
  );
}

/** Writes a changed payment, the ledger entry and the event. `before` is its locked row. */
export async function writeChange(tx: Tx, before: PaymentRow & { now: string }, change: Change): Promise<Payment> {
  const { payment: p, moved, event } = change;
  const head = { entries: BigInt(before.entries), hash: before.entry_hash };
  const entry = moved ? chainEntry(head, p, moved) : null;
  await tx.execute(
    `update payment p
     set p.state = ?, p.captured_minor = ?, p.refunded_minor = ?, p.refunding_minor = ?, p.decline_code = ?,
       p.charge_id = ?, p.exclusive_operation_id = ?, p.events = ?, p.entries = ?, p.entry_hash = ?,
       p.updated_at = ?, p.version = ?
     where p.payment_id = ?`,
    [
      p.state,
      p.capturedMinor,
      p.refundedMinor,
      p.refundingMinor,
      p.declineCode,
      p.chargeId,
      p.exclusiveOperationId,
      p.events,
      entry?.sequence ?? head.entries,
      entry?.hash ?? head.hash,
      before.now,
      p.version,
      p.paymentId,
    ],
  );
  // Last, because it locks balances, which all payments share.
  if (entry) await writeEntry(tx, entry);
  if (event) emitters[event](tx, change);
  return { ...p, updatedAt: utcDate(before.now) };
}

const voidReasons = {
  requested: VoidReason.VOID_REASON_REQUESTED,
  expired: VoidReason.VOID_REASON_HOLD_EXPIRED,
  voided_externally: VoidReason.VOID_REASON_VOIDED_EXTERNALLY,
  nothing_held: VoidReason.VOID_REASON_NOTHING_HELD,
} as const;

/** `payment.events` includes the event that is emitted here, so it is the event's sequence. */
const emitters: Record<EventKind, (tx: Tx, change: Change) => void> = {
  authorized: (tx, { payment: { paymentId, orderId, currencyCode, amountMinor, events } }) =>
    emit(tx, PaymentAuthorizedEvent, { paymentId, orderId, amount: { currencyCode, amountMinor } }, events),
  declined: (tx, { payment: { paymentId, orderId, declineCode, events } }) =>
    emit(tx, PaymentDeclinedEvent, { paymentId, orderId, declineCode }, events),
  captured: (tx, { payment: { paymentId, orderId, currencyCode, capturedMinor, events } }) =>
    emit(
      tx,
      PaymentCapturedEvent,
      { paymentId, orderId, amount: { currencyCode, amountMinor: capturedMinor } },
      events,
    ),
  voided: (tx, { payment: { paymentId, orderId, events }, voidReason = 'requested' }) =>
    emit(tx, PaymentVoidedEvent, { paymentId, orderId, reason: voidReasons[voidReason] }, events),
  refunded: (tx, { payment: { paymentId, orderId, currencyCode, refundedMinor, events }, moved }) => {
    const money = (amountMinor: bigint) => ({ currencyCode, amountMinor });
    const sums = { amount: money(moved?.amountMinor ?? 0n), refunded: money(refundedMinor) };
    const outsideAcquirer = moved?.kind === 'refund_outside';
    emit(tx, PaymentRefundedEvent, { paymentId, orderId, ...sums, outsideAcquirer }, events);
  },
};
