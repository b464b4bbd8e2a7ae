import { PaymentVoidedEvent } from '@armature/proto/payments/v1/contract.ts';
import { VoidReason } from '@armature/proto/payments/v1/events.ts';
import { emit, type SqlReader, type Tx } from '@armature/runtime';
import { requestIdReused } from '@armature/runtime/errors';
import type { RequestHash, StoredHash } from '@armature/runtime/idempotency';
import { askedRarely, decide, keyTooOld, writeChange } from './change-store.ts';
import { chainStart } from './ledger.ts';
import {
  endHold,
  type HoldEnd,
  type Operation,
  type OperationKind,
  type OperationState,
  type Outcome,
  type Payment,
  settle,
} from './payment.ts';
import {
  type OperationRow,
  operationColumns,
  type PaymentRow,
  paymentColumns,
  toOperation,
  toPayment,
} from './rows.ts';

/** Which request asks: its operation's id, which follows from principal, method and request id. */
export interface Asked {
  readonly operationId: string;
  /** Who asks, as the access policy names callers. */
  readonly principal: string;
  /**
   * Written for versions of this service that compare it. This one compares what a request means, because operations
   * are kept for good while the key of the hash and the encoding of requests change.
   */
  readonly requestHash: Buffer;
}

/** An operation to be recorded. */
export interface NewOperation {
  readonly asked: Asked;
  readonly paymentId: string;
  readonly kind: OperationKind;
  readonly amountMinor: bigint;
  readonly rest: boolean;
}

/** Enough to find an operation and to lock its payment first, and the key that the acquirer was asked under. */
export type OperationRef = Pick<Operation, 'operationId' | 'paymentId' | 'key'>;

export interface NewPayment {
  readonly paymentId: string;
  readonly orderId: string;
  readonly customerId: string;
  readonly currencyCode: string;
  readonly amountMinor: bigint;
  /** A keyed digest of the payment method: the method itself is not stored. */
  readonly methodHash: RequestHash;
}

/** A payment as it stands, and the operation of the request that asks, if it was recorded before. */
export interface Standing {
  payment: Payment | null;
  operation: Operation | null;
}

/** An operation whose caller has not been heard of for a while. */
export interface Overdue {
  payment: Payment;
  operation: Operation;
  /** Milliseconds since a caller last tried. */
  idleMs: number;
}

