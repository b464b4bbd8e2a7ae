// The acquirer hangs for minutes: only work that needs it may wait. Rows are aged instead of waiting.
import t from 'tap';
import { ageRows } from '../support/aging.ts';
import { eventually, shopServices } from '../verification/faults/shoppers.ts';
import { openInvariantCheck, shopDataOf } from './invariant-check.ts';
import { freeze, restart } from './restart.ts';
import { buy, follow, openShop, stateName, wish } from './shop.ts';

t.setTimeout(180_000);
/** More than the concurrent calls of one worker to payments. */
const waiting = 40;
const withinMs = 20_000;
const shop = await openShop(t, { inventory: { ARMATURE_EXPIRY_SWEEP_MS: '200' } }, shopServices);
const { customer } = shop;
const shopData = await shopDataOf(t, shop);
const assertInvariants = await openInvariantCheck(t, shop);

t.test('reservations, cancellations, free orders and expiry go on while the acquirer hangs for minutes', async (t) => {
  const mesh = t;
  const sku = await shop.stock(100n);
  const free = await shop.stock(10n, { EUR: 0n });
  const bought = await buy(customer, wish(sku));
  /** Reads the database: calls could exceed their deadlines on a busy machine. */
  const units = async () => {
    const [row] = await shopData.query<{ on_hand: string; reserved: string }>(
      'select sum(on_hand) as on_hand, sum(reserved) as reserved from {inventory}.stock where sku = ?',
      [sku],
    );
    return { onHand: BigInt(row!.on_hand), reserved: BigInt(row!.reserved) };
  };
  const acquirer = freeze(t, shop.service('acquirer'));
  const placed = await Promise.all(
    Array.from({ length: waiting }, () => customer.orders.placeOrder(wish(sku), { timeoutMs: 10_000 })),
  );

  await t.test('every order that waits for the acquirer has its units', async (t) => {
    await eventually('all are reserved', withinMs, async () => (await units()).reserved === BigInt(waiting));
    t.match(await units(), { onHand: 99n });
  });

  await t.test('a free order completes at once', async (t) => {
    const since = performance.now();
    t.equal(stateName(await buy(customer, wish(free))), 'COMPLETED');
    t.comment(`after ${Math.round(performance.now() - since)} ms`);
    t.ok(performance.now() - since < 5_000, 'it waits for no payment');
  });

  await t.test('a cancellation returns the units although its refund waits', async (t) => {
    await customer.orders.cancelOrder({ orderId: bought.orderId });
    await eventually('the units are back', withinMs, async () => (await units()).onHand === 100n);
    const { state, cancelRequested } = await customer.orders.getOrder({ orderId: bought.orderId });
    t.match([stateName({ state }), cancelRequested], ['COMPLETED', true], 'and the refund is still missing');
  });

  await t.test('orders that are not confirmed in time return their units although their voids wait', async (t) => {
    await shop.service('orders').kill();
    await ageRows(shopData, 5 / 60);
    await restart(mesh, shop, 'orders', {});
    await eventually('no unit is held', 2 * withinMs, async () => (await units()).reserved === 0n);
    t.match(await units(), { onHand: 100n });
    t.equal(stateName(await buy(customer, wish(free))), 'COMPLETED', 'a free order still completes');
    t.strictSame(await shopData.query("select subject_id from {orders}.saga where status = 'STUCK'"), []);
  });

  await t.test('reservations expire', async () => {
    placed.push(await customer.orders.placeOrder(wish(sku)));
    await eventually('one unit is held', withinMs, async () => (await units()).reserved === 1n);
    await shop.service('orders').kill();
    await ageRows(shopData, 20 / 60);
    await eventually('no unit is held', withinMs, async () => (await units()).reserved === 0n);
    await restart(mesh, shop, 'orders', {});
  });

  acquirer.thaw();
  for (const { orderId } of placed) {
    await follow(customer, orderId);
    const { state, reason } = await customer.orders.getOrder({ orderId });
    // REJECTED if the order ended before orders learned that the units were reserved.
    t.match(stateName({ state }), /^(CANCELLED|REJECTED)$/);
    t.match(reason, /^(TIME_LIMIT|RESERVATION_EXPIRED)$/);
  }
  const undone = (await follow(customer, bought.orderId)).at(-1)?.event;
  t.match(undone, { $case: 'cancelled', value: { refunded: bought.total } });
  await assertInvariants();
});
