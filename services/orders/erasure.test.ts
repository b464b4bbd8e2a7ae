import { newId } from '@armature/runtime';
import { background } from '@armature/runtime/context';
import { openDatabase } from '@armature/runtime/db';
import { outbox } from '@armature/runtime/messaging';
import { migrate, runtimeMigrations } from '@armature/runtime/migrations';
import { createLogger, Registry } from '@armature/runtime/telemetry';
import t from 'tap';
import { createDatabase } from '../../test/support/infra.ts';
import { erasureJob, nextLookSeconds } from './erasure.ts';
import { erasureStore } from './erasure-store.ts';
import { migrations } from './migrations/index.ts';
import { type Fact, type Order, placed } from './order.ts';
import { orderStore } from './store.ts';

const log = createLogger('orders', 'error');
const open = background('orders', log);
const database = await createDatabase(t, 'orders');
await migrate(database.migratorUrl, [...runtimeMigrations, ...migrations]);
await database.migrated();
const db = await openDatabase({ url: database.url, log, registry: new Registry(), participants: [outbox()] });
t.teardown(() => db.close());

const store = orderStore();
const erasures = erasureStore();
const job = erasureJob({ db, erasures });

const inCall = async <R>(work: (call: ReturnType<typeof open>) => Promise<R>): Promise<R> => {
  const call = open('test', 20_000);
  try {
    return await work(call);
  } finally {
    call.close();
  }
};
const change = (orderId: string, ...facts: Fact[]) =>
  inCall((call) => db.transaction(call, (tx) => store.change(tx, orderId, () => facts)));
const find = (orderId: string) => db.read(null, (sql) => store.find(sql, orderId));
const contactOf = (orderId: string) => db.read(null, (sql) => erasures.contactOf(sql, orderId));
const erase = (customerId: string) => inCall((call) => db.transaction(call, (tx) => erasures.record(tx, customerId)));
/** The job, as if the time until its next look were over. */
const look = () =>
  inCall(async (call) => {
    await db.write(call, (sql) => sql.execute('update erased_customer set due_at = utc_timestamp(6)'));
    await job.run(call);
  });

async function place(customerId: string): Promise<Order> {
  const now = new Date();
  const order: Order = {
    ...{ orderId: newId(), customerId, state: 'PENDING', currencyCode: 'EUR', totalMinor: 900n },
    lines: [{ sku: 'A-1', title: 'Tea', quantity: 2n, unitPriceMinor: 450n }],
    contactEmail: 'ada@example.com',
    shippingAddress: {
      recipient: 'Ada',
      street: '12 St James Square',
      city: 'London',
      postalCode: '1',
      countryCode: 'GB',
    },
    ...{ reason: '', reasonDetail: '', cancelRequested: false, reservationId: newId(), paymentId: newId() },
    ...{ sequence: 0n, createdAt: now, updatedAt: now },
  };
  return inCall((call) => db.transaction(call, (tx) => store.append(tx, order, [placed(order)])));
}

const erased = { contactEmail: '', shippingAddress: null, erasedAt: Date };

t.test('an order in progress keeps its address until it ends, and its e-mails go nowhere', async (t) => {
  const { orderId } = await place('in-progress');
  const other = await place('another');
  t.equal(await contactOf(orderId), 'ada@example.com');
  await erase('in-progress');
  await look();
  t.match(await find(orderId), { contactEmail: 'ada@example.com', shippingAddress: { city: 'London' } });
  t.equal(await contactOf(orderId), '');
  await change(orderId, { $case: 'cancelRequested', value: { orderId, requestedBy: 'user:bo' } });
  await change(orderId, { $case: 'completed', value: { orderId } });
  await look();
  t.match(await find(orderId), { contactEmail: 'ada@example.com' }, 'a cancellation is still under way');
  await change(orderId, {
    $case: 'cancelled',
    value: { orderId, customerId: '', contactEmail: '', reason: 'CUSTOMER_REQUEST', reasonDetail: '' } as never,
  });
  await look();
  t.match(await find(orderId), { ...erased, state: 'CANCELLED', totalMinor: 900n });
  t.match(await find(other.orderId), { contactEmail: 'ada@example.com' }, 'others keep theirs');
});

t.test(
  'an order that was placed while the erasure arrived is erased too, and an erasure may arrive twice',
  async (t) => {
    await erase('racing');
    await look();
    const { orderId } = await place('racing');
    await change(orderId, { $case: 'completed', value: { orderId } });
    await look();
    const first = await find(orderId);
    t.match(first, erased);
    await erase('racing');
    await look();
    t.strictSame(await find(orderId), first);
  },
);

t.test('more orders than one transaction takes', async (t) => {
  const orders = [];
  for (let index = 0; index < 101; index++) orders.push(await place('many'));
  await db.write(null, (sql) => sql.execute("update orders set state = 'REJECTED' where customer_id = 'many'"));
  await erase('many');
  await look();
  const [{ left } = { left: -1 }] = await db.read(null, (sql) =>
    sql.query<{ left: number }>(
      "select count(*) as `left` from orders where customer_id = 'many' and contact_email <> ''",
    ),
  );
  t.equal(Number(left), 0);
});

t.test('looks less and less often, and stops once nothing can come any more', async (t) => {
  t.equal(nextLookSeconds(0, false), 1);
  t.equal(nextLookSeconds(600, true), 60);
  t.equal(nextLookSeconds(7_200, false), 600);
  t.equal(nextLookSeconds(7_201, false), null);
  t.equal(nextLookSeconds(1_000_000, true), 600, 'an order that needs an operator for days');
});
