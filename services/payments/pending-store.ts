/** Pending operations: when the periodic job processes them next, and which of them need an operator. */
import type { SqlReader, Tx } from '@armature/runtime';
import { keyTooOld, operatorPollInterval } from './change-store.ts';
import type { Operation, Payment } from './payment.ts';
import {
  type OperationRow,
  operationColumns,
  type PaymentRow,
  paymentColumns,
  toOperation,
  toPayment,
} from './rows.ts';

/** A pending operation whose caller has not retried it for a while. */
export interface OverdueOperation {
  payment: Payment;
  operation: Operation;
  /** Milliseconds since the last attempt of a caller. */
  idleMs: number;
}

/** `resolveAt` is the SQL expression of the time at which the periodic job processes a pending operation. */
export const pendingStore = (resolveAt: string) => ({
  /** Postpones the periodic job's next attempt, because a caller has retried the operation. */
  async touch(tx: Tx, operationId: string): Promise<void> {
    await tx.execute(
      `update payment_operation set attempted_at = utc_timestamp(6), resolve_at = ${resolveAt} where operation_id = ?`,
      [operationId],
    );
  },

  /** Marks an operation that is too old to be sent again as needing an operator, unless its key has changed. */
  async markTooOld(tx: Tx, { operationId, key }: Pick<Operation, 'operationId' | 'key'>): Promise<void> {
    await tx.execute(
      `update payment_operation set needs_operator_at = utc_timestamp(6), failure_code = ?,
       resolve_at = utc_timestamp(6) + ${operatorPollInterval}
     where operation_id = ? and coalesce(acquirer_key, operation_id) = ? and state = 'PENDING'
       and needs_operator_at is null`,
      [keyTooOld, operationId, key],
    );
  },

  /**
   * Returns a batch of operations that are due, and postpones them. Two processes may claim the same operations:
   * completing an operation twice changes nothing, so no lock is held.
   */
  async claimOverdue(tx: Tx, limit: number): Promise<OverdueOperation[]> {
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
     set resolve_at = if(needs_operator_at is null, ${resolveAt}, utc_timestamp(6) + ${operatorPollInterval})
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
});
