// Races of workers and customers for one order, in every interleaving of their statements.
import { randomBytes, randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { inventoryClient, ordersClient, paymentsClient } from '@armature/clients';
import { OrderEvent } from '@armature/proto/orders/v1/orders.ts';
import { newId } from '@armature/runtime';
import { background, traceparent } from '@armature/runtime/context';
import { openDatabase } from '@armature/runtime/db';
import { outbox } from '@armature/runtime/messaging';
import { createLogger, Registry } from '@armature/runtime/telemetry';
import t from 'tap';
import { connectMysql } from '../../../scripts/devmesh/servers/mysql.ts';
import { placed } from '../../../services/orders/order.ts';
import { orderStore } from '../../../services/orders/store.ts';
import { idleSagas } from '../../../services/orders/testbed.ts';
import { address } from '../../e2e/shop.ts';
import {
  developerCredentials,
  peersOf,
  type RunningService,
  startMesh,
  startService,
  token,
} from '../../support/service.ts';
import { long } from '../../support/tier.ts';
import { historyInvariants } from '../invariants/history-invariants.ts';
import { acquirerLog, ledgerViolations } from '../invariants/ledger-checks.ts';
import { openShopData } from '../invariants/shop-data.ts';
import { shopInvariants } from '../invariants/shop-invariants.ts';
import { exploreCase, full, judge, type RaceCase, responseOf, under } from './case.ts';
import { lockWaits } from './lock-waits.ts';
import { type Actor, type BackgroundActor, type Points, startRaces } from './race.ts';
import { openSyncPointServer, type SyncPointServer, type Waiting } from './sync-point-server.ts';

t.setTimeout(300_000);
const syncPoints = await openSyncPointServer(t);
const quiet = { ARMATURE_LOG_LEVEL: 'warn' };
const watched = { ...quiet, ...syncPoints.env, ARMATURE_SAGA_POLL_MS: '10' };
/** The test accepts orders without the service, so no call asks for prices. */
const peers = { catalog: '127.0.0.1:1' };
const mesh = await startMesh(t, ['acquirer', 'inventory', 'payments', 'orders'], (name) =>
  name === 'orders' ? { peers, env: watched } : { env: name === 'payments' ? { ...quiet, ...syncPoints.env } : quiet },
);
const service = (name: string): RunningService => mesh[name]!;
const first = service('orders');
const second = await startService(t, 'orders', {
  ...{ database: first.database!, vhost: first.vhost!, env: watched },
  peers: { ...peersOf(mesh), ...peers },
});
t.teardown(() => syncPoints.open());

const [connection, monitor] = [
  await connectMysql(first.database!.adminUrl),
  await connectMysql(first.database!.adminUrl),
];
const acquirerUrl = `http://${service('acquirer').http}`;
const schemas = Object.fromEntries(
  ['inventory', 'payments', 'orders'].map((name) => [name, service(name).database!.schema]),
);
const shopData = openShopData({ connection, schemas, acquirerUrl, graceSeconds: 0 });
const log = createLogger('test', 'silent');
const registry = new Registry();
const db = await openDatabase({ url: first.database!.url, log, registry, poolMax: 2, participants: [outbox()] });
const [ada, bo, admin] = [await token('ada'), await token('bo'), await token('admin')];
const tls = await developerCredentials();
const staff = inventoryClient({ addresses: [service('inventory').grpc], tls, token: () => bo });
const customer = ordersClient({ addresses: [second.grpc], tls, token: () => ada });
const till = paymentsClient({ addresses: [service('payments').grpc], tls, token: () => admin });
t.teardown(async () => {
  for (const client of [staff, customer, till]) client.close();
  await Promise.all([connection.end(), monitor.end(), db.close()]);
});

const left = /^saga checkout left$/;
const work = { service: 'orders', calls: /^(saga checkout |\/armature\.(inventory|payments)\.)/, ends: left };
/** What follows after the call to CommitReservation is not part of the race. */
const untilCommit = /^call .*\/CommitReservation$/;

/**
 * A worker that leases due sagas and runs them. It looks for more while it works, so `ends` marks when it has left an
 * order.
 */
const worker = (name: string, { pid }: RunningService): BackgroundActor => ({
  ...{ ...work, name, root: 'saga lease', pid, until: untilCommit },
});
/** A worker that has run up to the request for the authorization. */
const asking = {
  ...{ ...work, name: 'worker', root: '/armature.payments.v1.PaymentService/AuthorizePayment', pid: first.pid },
  begins: 'ask authorization',
} satisfies BackgroundActor;
const workers = [worker('first', first), worker('second', second)] as const;
/**
 * Requests of workers to other services since an order was accepted. Two workers on one order send every request twice.
 */
const asked: string[] = [];
const listening: SyncPointServer = {
  ...syncPoints,
  watch: (watcher) =>
    syncPoints.watch((arrival) => {
      const method = /^call .*\/(\w+)$/.exec(arrival.point)?.[1];
      if (method) asked.push(method);
      watcher(arrival);
    }),
};
const { race, untilBlocked, release } = startRaces({
  syncPoints: listening,
  monitor,
  background: [...workers, asking],
});

interface Sale {
  sku: string;
  orderId: string;
  paymentId: string;
  /** Number of requests that inventory and payments had handled before. */
  responsesBefore: number;
}

/** Lets every arrival go on until no order is in progress. */
async function atRest(): Promise<void> {
  const end = Date.now() + 20_000;
  do {
    await Promise.all(workers.map(untilBlocked));
    for (const actor of [...workers, asking]) release(actor);
    if (Date.now() > end) throw new Error(`an order does not end within the limit: ${first.logs()}${second.logs()}`);
  } while ((await shopData.query('select 1 from {orders}.saga where due_at is not null limit 1')).length > 0);
}

async function storedResponses(): Promise<number> {
  const [row] = await shopData.query<{ n: number | string }>(
    `select (select count(*) from {inventory}.idempotency) + (select count(*) from {payments}.idempotency) as n`,
  );
  return Number(row?.n);
}

const store = orderStore();
const sagas = idleSagas(store);
const open = background('orders', log);

/** Accepts an order as a process would that is killed right after: no worker has it, and every worker waits. */
async function accepted(): Promise<Sale> {
  await atRest();
  await Promise.all(workers.map(untilBlocked));
  return accept();
}

async function accept(): Promise<Sale> {
  const sku = `R-${randomUUID().slice(0, 13).toUpperCase()}`;
  await staff.receiveStock({ locationId: 'main', lines: [{ sku, quantity: 3n }] });
  const now = new Date();
  const order = {
    ...{ orderId: newId(), reservationId: newId(), paymentId: newId(), customerId: 'ada', state: 'PENDING' as const },
    ...{ lines: [{ sku, title: 'Tea', quantity: 2n, unitPriceMinor: 500n }], currencyCode: 'EUR', totalMinor: 1_000n },
    ...{ contactEmail: 'ada@example.com', shippingAddress: address, reason: '', reasonDetail: '' },
    ...{ cancelRequested: false, sequence: 0n, createdAt: now, updatedAt: now },
  };
  asked.splice(0);
  const call = open('accept an order', 10_000);
  await db.transaction(call, async (tx) => {
    await sagas.startCheckout(tx, await store.append(tx, order, [placed(order)]), 'card_ok');
  });
  call.close();
  const { orderId, paymentId } = order;
  return { sku, orderId, paymentId, responsesBefore: await storedResponses() };
}

/** An order whose worker is about to request its authorization. */
async function reserved(): Promise<Sale> {
  const sale = await accepted();
  release(workers[0]);
  await untilBlocked(asking);
  return sale;
}

/** A completed order. */
async function completed(): Promise<Sale> {
  const sale = await accepted();
  await atRest();
  return sale;
}

/** The same as `reserved`, but its worker was away for longer than its lease. */
async function overdue(): Promise<Sale> {
  const sale = await reserved();
  await shopData.query('update {orders}.saga set due_at = utc_timestamp(6) where subject_id = ?', [sale.orderId]);
  return sale;
}

/**
 * Order, history, shelf, payment, ledger and the acquirer's log as text. The position of the cancellation request in
 * the history is ignored.
 */
async function ended({ sku, orderId, paymentId }: Sale): Promise<string> {
  await atRest();
  const [order] = await shopData.query<{ state: string; reason: string }>(
    'select state, reason from {orders}.orders where order_id = ?',
    [orderId],
  );
  const history = await shopData.query<{ body: Buffer }>(
    'select body from {orders}.order_event where order_id = ? order by sequence',
    [orderId],
  );
  const facts = history.map(({ body }) => OrderEvent.decode(body).event?.$case);
  const [shelf] = await shopData.query<{ on_hand: number; reserved: number }>(
    'select on_hand, reserved from {inventory}.stock where sku = ?',
    [sku],
  );
  const [payment] = await shopData.query<{ state: string }>(
    'select state from {payments}.payment where payment_id = ?',
    [paymentId],
  );
  const entries = await shopData.query<{ kind: string }>(
    'select kind from {payments}.ledger_entry where payment_id = ? order by sequence',
    [paymentId],
  );
  const done = (await acquirerLog(acquirerUrl)).filter((one) => one.order_reference === orderId);
  return [
    `${order?.state} ${order?.reason}`.trim(),
    facts.filter((fact) => fact !== 'cancelRequested').join('+'),
    `${shelf?.on_hand} on hand ${shelf?.reserved} reserved`,
    `payment ${payment?.state}`,
    `ledger ${entries.map(({ kind }) => kind).join('+')}`,
    `acquirer ${done.map(({ kind }) => kind).join('+')}`,
  ].join('; ');
}

/** The same as `ended`, with the requests of the workers and the lease. */
async function snapshot(sale: Sale): Promise<string> {
  const end = await ended(sale);
  const { orderId, responsesBefore } = sale;
  const [saga] = await shopData.query<{ lease_token: number | string }>(
    "select lease_token from {orders}.saga where subject_id = ? and name = 'checkout'",
    [orderId],
  );
  const calls = [...Map.groupBy(asked, (method) => method)].map(([method, all]) => `${method} ${all.length}`);
  return [
    end,
    `asked ${calls.join(' ')}`,
    // A step that is requested under a second key adds a stored response.
    `taken ${saga?.lease_token} times; ${(await storedResponses()) - responsesBefore} stored responses`,
  ].join('; ');
}

/** Broken invariants of orders, stock, money and histories, of this run and the runs before. */
async function wrong(): Promise<string[]> {
  const found: string[] = [];
  for (const { id, name, find } of [...historyInvariants, ...shopInvariants])
    if ((await find(shopData)).length > 0) found.push(`${id} ${name}`);
  return found;
}

/** The request goes to the process whose worker does not have the order, so its cached order may be out of date. */
function cancel({ orderId }: Sale, name = 'cancel'): Actor {
  const requestId = randomUUID();
  const ask = (options: object) => responseOf(customer.cancelOrder({ orderId, requestId }, options));
  return {
    name,
    send: (traceparent) => ask({ parent: under(traceparent), token: ada, timeoutMs: 10_000 }),
    again: () => ask({}),
  };
}

const record = /^saga checkout record$/;
const recordOrCancel = /(^saga checkout record|\/CancelOrder)$/;
/**
 * Every writer of an order locks its row, with the statement that finds it in the expected state or reads it for
 * update. Other actors read what is written in between only under that lock.
 */
const orderPoints: Points = [
  ['take order', /^sql (select \* from orders where order_id|update orders set)/, record],
  ['take order', /^sql select \* from orders where order_id/, /\/CancelOrder$/],
  ...(full ? ([['write', /^sql (update saga|select .* from saga|insert)/, recordOrCancel]] as const) : []),
  ['rollback', /^rollback$/, recordOrCancel],
  ['commit', /^commit$/, recordOrCancel],
];
/** Leases are taken without the lock of the order, so the fencing check is a step here. */
const leasePoints: Points = [
  ...(full ? [orderPoints[0]!] : []),
  ['write saga', /^sql update saga set state/, record],
  ['rollback', /^rollback$/, /^saga (lease|checkout record)$/],
  ['commit', /^commit$/, /^saga (lease|checkout record)$/],
];

const judgedBy = { effect: snapshot, wrong };
const cases: RaceCase<Sale>[] = [
  {
    name: 'cancelling an order against its confirmation and completion',
    points: orderPoints,
    prepare: reserved,
    actors: (sale) => [cancel(sale), asking],
    alsoRight: {
      'cancel ok, CANCELLED CUSTOMER_REQUEST; placed+stockReserved+paymentAuthorized+stockCommitted+paymentVoided+stockReleased+cancelled; 3 on hand 0 reserved; payment VOIDED; ledger authorize+void; acquirer authorization+void; asked ReserveStock 1 AuthorizePayment 1 CommitReservation 1 VoidPayment 1 ReleaseReservation 1; taken 1 times; 5 stored responses':
        'the request comes while the units are being taken, before the order is confirmed: they are returned',
    },
    ...judgedBy,
  },
  {
    name: 'a completed order that is cancelled twice at once',
    alike: true,
    points: orderPoints.filter(([, , call]) => call !== record),
    prepare: completed,
    actors: (sale) => [cancel(sale, 'a'), cancel(sale, 'b')],
    ...{ effect: ended, wrong },
  },
  {
    name: 'two workers that look for one saga',
    alike: true,
    points: leasePoints.filter(([, , call]) => call !== record),
    prepare: accepted,
    actors: () => workers,
    ...judgedBy,
  },
  {
    name: 'a worker that was away for longer than its lease against the next one',
    points: leasePoints,
    prepare: overdue,
    actors: () => [
      // Its requests belong to the writes that follow, so they are not steps of their own.
      { ...asking, begins: 'begin', until: untilCommit },
      workers[1],
    ],
    ...judgedBy,
  },
];

t.test('every interleaving', async (t) => {
  for (const one of cases) await t.test(one.name, async (t) => judge(t, await exploreCase(race, one)));
});

/**
 * Points at which the two requests for one refund differ in effect: locks, ends of transactions, and the request to the
 * acquirer.
 */
const refundPlaces = /^(sql select .* for update|call acquirer|commit$)/;
const partMinor = 400n;

async function until(what: string, holds: () => Promise<boolean>): Promise<void> {
  for (const end = Date.now() + 20_000; !(await holds()); await sleep(5)) {
    if (Date.now() > end) throw new Error(`not within 20 s: ${what}: ${first.logs()}${second.logs()}`);
  }
}

const cancellation = (orderId: string, where: string) =>
  shopData.query(
    `select 1 from {orders}.saga s join {orders}.saga_log l on l.saga_id = s.saga_id
     where s.name = 'cancellation' and s.subject_id = ? and ${where} limit 1`,
    [orderId],
  );

/**
 * Blocks one of the two at its n-th point in payments. Lets the other go on until it has ended, waits for a lock or was
 * told to retry. Returns false if there is no such point.
 */
async function blockedAt(
  blocked: 'refund' | 'cancellation',
  n: number,
  { orderId, paymentId }: Sale,
): Promise<boolean> {
  const traceId = randomBytes(16).toString('hex');
  const stopped = Promise.withResolvers<Waiting | null>();
  let passed = 0;
  syncPoints.watch((arrival) => {
    const who = arrival.trace === traceId ? 'refund' : 'cancellation';
    const counts = who === blocked && arrival.name.endsWith('/RefundPayment') && refundPlaces.test(arrival.point);
    if (!counts || passed++ !== n) arrival.go();
    else stopped.resolve(arrival);
  });
  const ends = {
    async refund() {
      const parent = under(traceparent({ traceId, spanId: traceId.slice(16), parentId: '', sampled: true }));
      const amount = { currencyCode: 'EUR', amountMinor: partMinor };
      await responseOf(till.refundPayment({ paymentId, amount }, { parent, token: admin, timeoutMs: 10_000 }));
    },
    async cancellation() {
      await customer.cancelOrder({ orderId });
      await until('the end of the cancellation', async () => {
        const over = await cancellation(orderId, "(s.status = 'COMPLETED' or l.outcome = 'unknown')");
        return over.length > 0;
      });
    },
  };
  const other = blocked === 'refund' ? 'cancellation' : 'refund';
  const one = ends[blocked]();
  const place = await Promise.race([stopped.promise, one.then(() => null)]);
  const both = ends[other]();
  let done = false;
  void both.finally(() => {
    done = true;
  });
  if (place) await until('the other', async () => done || (await lockWaits(monitor)).size > 0);
  place?.go();
  await Promise.all([one, both]);
  await until('the cancellation', async () => (await cancellation(orderId, "s.status = 'COMPLETED'")).length > 0);
  return place !== null;
}

for (const blocked of long ? (['refund', 'cancellation'] as const) : (['refund'] as const)) {
  t.test(
    `a partial refund against a whole cancellation, with the ${blocked} blocked at each of its points`,
    async (t) => {
      for (const actor of [...workers, asking]) release(actor);
      syncPoints.watch((arrival) => arrival.go());
      let n = 0;
      for (let more = true; more; n += 1) {
        const sale = await accept();
        const { orderId, paymentId } = sale;
        const order = "select 1 from {orders}.orders where order_id = ? and state = 'COMPLETED'";
        await until('the order is complete', async () => (await shopData.query(order, [orderId])).length > 0);
        more = await blockedAt(blocked, n, sale);
        const refunds = await shopData.query<{ amount: number | string }>(
          "select amount_minor as amount from {payments}.payment_operation where payment_id = ? and kind = 'refund' and state = 'DONE'",
          [paymentId],
        );
        const amounts = refunds.map(({ amount }) => BigInt(amount)).filter((amount) => amount > 0n);
        const part = amounts.includes(partMinor) ? partMinor : 0n;
        const named = (await customer.listOrderEvents({ orderId })).events.at(-1)?.event;
        t.match(
          named,
          {
            $case: 'cancelled',
            value: { refunded: { amountMinor: 1_000n - part }, refundedTotal: { amountMinor: 1_000n } },
          },
          `${blocked} blocked at point ${n}, ${part} refunded before`,
        );
        t.strictSame(
          amounts.reduce((sum, amount) => sum + amount, 0n),
          1_000n,
        );
      }
      t.ok(n > 3, 'there were points');
      const payments = (sql: string, params: readonly unknown[] = []) =>
        // biome-ignore lint/suspicious/noExplicitAny: rows of any shape, as the driver returns them
        connection.query({ sql, values: [...params], dateStrings: true }).then(([rows]) => rows as any[]);
      await connection.query(`use ${schemas.payments}`);
      t.strictSame(await ledgerViolations(payments, acquirerUrl), []);
    },
  );
}
