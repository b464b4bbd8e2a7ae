import { type CallContext, type Database, isDuplicateKey, type Sql, type Tx } from '@armature/runtime';
import { crashPoint } from '@armature/runtime/sync';
import type { HoldEnd, Operation, Outcome, Payment } from './payment.ts';
import { findByKey, type PaymentStore } from './store.ts';

/** The acquirer stops delivering an event long before. */
const eventsKeptDays = 30;
const purgeBatch = 1_000;

/** The inbox of webhooks: processed events of the acquirer, each inserted in the transaction of its effect. */
export function webhookStore(db: Database, store: PaymentStore) {
  const once = async (
    call: CallContext,
    eventId: string,
    operationId: string,
    effect: (tx: Tx) => Promise<unknown>,
  ): Promise<boolean> => {
    try {
      await db.transaction(call, async (tx) => {
        // The payment is locked first, as everywhere. No other transaction waits for the row of the event.
        await effect(tx);
        await tx.execute(
          'insert into webhook_event (event_id, operation_id, received_at) values (?, ?, utc_timestamp(6))',
          [eventId, operationId],
        );
        crashPoint('payments.webhook-before-commit');
      });
      return true;
    } catch (error) {
      if (!isDuplicateKey(error)) throw error;
      return false;
    }
  };
  return {
    operation: (call: CallContext, key: string): Promise<Operation | null> =>
      db.read(call, (sql) => findByKey(sql, key)),

    /** Empty while its authorization has no outcome. */
    chargeId: async (call: CallContext, { paymentId }: Operation): Promise<string> =>
      (await db.read(call, (sql) => store.payment(sql, paymentId)))?.chargeId ?? '',

    payment: (call: CallContext, chargeId: string): Promise<Payment | null> =>
      db.read(call, (sql) => store.paymentOfCharge(sql, chargeId)),

    /** Completes an operation by an event. False, and nothing changes, where the event was processed before. */
    completeOperation: (call: CallContext, eventId: string, operation: Operation, outcome: Outcome): Promise<boolean> =>
      once(call, eventId, operation.operationId, (tx) => store.completeOperation(tx, operation, outcome)),

    /** Records the end of a hold by an event. False where the event was processed before. */
    endHold: (call: CallContext, eventId: string, { paymentId, authorizeOperationId }: Payment, end: HoldEnd) =>
      once(call, eventId, authorizeOperationId ?? '', (tx) => store.endHold(tx, paymentId, end)),

    async purge(sql: Sql): Promise<number> {
      const { affectedRows } = await sql.execute(
        `delete from webhook_event where received_at < utc_timestamp(6) - interval ${eventsKeptDays} day
         limit ${purgeBatch}`,
      );
      return affectedRows;
    },
  };
}

export type WebhookStore = ReturnType<typeof webhookStore>;
