import { utcDate } from '@armature/runtime';
import type { Operation, OperationKind, OperationState, Payment, State } from './payment.ts';

type Int = string | number;

export interface PaymentRow {
  payment_id: string;
  order_id: string;
  customer_id: string;
  state: State;
  currency_code: string;
  amount_minor: Int;
  captured_minor: Int;
  refunded_minor: Int;
  refunding_minor: Int;
  decline_code: string;
  charge_id: string;
  authorize_operation_id: string | null;
  exclusive_operation_id: string | null;
  events: Int;
  entries: Int;
  entry_hash: Buffer;
  created_at: string;
  updated_at: string;
  version: Int;
}

export const paymentColumns = `p.payment_id, p.order_id, p.customer_id, p.state, p.currency_code, p.amount_minor,
  p.captured_minor, p.refunded_minor, p.refunding_minor, p.decline_code, p.charge_id, p.authorize_operation_id,
  p.exclusive_operation_id, p.events, p.entries, p.entry_hash, p.created_at, p.updated_at, p.version`;

export function toPayment(row: PaymentRow): Payment {
  return {
    paymentId: row.payment_id,
    orderId: row.order_id,
    customerId: row.customer_id,
    state: row.state,
    currencyCode: row.currency_code,
    amountMinor: BigInt(row.amount_minor),
    capturedMinor: BigInt(row.captured_minor),
    refundedMinor: BigInt(row.refunded_minor),
    refundingMinor: BigInt(row.refunding_minor),
    declineCode: row.decline_code,
    chargeId: row.charge_id,
    authorizeOperationId: row.authorize_operation_id,
    exclusiveOperationId: row.exclusive_operation_id,
    events: BigInt(row.events),
    createdAt: utcDate(row.created_at),
    updatedAt: utcDate(row.updated_at),
    version: BigInt(row.version),
  };
}

/** Columns carry a prefix, because an operation is mostly read together with its payment. */
export interface OperationRow {
  o_operation_id: string;
  o_payment_id: string;
  o_kind: OperationKind;
  o_state: OperationState;
  o_amount_minor: Int;
  o_rest: number;
  o_external_id: string;
  o_failure_code: string;
  o_acquirer_key: string | null;
  o_key_age_us: Int;
  o_needs_operator_at: string | null;
}

export const operationColumns = `o.operation_id as o_operation_id, o.payment_id as o_payment_id, o.kind as o_kind,
  o.state as o_state, o.amount_minor as o_amount_minor, o.rest as o_rest,
  o.external_id as o_external_id, o.failure_code as o_failure_code, o.acquirer_key as o_acquirer_key,
  timestampdiff(microsecond, coalesce(o.acquirer_key_at, o.created_at), utc_timestamp(6)) as o_key_age_us,
  o.needs_operator_at as o_needs_operator_at`;

export function toOperation(row: OperationRow): Operation {
  return {
    operationId: row.o_operation_id,
    paymentId: row.o_payment_id,
    kind: row.o_kind,
    state: row.o_state,
    amountMinor: BigInt(row.o_amount_minor),
    rest: Number(row.o_rest) !== 0,
    externalId: row.o_external_id,
    failureCode: row.o_failure_code,
    key: row.o_acquirer_key ?? row.o_operation_id,
    keyAgeMs: Number(row.o_key_age_us) / 1_000,
    needsOperator: row.o_needs_operator_at !== null,
  };
}
