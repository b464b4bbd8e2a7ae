import type { Database, PeriodicJob, ServiceDependencies } from '@armature/runtime';
import type { OrderSagas } from './saga.ts';
import type { OrderStore } from './store.ts';

const batchMax = 100;

/**
 * The periodic job that restarts failed cancellations of earlier releases. In those releases, the time limit or an
 * operator could end a cancellation as FAILED before its first step, so that its order was neither refunded nor
 * cancelled. A cancellation of this release cannot fail, so the job finds nothing.
 */
export function failedCancellations(input: {
  db: Database;
  store: OrderStore;
  sagas: OrderSagas;
  log: ServiceDependencies<unknown>['log'];
}): PeriodicJob {
  const { db, store, sagas, log } = input;
  return {
    name: 'failed cancellations',
    everyMs: 60_000,
    async run(call) {
      const found = await db.read(call, (sql) =>
        sql.query<{ saga_id: string; order_id: string }>(
          `select s.saga_id, o.order_id from saga s force index (saga_status) straight_join orders o on o.order_id = s.subject_id
           where s.status = 'FAILED' and s.name = 'cancellation' and o.state in ('CONFIRMED', 'COMPLETED') limit ?`,
          [batchMax],
        ),
      );
      let restarted = 0;
      for (const { saga_id: sagaId, order_id: orderId } of found) {
        const accepted = await db.transaction(call, async (tx) => {
          await store.find(tx, orderId, 'for update');
          return sagas.restartCancellation(tx, sagaId);
        });
        if (!accepted) continue;
        restarted += 1;
        log.warn({ saga: sagaId, order: orderId }, 'restarted a cancellation that an earlier release had ended');
      }
      return restarted;
    },
  };
}
