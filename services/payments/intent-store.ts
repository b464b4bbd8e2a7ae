/** How intents are recorded: a new payment or operation, before the acquirer receives a request. */
import { PaymentVoidedEvent } from '@armature/proto/payments/v1/contract.ts';
import { VoidReason } from '@armature/proto/payments/v1/events.ts';
import { emit, type Tx } from '@armature/runtime';
import type { RequestHash, StoredHash } from '@armature/runtime/idempotency';
import { chainStart } from './ledger.ts';
import type { Operation, OperationKind, OperationState, Payment } from './payment.ts';

/** The request that an operation comes from. */
export interface OperationRequest {
  /** The operation's id, which is derived from principal, method and request id. */
  readonly operationId: string;
  /** The principal that sent the request, as the access policy names it. */
  readonly principal: string;
  /**
   * Stored for earlier releases of this service, which compare it. This release compares the fields of the request,
   * because operations are kept permanently, while the key of the hash and the encoding of requests change.
   */
  readonly requestHash: Buffer;
}

export interface NewOperation {
  readonly request: OperationRequest;
  readonly paymentId: string;
  readonly kind: OperationKind;
  readonly amountMinor: bigint;
  readonly rest: boolean;
}

export interface NewPayment {
  readonly paymentId: string;
  readonly orderId: string;
  readonly customerId: string;
  readonly currencyCode: string;
  readonly amountMinor: bigint;
  /** A keyed digest of the payment method: the method itself is not stored. */
  readonly methodHash: RequestHash;
}

/** `resolveAt` is the SQL expression of the time at which the periodic job processes a pending operation. */
export const intentStore = (resolveAt: string) => ({
  /**
   * Records a new payment and the intent to authorize it. Throws the database's duplicate-key error where the payment
   * or the operation exists. The caller must then roll back: the lock of the failed insert would cause a deadlock with
   * other transactions that wait for the same row.
   */
  async insertPayment(tx: Tx, payment: NewPayment, request: OperationRequest): Promise<Operation> {
    const { paymentId, orderId, customerId, currencyCode, amountMinor } = payment;
    await tx.execute(
      `insert into payment (payment_id, order_id, customer_id, state, currency_code, amount_minor,
       authorize_operation_id, entry_hash, created_at, updated_at)
     values (?, ?, ?, 'PENDING', ?, ?, ?, ?, utc_timestamp(6), utc_timestamp(6))`,
      [paymentId, orderId, customerId, currencyCode, amountMinor, request.operationId, chainStart],
    );
    const operation: NewOperation = { request, paymentId, kind: 'authorize', amountMinor, rest: false };
    return insertOperation(tx, resolveAt, operation, 'PENDING', payment.methodHash);
  },

  /** Records the intent, and the amount that it reserves of the payment. */
  async insertIntent(tx: Tx, payment: Payment, operation: NewOperation): Promise<Operation> {
    await tx.execute('update payment set exclusive_operation_id = ?, refunding_minor = ? where payment_id = ?', [
      payment.exclusiveOperationId,
      payment.refundingMinor,
      payment.paymentId,
    ]);
    return insertOperation(tx, resolveAt, operation, 'PENDING');
  },

  /** Records an operation that had nothing to do. */
  insertDone: (tx: Tx, operation: Omit<NewOperation, 'amountMinor'>): Promise<Operation> =>
    insertOperation(tx, resolveAt, { ...operation, amountMinor: 0n }, 'DONE'),

  /**
   * Records a payment that does not exist yet as voided, so that it is never authorized. Throws the duplicate-key error
   * where it exists, as insertPayment does.
   */
  async insertTombstone(tx: Tx, paymentId: string, orderId: string): Promise<void> {
    await tx.execute(
      `insert into payment (payment_id, order_id, customer_id, state, currency_code, amount_minor, events,
       entry_hash, created_at, updated_at)
     values (?, ?, '', 'VOIDED', '', 0, 1, ?, utc_timestamp(6), utc_timestamp(6))`,
      [paymentId, orderId, chainStart],
    );
    emit(tx, PaymentVoidedEvent, { paymentId, orderId, reason: VoidReason.VOID_REASON_REQUESTED }, 1n);
  },
});

async function insertOperation(
  tx: Tx,
  resolveAt: string,
  operation: NewOperation,
  state: OperationState,
  method?: StoredHash,
): Promise<Operation> {
  const { request, ...rest } = operation;
  const { operationId, principal, requestHash } = request;
  await tx.execute(
    `insert into payment_operation (operation_id, payment_id, kind, state, amount_minor, rest, request_hash,
       asked_by, method_digest, method_hash_version, method_hash_key, created_at, attempted_at, resolve_at)
     values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, utc_timestamp(6), utc_timestamp(6), ${resolveAt})`,
    [
      ...[operationId, rest.paymentId, rest.kind, state, rest.amountMinor, rest.rest ? 1 : 0, requestHash],
      ...[principal, method?.digest ?? null, method?.version ?? 0, method?.keyId ?? ''],
    ],
  );
  const blank = { externalId: '', failureCode: '', key: operationId, keyAgeMs: 0, needsOperator: false };
  return { ...rest, operationId, state, ...blank };
}
