// Outages of hours and days without waiting for them: while services are away, every row is aged.
import { once } from 'node:events';
import { RpcError } from '@armature/runtime';
import t, { type Test as Tap } from 'tap';
import { ageRows } from '../support/aging.ts';
import { eventually, shopServices } from '../verification/faults/shoppers.ts';
import { openInvariantCheck, shopDataOf } from './invariant-check.ts';
import { freeze, isStopped, startAgain } from './restart.ts';
import { buy, follow, openShop, stateName, wish } from './shop.ts';

t.setTimeout(280_000);
/** Every completed order calls the acquirer twice; payments stops before the capture of the third one. */
const stopAtThirdCapture = { ARMATURE_CRASH_POINTS: 'payments.before-acquirer:6=stop' };
const shop = await openShop(t, { payments: stopAtThirdCapture }, shopServices);
const { customer } = shop;
const shopData = await shopDataOf(t, shop);
const assertInvariants = await openInvariantCheck(t, shop);
const sku = await shop.stock(100n);
const withinMs = 60_000;

const sagasOf = (orderId: string) =>
  shopData.query<{ name: string; status: string; version: number }>(
    'select name, status, version from {orders}.saga where subject_id = ? order by created_at',
    [orderId],
  );
/** Progress of the sagas of an order: increases with every recorded change. */
const progress = async (orderId: string) => (await sagasOf(orderId)).reduce((sum, { version }) => sum + version, 0);
const stuck = () => shopData.query("select subject_id, name, state from {orders}.saga where status = 'STUCK'");
const reservationOf = async (orderId: string) =>
  (
    await shopData.query<{ state: string }>('select state from {inventory}.reservation where order_id = ?', [orderId])
  )[0]?.state ?? 'none';

/** Ends orders by SIGKILL, and starts it again with other variables. */
async function restartOrders(env: Record<string, string> = {}): Promise<void> {
  await shop.service('orders').kill();
  await startAgain(t, shop, 'orders', env);
  // Clients that could not connect wait a little before they retry.
  await eventually('orders responds', withinMs, () =>
    customer.orders.listOrders({ customerId: 'ada', pageSize: 1 }).then(
      () => true,
      (error: unknown) => {
        if (error instanceof RpcError && error.code === 'UNAVAILABLE') return false;
        throw error;
      },
    ),
  );
}

const order = (orderId: string) => customer.orders.getOrder({ orderId });
const ends = async (orderId: string) =>
  eventually(`order ${orderId} ends`, withinMs, async () => {
    const { state, cancelRequested } = await order(orderId);
    const name = stateName({ state });
    return name === 'REJECTED' || name === 'CANCELLED' || (name === 'COMPLETED' && !cancelRequested);
  }).catch(async (error: Error) => {
    throw new Error(`${error.message}: ${JSON.stringify(await sagasOf(orderId))}`);
  });
const complete = async (t: Tap) => {
  const bought = await buy(customer, wish(sku));
  t.equal(stateName(bought), 'COMPLETED');
  return bought.orderId;
};

t.test('services that an order needs are away for six hours', async (t) => {
  const [refunding, returning] = [await complete(t), await complete(t)];
  // A confirmed order whose card is about to be charged.
  const capturing = (await customer.orders.placeOrder(wish(sku))).orderId;
  await eventually('payments stops before the capture', withinMs, () => isStopped(shop.service('payments')));
  t.equal(stateName(await order(capturing)), 'CONFIRMED');
  t.teardown(() => shop.service('payments').process.kill('SIGCONT'));
  // An order with reserved units whose card is being authorized.
  const authorizing = (await customer.orders.placeOrder(wish(sku))).orderId;
  await eventually('its units are held', withinMs, async () => (await reservationOf(authorizing)) === 'HELD');
  await customer.orders.cancelOrder({ orderId: refunding });
  await eventually('its units return although the refund waits', withinMs, async () => {
    return (await reservationOf(refunding)) === 'RETURNED';
  });
  const inventory = freeze(t, shop.service('inventory'));
  const reserving = (await customer.orders.placeOrder(wish(sku))).orderId;
  await customer.orders.cancelOrder({ orderId: returning });

  await shop.service('orders').kill();
  await ageRows(shopData, 6);
  const open = [refunding, returning, capturing, authorizing, reserving];
  const before = await Promise.all(open.map(progress));
  await restartOrders();
  // Attempts after six hours, while the service is still away.
  for (const [index, orderId] of open.entries()) {
    await eventually(`${orderId} is tried again`, withinMs, async () => (await progress(orderId)) > before[index]!);
  }
  t.strictSame(await stuck(), [], 'no saga is stuck while they are away');
  shop.service('payments').process.kill('SIGCONT');
  inventory.thaw();

  for (const orderId of open) await ends(orderId);
  t.strictSame(await stuck(), [], 'nor afterwards');
  for (const orderId of [authorizing, reserving]) {
    t.match(await order(orderId), { reason: 'TIME_LIMIT' }, 'not confirmed, so its time was up');
  }
  t.equal(stateName(await order(capturing)), 'COMPLETED', 'a confirmed order completes');
  t.equal(await reservationOf(capturing), 'COMMITTED', 'and its units were kept');
  for (const orderId of [refunding, returning]) {
    const { reason, state } = await order(orderId);
    t.equal(`${stateName({ state })} ${reason}`, 'CANCELLED CUSTOMER_REQUEST');
  }
  t.strictSame(await shop.shelf(sku), { onHand: 99n, reserved: 0n, available: 99n });
  await assertInvariants();
});

t.test(
  'orders stops for six hours before the units are taken, and the order is not confirmed without them',
  async (t) => {
    // The third call of a checkout commits the reservation.
    await restartOrders({ ARMATURE_CRASH_POINTS: 'saga.before-call:3' });
    const gone = once(shop.service('orders').process, 'exit');
    const { orderId } = await customer.orders.placeOrder(wish(sku));
    await gone;
    t.equal(await reservationOf(orderId), 'HELD');
    await ageRows(shopData, 6);
    await eventually('the reservation expires', withinMs, async () => (await reservationOf(orderId)) === 'EXPIRED');
    await restartOrders();
    await ends(orderId);
    const steps = (await follow(customer, orderId)).map(({ event }) => event?.$case);
    t.notOk(steps.includes('confirmed'), steps.join());
    t.match((await order(orderId)).reason, /^(TIME_LIMIT|RESERVATION_EXPIRED)$/);
    await assertInvariants();
  },
);

t.test('a cancellation that no worker processed for days refunds the order', async (t) => {
  const orderId = await complete(t);
  // The request is recorded and its saga started; then the process is killed before it runs a step.
  await restartOrders({ ARMATURE_CRASH_POINTS: 'cancel-order.committed' });
  const gone = once(shop.service('orders').process, 'exit');
  await t.rejects(customer.orders.cancelOrder({ orderId }), { code: 'UNAVAILABLE' });
  await gone;
  await ageRows(shopData, 3 * 24);
  await restartOrders();
  await ends(orderId);
  const events = await follow(customer, orderId);
  t.match(events.at(-1)?.event, { $case: 'cancelled', value: { refunded: { amountMinor: 1_250n } } });
  await assertInvariants();
});
