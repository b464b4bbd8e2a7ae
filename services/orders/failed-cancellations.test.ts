import { background } from '@armature/runtime/context';
import { openDatabase } from '@armature/runtime/db';
import { newId } from '@armature/runtime/id';
import { outbox } from '@armature/runtime/messaging';
import { migrate, runtimeMigrations } from '@armature/runtime/migrations';
import { divergences, startSagaWorker } from '@armature/runtime/saga';
import { createLogger, Registry } from '@armature/runtime/telemetry';
import t from 'tap';
import { createDatabase } from '../../test/support/infra.ts';
import { startService } from '../../test/support/service.ts';
import { sagaHistories } from '../../test/verification/crash/histories.ts';
import { failedCancellations } from './failed-cancellations.ts';
import { migrations } from './migrations/index.ts';
import { cancelledBecause, confirmed, type Fact, noRefund, type Order, placed, type State } from './order.ts';
import { orderSagas } from './saga.ts';
import { orderStore } from './store.ts';
import { sagaDefinitions } from './testbed.ts';

const database = await createDatabase(t, 'orders');
await migrate(database.migratorUrl, [...runtimeMigrations, ...migrations]);
await database.migrated();
const log = createLogger('orders', 'silent');
const registry = new Registry();
const open = background('orders', log);
const db = await openDatabase({
  url: database.url,
  log,
  registry,
  participants: [{ ...outbox(), beforeCommit: async () => {} }],
});
t.teardown(() => db.close());

const sent: string[] = [];
const respond = (method: string) => async (request: { amount?: { amountMinor: bigint } }) => {
  sent.push(method);
  const amount = request.amount ?? { currencyCode: 'EUR', amountMinor: 0n };
  return { moved: amount, refunded: amount };
};
const peer = new Proxy({}, { get: (_, method) => respond(String(method)) });
const store = orderStore();
const config = { inventory: [], payments: [], checkoutLimitMs: 1_000, checkoutVersion: 2, cancellationVersion: 2 };
const sagas = orderSagas({ config, connect: () => peer as never, store });
const job = failedCancellations({ db, store, sagas, log });
const query = <Row>(sql: string, params: string[] = []) => db.read(null, (one) => one.query<Row>(sql, params));

const address = { recipient: 'Ada', street: 'Main 1', city: 'Bern', postalCode: '3000', countryCode: 'CH' };
const order = (): Order => ({
  ...{ orderId: newId(), customerId: 'ada', state: 'PENDING', currencyCode: 'EUR', totalMinor: 15_490n },
  lines: [{ sku: 'LAM-1', title: 'Lamp', quantity: 1n, unitPriceMinor: 15_490n }],
  ...{ contactEmail: 'ada@example.com', shippingAddress: address, reason: '', reasonDetail: '' },
  ...{ cancelRequested: false, reservationId: newId(), paymentId: newId(), sequence: 0n },
  ...{ createdAt: new Date(), updatedAt: new Date() },
});
const because = { reason: 'CUSTOMER_REQUEST', reasonDetail: '' } as const;
const facts = {
  placed,
  confirmed,
  completed: ({ orderId }) => ({ $case: 'completed', value: { orderId } }),
  cancelRequested: ({ orderId }) => ({ $case: 'cancelRequested', value: { orderId, requestedBy: 'user:ada' } }),
  rejected: ({ orderId }) => ({ $case: 'rejected', value: { orderId, reason: 'TIME_LIMIT', reasonDetail: '' } }),
  cancelled: (one) => cancelledBecause(one, because, noRefund),
} satisfies Record<string, (order: Order) => Fact>;

/**
 * An order, and its cancellation as an earlier release stored it: format 1, ended by its time limit before `decide`.
 */
