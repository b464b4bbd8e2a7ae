import { type Call, type Database, isDuplicateKey, type Sql } from '@armature/runtime';
import { crashPoint } from '@armature/runtime/crash-point.ts';
import type { Operation, Outcome } from './payment.ts';
import { findOperation, type PaymentStore } from './store.ts';

/** The acquirer gives an event up long before. */
const eventsKeptDays = 30;
const purgeBatch = 1_000;

/** Events of the acquirer that had an effect here, each in the transaction of its effect: an inbox. */
export function webhookStore(db: Database, store: PaymentStore) {
  return {
    operation: (call: Call, operationId: string): Promise<Operation | null> =>
      db.read(call, (sql) => findOperation(sql, operationId)),

    /** Settles an operation by an event. False when the event had its effect before; then nothing changes. */
    async settle(call: Call, eventId: string, operation: Operation, outcome: Outcome): Promise<boolean> {
      try {
        await db.transaction(call, async (tx) => {
          // The payment first, as everywhere; the row of the event is nobody else's to wait for.
          await store.settle(tx, operation, outcome);
          await tx.execute(
            'insert into webhook_event (event_id, operation_id, received_at) values (?, ?, utc_timestamp(6))',
            [eventId, operation.operationId],
          );
          crashPoint('payments.webhook-before-commit');
        });
        return true;
      } catch (error) {
        if (!isDuplicateKey(error)) throw error;
        return false;
      }
    },

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