/** The one file with SQL about payments; the ledger's is in ledger-store.ts. Every lock is payment before operation. */
export function paymentStore({ pendingResolveMs }: { pendingResolveMs: number }) {
  const resolveAt = `utc_timestamp(6) + interval ${pendingResolveMs * 1_000} microsecond`;

  const insertOperation = async (
    tx: Tx,
    fresh: NewOperation,
    state: OperationState,
    method?: StoredHash,
  ): Promise<Operation> => {
    const { asked, ...rest } = fresh;
    const { operationId, principal, requestHash } = asked;
    await tx.execute(
      `insert into payment_operation (operation_id, payment_id, kind, state, amount_minor, rest, request_hash,
         asked_by, method_digest, method_hash_version, method_hash_key, created_at, attempted_at, resolve_at)
       values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, utc_timestamp(6), utc_timestamp(6), ${resolveAt})`,
      [
        ...[operationId, fresh.paymentId, fresh.kind, state, fresh.amountMinor, fresh.rest ? 1 : 0, requestHash],
        ...[principal, method?.digest ?? null, method?.version ?? 0, method?.keyId ?? ''],
      ],
    );
    const blank = { externalId: '', failureCode: '', key: operationId, keyAgeMs: 0, needsOperator: false };
    return { ...rest, operationId, state, ...blank };
  };

  return {
    async payment(sql: SqlReader, paymentId: string): Promise<Payment | null> {
      const rows = await sql.query<PaymentRow>(`select ${paymentColumns} from payment p where p.payment_id = ?`, [
        paymentId,
      ]);
      return rows[0] ? toPayment(rows[0]) : null;
    },

    /**
     * Locks the payment and finds what this request did before. Throws REQUEST_ID_REUSED when its id belongs to a
     * request about another payment, or to one that `same` does not recognize.
     */
    async lock(
      tx: Tx,
      paymentId: string,
      asked: Asked,
      same: (payment: Payment, operation: Operation) => boolean,
    ): Promise<Standing> {
      const rows = await tx.query<PaymentRow & Partial<OperationRow>>(
        `select ${paymentColumns}, ${operationColumns}
         from payment p left join payment_operation o on o.operation_id = ?
         where p.payment_id = ? for update`,
        [asked.operationId, paymentId],
      );
      const [row] = rows;
      const operation = row
        ? row.o_operation_id
          ? toOperation(row as OperationRow)
          : null
        : await findOperation(tx, asked.operationId);
      const payment = row ? toPayment(row) : null;
      if (operation && !(payment && operation.paymentId === paymentId && same(payment, operation)))
        throw requestIdReused('request_id');
      return { payment, operation };
    },

    /**
     * Records a new payment and the intent to authorize it. Throws the database's duplicate-key error when
     * the id of either is taken; the transaction must then be left, because the failed insert holds a lock
     * that would deadlock with those who wait for the same row.
     */
    async insertPayment(tx: Tx, payment: NewPayment, asked: Asked): Promise<Operation> {
      const { paymentId, orderId, customerId, currencyCode, amountMinor } = payment;
      await tx.execute(
        `insert into payment (payment_id, order_id, customer_id, state, currency_code, amount_minor,
           authorize_operation_id, entry_hash, created_at, updated_at)
         values (?, ?, ?, 'PENDING', ?, ?, ?, ?, utc_timestamp(6), utc_timestamp(6))`,
        [paymentId, orderId, customerId, currencyCode, amountMinor, asked.operationId, chainStart],
      );
      const fresh: NewOperation = { asked, paymentId, kind: 'authorize', amountMinor, rest: false };
      return insertOperation(tx, fresh, 'PENDING', payment.methodHash);
    },

    /** The digest of the payment method that an authorization was asked for with; null where none was written. */
    async methodHash(tx: Tx, operationId: string): Promise<StoredHash | null> {
      const rows = await tx.query<{ digest: Buffer | null; version: number; keyId: string }>(
        `select method_digest as digest, method_hash_version as version, method_hash_key as keyId
         from payment_operation where operation_id = ?`,
        [operationId],
      );
      const [row] = rows;
      return row?.digest ? { digest: row.digest, version: Number(row.version), keyId: row.keyId } : null;
    },

    /** The sum of the refunds of a payment that this caller requested, the given operation included. */
    async refundedBy(tx: Tx, principal: string, { paymentId, operationId }: OperationRef): Promise<bigint> {
      const rows = await tx.query<{ total: string }>(
        `select cast(coalesce(sum(amount_minor), 0) as char) as total from payment_operation
         where payment_id = ? and kind = 'refund' and state = 'DONE' and (asked_by = ? or operation_id = ?)`,
        [paymentId, principal, operationId],
      );
      return BigInt(rows[0]?.total ?? 0);
    },

    /** Records the intent, and what it reserves of the payment. */
    async insertIntent(tx: Tx, payment: Payment, fresh: NewOperation): Promise<Operation> {
      await tx.execute('update payment set exclusive_operation_id = ?, refunding_minor = ? where payment_id = ?', [
        payment.exclusiveOperationId,
        payment.refundingMinor,
        payment.paymentId,
      ]);
      return insertOperation(tx, fresh, 'PENDING');
    },

    /** Records an operation that had nothing to do. */
    insertDone: (tx: Tx, fresh: Omit<NewOperation, 'amountMinor'>): Promise<Operation> =>
      insertOperation(tx, { ...fresh, amountMinor: 0n }, 'DONE'),

    /**
     * Records that a payment which does not exist yet never may. Like insertPayment, throws the
     * duplicate-key error when it exists by now.
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

    /** A caller has come back for its operation: the sweeper leaves it alone for a while again. */
    async touch(tx: Tx, operationId: string): Promise<void> {
      await tx.execute(
        `update payment_operation set attempted_at = utc_timestamp(6), resolve_at = ${resolveAt} where operation_id = ?`,
        [operationId],
      );
    },

    /**
     * Applies an outcome: payment, operation, ledger and event together. Does nothing when the operation
     * was settled before, when it has another key by now than the outcome is about, or when `outcome` is null. Returns
     * both as they are afterwards.
     */
    async settle(
      tx: Tx,
      intent: OperationRef,
      outcome: Outcome | null,
    ): Promise<{ payment: Payment; operation: Operation }> {
      return decide(tx, intent, (payment, operation) =>
        !outcome || operation.state !== 'PENDING' || operation.key !== intent.key
          ? null
          : settle(payment, operation, outcome),
      );
    },

    /** Records that nothing is held any more: payment, ledger and event together. Nothing, where nothing was held. */
    async endHold(tx: Tx, paymentId: string, end: HoldEnd): Promise<{ payment: Payment; changed: boolean }> {
      const rows = await tx.query<PaymentRow & { now: string }>(
        `select ${paymentColumns}, utc_timestamp(6) as now from payment p where p.payment_id = ? for update`,
        [paymentId],
      );
      const [row] = rows;
      if (!row) throw new Error(`payment ${paymentId} is gone`);
      const change = endHold(toPayment(row), end);
      if (!change.moved) return { payment: change.payment, changed: false };
      return { payment: await writeChange(tx, row, change), changed: true };
    },

    /** The payment of a charge of the acquirer. */
    async paymentOfCharge(sql: SqlReader, chargeId: string): Promise<Payment | null> {
      const rows = await sql.query<PaymentRow>(
        `select ${paymentColumns} from payment p where p.charge_id = ? limit 1`,
        [chargeId],
      );
      return rows[0] ? toPayment(rows[0]) : null;
    },

    /** Leaves an operation that is too old to be sent again to an operator, unless it has another key by now. */
    async markTooOld(tx: Tx, { operationId, key }: OperationRef): Promise<void> {
      await tx.execute(
        `update payment_operation set needs_operator_at = utc_timestamp(6), failure_code = ?,
           resolve_at = utc_timestamp(6) + ${askedRarely}
         where operation_id = ? and coalesce(acquirer_key, operation_id) = ? and state = 'PENDING'
           and needs_operator_at is null`,
        [keyTooOld, operationId, key],
      );
    },

    /**
     * Takes the operations that are due, a batch at a time, and puts off when they are due again. Two
     * processes may take the same: settling twice changes nothing, so no lock is worth holding.
     */
    async claimOverdue(tx: Tx, limit: number): Promise<Overdue[]> {
      const rows = await tx.query<PaymentRow & OperationRow & { idle: string | number }>(
        `select ${paymentColumns}, ${operationColumns},
           timestampdiff(microsecond, o.attempted_at, utc_timestamp(6)) as idle
         from payment_operation o join payment p on p.payment_id = o.payment_id
         where o.state = 'PENDING' and o.resolve_at < utc_timestamp(6) order by o.resolve_at limit ?`,
        [limit],
      );
      if (rows.length === 0) return [];
      await tx.execute(
        `update payment_operation
         set resolve_at = if(needs_operator_at is null, ${resolveAt}, utc_timestamp(6) + ${askedRarely})
         where operation_id in (?)`,
        [rows.map((row) => row.o_operation_id)],
      );
      return rows.map((row) => ({
        payment: toPayment(row),
        operation: toOperation(row),
        idleMs: Number(row.idle) / 1_000,
      }));
    },

    /** How many operations have no outcome yet, and the age of the oldest in seconds. */
    async pendingOperations(sql: SqlReader): Promise<{ count: number; oldestSeconds: number }> {
      const rows = await sql.query<{ count: number | string; age: number | string | null }>(
        `select count(*) as count, timestampdiff(microsecond, min(created_at), utc_timestamp(6)) as age
         from payment_operation where state = 'PENDING'`,
      );
      return { count: Number(rows[0]?.count ?? 0), oldestSeconds: Number(rows[0]?.age ?? 0) / 1e6 };
    },
  };
}

export type PaymentStore = ReturnType<typeof paymentStore>;

export async function findOperation(sql: SqlReader, operationId: string): Promise<Operation | null> {
  const rows = await sql.query<OperationRow>(
    `select ${operationColumns} from payment_operation o where o.operation_id = ?`,
    [operationId],
  );
  return rows[0] ? toOperation(rows[0]) : null;
}

/** Finds the operation behind a key that the acquirer knows. */
export async function findByKey(sql: SqlReader, key: string): Promise<Operation | null> {
  const known = await findOperation(sql, key);
  if (known) return known;
  const rows = await sql.query<OperationRow>(
    `select ${operationColumns} from payment_operation o where o.acquirer_key = ?`,
    [key],
  );
  return rows[0] ? toOperation(rows[0]) : null;
}