async function orderWithFailedCancellation(
  history: readonly (keyof typeof facts)[],
  uncharged?: object,
): Promise<{ orderId: string; sagaId: string }> {
  const begun = order();
  const { orderId, currencyCode, reservationId, paymentId } = begun;
  const sagaId = newId();
  const failure = { cause: 'expired', step: 'decide', reason: 'TIME_LIMIT', detail: '' };
  const state = { format: 1, phase: 'failed', step: 0, epoch: 2, attempt: 0, round: 0, failure, absent: false };
  const data = { currencyCode, totalMinor: '15490', reservationId, paymentId, ...(uncharged ? { uncharged } : {}) };
  const input = { kind: 'abandon', cause: 'expired', reason: 'TIME_LIMIT', detail: '' };
  const call = open('test', 10_000);
  await db.transaction(call, async (tx) => {
    await store.append(
      tx,
      begun,
      history.map((one) => facts[one](begun)),
    );
    await tx.execute(
      `insert into saga (saga_id, name, subject_id, status, state, results, data, version, lease_token, deadline_at,
         created_at, updated_at)
       values (?, 'cancellation', ?, 'FAILED', ?, '{}', ?, 1, 1, '2026-11-01', '2026-11-01', '2026-11-01')`,
      [sagaId, orderId, JSON.stringify({ ...state, cancelTooLate: false, stuck: null }), JSON.stringify(data)],
    );
    await tx.execute(
      `insert into saga_log (saga_id, position, step, kind, outcome, attempt, detail, at)
       values (?, 1, 'decide', 'run', 'abandon', 0, ?, '2026-11-01')`,
      [sagaId, JSON.stringify(input)],
    );
  });
  call.close();
  return { orderId, sagaId };
}

async function runJob(): Promise<number> {
  const call = open('periodic job', 10_000);
  return job.run(call).finally(() => call.close());
}

async function ended(orderId: string): Promise<State> {
  for (let tries = 0; tries < 400; tries += 1) {
    const [row] = await query<{ state: State }>('select state from orders where order_id = ?', [orderId]);
    if (row?.state === 'CANCELLED') return row.state;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`order ${orderId} is not cancelled after 20 s`);
}

t.test('a cancellation that an earlier release ended is restarted and ends its order', async (t) => {
  const charged = await orderWithFailedCancellation(['placed', 'confirmed', 'completed', 'cancelRequested']);
  t.equal(await runJob(), 1);
  t.equal(await runJob(), 0, 'once');
  const worker = startSagaWorker({ db, definitions: sagas.definitions, log, registry, background: open, pollMs: 50 });
  t.teardown(() => worker.stop());
  t.equal(await ended(charged.orderId), 'CANCELLED');
  t.strictSame(sent.splice(0), ['refundPayment', 'releaseReservation']);
  const events = await db.read(null, (sql) => store.events(sql, charged.orderId, 4n, 10));
  t.match(
    events.map(({ event }) => event),
    [
      { $case: 'paymentRefunded', value: { amount: { amountMinor: 15_490n } } },
      { $case: 'stockReleased' },
      { $case: 'cancelled', value: { reason: 'CUSTOMER_REQUEST', refunded: { amountMinor: 15_490n } } },
    ],
  );
  const row = 'select status, deadline_at > now() as unlimited from saga where saga_id = ?';
  t.match(await query(row, [charged.sagaId]), [{ status: 'COMPLETED', unlimited: 1 }]);

  const uncharged = await orderWithFailedCancellation(['placed', 'confirmed'], {
    reason: 'PAYMENT_DECLINED',
    detail: 'do_not_honor',
  });
  t.equal(await runJob(), 1, 'and that of an order which was confirmed and not charged');
  t.equal(await ended(uncharged.orderId), 'CANCELLED');
  t.strictSame(sent.splice(0), ['voidPayment', 'releaseReservation']);

  // biome-ignore lint/suspicious/noExplicitAny: rows of any shape, as the driver returns them
  const snapshot = { query: (sql: string) => query<any>(sql.replaceAll('{orders}.', '')) };
  const histories = await sagaHistories(snapshot);
  t.equal(histories.length, 2);
  t.strictSame(divergences(sagaDefinitions(), histories), [], 'their histories replay from the restart');
});

t.test('cancellations of orders that have ended stay as they are', async (t) => {
  await orderWithFailedCancellation(['placed', 'rejected']);
  await orderWithFailedCancellation(['placed', 'confirmed', 'completed', 'cancelRequested', 'cancelled']);
  t.equal(await runJob(), 0);
});

t.test('the service does this when it starts', async (t) => {
  const { sagaId } = await orderWithFailedCancellation(['placed', 'confirmed', 'completed', 'cancelRequested']);
  const away = '127.0.0.1:1';
  await startService(t, 'orders', { database, peers: { catalog: away, inventory: away, payments: away } });
  const status = 'select status from saga where saga_id = ?';
  for (let tries = 0; tries < 400; tries += 1) {
    const [row] = await query<{ status: string }>(status, [sagaId]);
    if (row?.status !== 'FAILED') break;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  t.notMatch(await query(status, [sagaId]), [{ status: 'FAILED' }]);
});
