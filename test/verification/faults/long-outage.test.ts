// Six-hour outages at random moments under load: services are paused in the middle of their work, every row ages,
// orders is killed, then all continue. SEED repeats a run.
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test as Tap } from 'tap';
import { openInvariantCheck, shopDataOf } from '../../e2e/invariant-check.ts';
import { freeze, startAgain } from '../../e2e/restart.ts';
import { openShop, type Shop, wish } from '../../e2e/shop.ts';
import { ageRows } from '../../support/aging.ts';
import { seeded } from '../../support/random.ts';
import { untilClear } from '../crash/until-clear.ts';
import { eventually, shopServices } from './shoppers.ts';

t.setTimeout(900_000);
const seed = Number(process.env.SEED || Math.floor(Math.random() * 2 ** 31));
const random = seeded(seed);
const rounds = 3;
const ordersEach = 30;
const hours = 6;
/** Every service that orders calls is back within this time. */
const endsWithinMs = 120_000;

const shop = await openShop(t, {}, shopServices);
const shopData = await shopDataOf(t, shop);
const assertInvariants = await openInvariantCheck(t, shop);
const skus = [await shop.stock(10_000n), await shop.stock(10_000n), await shop.stock(10_000n, { EUR: 0n })];

const notEnded = () =>
  shopData.query(
    `select o.order_id, o.state, o.cancel_requested, s.name, s.status, s.state as saga from {orders}.orders o
       left join {orders}.saga s on s.subject_id = o.order_id
     where o.state in ('PENDING', 'CONFIRMED') or (o.state = 'COMPLETED' and o.cancel_requested = 1) limit 5`,
  );
const stuck = () => shopData.query("select subject_id, name, state from {orders}.saga where status = 'STUCK'");
/** Confirmed orders that were cancelled although their customers did not ask for it. */
const brokenPromises = () =>
  shopData.query(
    `select o.order_id, o.reason from {orders}.orders o
       join {notifications}.delivery d on d.order_id = o.order_id and d.template = 'order_confirmed'
     where o.state = 'CANCELLED' and o.cancel_requested = 0`,
  );

/**
 * Places an order. Sometimes cancels it, at once or after it is confirmed. Neither is refused while a service is away.
 */
async function order({ customer }: Pick<Shop, 'customer'>): Promise<void> {
  const retry = <T>(act: () => Promise<T>) => untilClear(random, 100, act, () => undefined);
  const request = wish(random.pick(skus));
  const { orderId } = await retry(() => customer.orders.placeOrder(request));
  await sleep(random.between(0, 1_500));
  const cancellation = { orderId, requestId: randomUUID() };
  if (random.next() < 0.4) await retry(() => customer.orders.cancelOrder(cancellation));
}

async function oneOutage(t: Tap, round: number): Promise<void> {
  const away = random.pick([
    ['payments'],
    ['inventory'],
    ['payments', 'inventory'],
    ['acquirer'],
    ['acquirer', 'inventory'],
  ]);
  const placed = Promise.all(Array.from({ length: ordersEach }, () => order(shop)));
  await sleep(random.between(100, 1_500));
  const frozen = away.map((name) => freeze(t, shop.service(name)));
  await placed;
  await shop.service('orders').kill();
  await ageRows(shopData, hours);
  await startAgain(t, shop, 'orders');
  await sleep(random.between(500, 3_000));
  t.strictSame(await stuck(), [], `round ${round}: no saga is stuck without ${away.join(' and ')}`);
  for (const { thaw } of frozen) thaw();
  const waitedMs = await eventually(
    'every order ends',
    endsWithinMs,
    async () => (await notEnded()).length === 0,
  ).catch(async (error: Error) => t.fail(error.message, { orders: await notEnded() }));
  t.comment(`round ${round}: without ${away.join(' and ')} for ${hours} h; all orders ended after ${waitedMs} ms`);
  t.strictSame(await stuck(), [], 'and none afterwards');
}

t.test(`outages of ${hours} hours, seed ${seed}`, async (t) => {
  for (let round = 1; round <= rounds; round += 1) await oneOutage(t, round);
  t.strictSame(await brokenPromises(), [], 'no confirmed order was cancelled unless its customer asked');
  await assertInvariants();
});
