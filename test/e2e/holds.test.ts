// Holds that end at the acquirer before the charge, and refunds that it refuses for good.
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { PaymentState } from '@armature/proto/payments/v1/payments.ts';
import t from 'tap';
import { acquirerLog } from '../../services/payments/books.ts';
import { shopServices } from '../faults/shoppers.ts';
import { lawsOf } from './laws.ts';
import { isStopped, restart } from './restart.ts';
import { follow, mailAbout, openShop, stateName, wish } from './shop.ts';

t.setTimeout(180_000);
const shop = await openShop(t, {}, shopServices);
const { customer, staff } = shop;
const acquirerUrl = `http://${shop.service('acquirer').http}`;
t.afterEach(await lawsOf(t, shop));

/** Asks the acquirer directly, past payments. */
async function atAcquirer(path: string): Promise<void> {
  const headers = { 'content-type': 'application/json', 'idempotency-key': randomUUID() };
  const response = await fetch(`${acquirerUrl}${path}`, { method: 'POST', headers, body: '{}' });
  if (!response.ok) throw new Error(`POST ${path}: ${response.status} ${await response.text()}`);
}

/** The acquirer's id of the charge of an order. */
async function chargeOf(orderId: string): Promise<string> {
  const found = (await acquirerLog(acquirerUrl)).find((one) => one.order_reference === orderId && one.charge_id);
  if (!found?.charge_id) throw new Error(`the acquirer has no charge for ${orderId}`);
  return found.charge_id;
}

for (const { name, act, reason, state } of [
  {
    name: 'voided by another request',
    act: 'void',
    reason: 'PAYMENT_VOIDED',
    state: PaymentState.PAYMENT_STATE_VOIDED_EXTERNALLY,
  },
  {
    name: 'expired',
    act: 'expire',
    reason: 'PAYMENT_HOLD_EXPIRED',
    state: PaymentState.PAYMENT_STATE_HOLD_EXPIRED,
  },
]) {
  t.test(`a confirmed order whose hold was ${name} is cancelled with its stock back`, async (t) => {
    const orders = await restart(t, shop, 'orders', { ARMATURE_CRASH_POINTS: 'saga.recorded:3=stop' });
    t.teardown(() => orders.process.kill('SIGCONT'));
    const sku = await shop.stock(3n);
    const { orderId, paymentId } = await customer.orders.placeOrder(wish(sku));
    while ((await shop.shelf(sku)).onHand !== 2n) await sleep(20);
    while (!isStopped(orders)) await sleep(20);
    await atAcquirer(`/v1/charges/${await chargeOf(orderId)}/${act}`);
    orders.process.kill('SIGCONT');
    const events = await follow(customer, orderId);
    t.equal(events.at(-1)?.event?.$case, 'cancelled');
    const order = await customer.orders.getOrder({ orderId });
    t.match([stateName(order), order.reason, order.reasonDetail], ['CANCELLED', reason, '']);
    t.match(await shop.shelf(sku), { onHand: 3n, reserved: 0n });
    t.match(await customer.payments.getPayment({ paymentId }), { state, captured: { amountMinor: 0n } });
    const [account] = [await staff.ledger.getAccount({ account: 'acquirer_holds', currencyCode: 'EUR' })];
    t.match(account, { pendingMinor: 0n }, 'the ledger holds nothing');
    t.match(await mailAbout(shop, orderId, /cancelled/), 'Nothing was charged.');
  });
}
