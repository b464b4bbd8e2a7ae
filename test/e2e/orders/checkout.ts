import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { DeliveryState } from '@armature/proto/notifications/v1/notifications.ts';
import type { OrderEvent } from '@armature/proto/orders/v1/orders.ts';
import t from 'tap';
import { refusal } from '../../support/refusal.ts';
import type { RunningService } from '../../support/service.ts';
import { inLongTier } from '../../support/tier.ts';
import { acquirerLog } from '../../verification/invariants/ledger-checks.ts';
import { restart as restartService } from '../restart.ts';
import { buy, follow, stateName, wish } from '../shop.ts';
import { paymentsEnv, shop } from './shop.ts';

const { customer, staff } = shop;
const acquirer = `http://${shop.service('acquirer').http}`;

/** The operations of the card processor for an order, from its own log. */
const movedFor = async (orderId: string) =>
  (await acquirerLog(acquirer))
    .filter((one) => one.order_reference === orderId)
    .map(({ kind, status }) => `${kind} ${status}`);
const steps = (events: readonly OrderEvent[]) => events.map(({ event }) => event?.$case);
const shelf = (onHand: bigint, reserved = 0n) => ({ onHand, reserved, available: onHand - reserved });

const straight = [
  'placed',
  'stockReserved',
  'paymentAuthorized',
  'stockCommitted',
  'confirmed',
  'paymentCaptured',
  'completed',
];

t.test('an order with a card that works completes', async (t) => {
  const sku = await shop.stock(5n);
  const placed = await customer.orders.placeOrder(wish(sku, { lines: [{ sku, quantity: 2n }] }));
  t.equal(stateName(placed), 'PENDING', 'the response comes at once');
  const events = await follow(customer, placed.orderId);
  t.strictSame(steps(events), straight);
  t.strictSame(
    events.map(({ sequence }) => sequence),
    events.map((_, index) => BigInt(index + 1)),
  );
  const order = await customer.orders.getOrder({ orderId: placed.orderId });
  t.match(order, { reason: '', total: { currencyCode: 'EUR', amountMinor: 2_500n }, cancelRequested: false });
  t.equal(stateName(order), 'COMPLETED');
  t.strictSame(await shop.shelf(sku), shelf(3n));
  t.strictSame(await movedFor(order.orderId), ['authorization authorized', 'capture captured']);
  const { paymentId } = order;
  t.match(await customer.payments.getPayment({ paymentId }), { captured: { amountMinor: 2_500n } });
});

t.test('an order that cannot be fulfilled ends with a reason, and takes neither units nor money', async (t) => {
  const rows = [
    {
      name: 'a declined card',
      card: 'card_declined',
      units: 5n,
      state: 'CANCELLED',
      reason: 'PAYMENT_DECLINED',
      detail: 'card_declined',
    },
    {
      name: 'a card without money',
      card: 'card_insufficient_funds',
      units: 5n,
      state: 'CANCELLED',
      reason: 'PAYMENT_DECLINED',
      detail: 'insufficient_funds',
    },
    {
      name: 'an empty shelf',
      card: 'card_ok',
      units: 0n,
      state: 'REJECTED',
      reason: /SKU_UNKNOWN|STOCK_INSUFFICIENT/,
      detail: 'sku',
    },
    {
      name: 'too little on the shelf',
      card: 'card_ok',
      units: 1n,
      state: 'REJECTED',
      reason: 'STOCK_INSUFFICIENT',
      detail: 'sku',
    },
  ];
  for (const { name, card, units, state, reason, detail } of rows) {
    await t.test(name, async (t) => {
      const sku = await shop.stock(units);
      const plenty = await shop.stock(5n);
      const lines = [plenty, sku].map((one) => ({ sku: one, quantity: 2n }));
      const order = await buy(customer, wish(sku, { lines, paymentMethod: card }));
      t.equal(stateName(order), state);
      t.match(order.reason, reason);
      t.equal(order.reasonDetail, detail === 'sku' ? sku : detail);
      if (units > 0n) t.strictSame(await shop.shelf(sku), shelf(units));
      t.strictSame(await shop.shelf(plenty), shelf(5n), 'the other line is not held either');
      const moved = await movedFor(order.orderId);
      t.notOk(
        moved.some((one) => /authorized|captured/.test(one)),
        moved.join(),
      );
    });
  }
});

t.test('a card processor that fails half-way charges once', async (t) => {
  const charged = ['authorization authorized', 'capture captured'];
  for (const { card, moved } of [
    { card: 'card_timeout_after_auth', moved: charged },
    { card: 'card_timeout_before_auth', moved: charged },
    { card: 'card_timeout_after_capture', moved: charged },
    { card: 'card_error_once', moved: charged },
    { card: 'card_webhook', moved: ['authorization pending', 'settlement authorized', 'capture captured'] },
  ]) {
    await t.test(card, async (t) => {
      const sku = await shop.stock(3n);
      const order = await buy(customer, wish(sku, { paymentMethod: card }));
      t.equal(stateName(order), 'COMPLETED');
      t.strictSame(await movedFor(order.orderId), moved);
      t.strictSame(await shop.shelf(sku), shelf(2n));
    });
  }
});

const restart = (name: string, env: Record<string, string>) => restartService(t, shop, name, env);

t.test('payments is killed before it calls the acquirer, and the order completes', async (t) => {
  const doomed = await restart('payments', { ARMATURE_CRASH_POINTS: 'payments.before-acquirer:1' });
  const sku = await shop.stock(3n);
  const placed = await customer.orders.placeOrder(wish(sku));
  await once(doomed.process, 'exit');
  await restart('payments', paymentsEnv);
  t.strictSame(steps(await follow(customer, placed.orderId)), straight);
  t.strictSame(await movedFor(placed.orderId), ['authorization authorized', 'capture captured']);
});

/**
 * Starts orders that stops after this many recorded outcomes, and inventory whose reservations expire after two
 * seconds.
 */
async function stopAfter(recorded: number, env: Record<string, string> = {}): Promise<RunningService> {
  await restart('inventory', { ARMATURE_RESERVATION_TTL_MS: '2000', ARMATURE_EXPIRY_SWEEP_MS: '100' });
  const orders = await restart('orders', { ...env, ARMATURE_CRASH_POINTS: `saga.recorded:${recorded}=stop` });
  t.teardown(() => orders.process.kill('SIGCONT'));
  return orders;
}

t.test('the reservation of a confirmed order does not expire, however late the order goes on', async (t) => {
  const orders = await stopAfter(3);
  const sku = await shop.stock(3n);
  const { orderId } = await customer.orders.placeOrder(wish(sku));
  while ((await shop.shelf(sku)).onHand !== 2n) await sleep(20);
  // Longer than the lifetime of a reservation and the interval of the expiry job.
  await sleep(2_500);
  t.strictSame(await shop.shelf(sku), shelf(2n));
  orders.process.kill('SIGCONT');
  t.strictSame(steps(await follow(customer, orderId)), straight);
  t.equal(stateName(await customer.orders.getOrder({ orderId })), 'COMPLETED');
});

t.test('an order whose reservation expires before it is confirmed is cancelled, and never was confirmed', async (t) => {
  const orders = await stopAfter(2);
  const sku = await shop.stock(3n);
  const { orderId } = await customer.orders.placeOrder(wish(sku));
  for (const reserved of [1n, 0n]) while ((await shop.shelf(sku)).reserved !== reserved) await sleep(20);
  orders.process.kill('SIGCONT');
  const events = steps(await follow(customer, orderId)).slice(3);
  t.strictSame(events.toSorted(), ['cancelled', 'paymentVoided', 'stockReleased']);
  t.equal(events.at(-1), 'cancelled');
  t.match(await customer.orders.getOrder({ orderId }), { reason: 'RESERVATION_EXPIRED' });
  t.strictSame(await movedFor(orderId), ['authorization authorized', 'void voided']);
  t.strictSame(await shop.shelf(sku), shelf(3n));
});

// Replays of recordings represent earlier versions in the short tier.
t.test('version 1 of the checkout undoes a confirmed order whose reservation expired', inLongTier, async (t) => {
  const orders = await stopAfter(2, { ARMATURE_CHECKOUT_VERSION: '1' });
  const sku = await shop.stock(3n);
  const { orderId } = await customer.orders.placeOrder(wish(sku));
  for (const reserved of [1n, 0n]) while ((await shop.shelf(sku)).reserved !== reserved) await sleep(20);
  orders.process.kill('SIGCONT');
  const events = steps(await follow(customer, orderId)).slice(3);
  t.strictSame(events, ['confirmed', 'paymentVoided', 'stockReleased', 'cancelled']);
  t.match(await customer.orders.getOrder({ orderId }), { reason: 'RESERVATION_EXPIRED' });
  t.strictSame(await movedFor(orderId), ['authorization authorized', 'void voided']);
  await restart('orders', {});
  await restart('inventory', {});
});

t.test('a capture that the acquirer refuses undoes the order', async (t) => {
  const sku = await shop.stock(3n);
  const order = await buy(customer, wish(sku, { paymentMethod: 'card_capture_declined' }));
  t.match(order, { reason: 'PAYMENT_DECLINED', reasonDetail: 'capture_declined', cancelRequested: false });
  t.equal(stateName(order), 'CANCELLED');
  const events = await follow(customer, order.orderId);
  t.strictSame(steps(events).slice(-4), ['confirmed', 'paymentVoided', 'stockReleased', 'cancelled']);
  t.match(events.at(-1)?.event, { value: { refunded: { amountMinor: 0n } } });
  t.strictSame(await shop.shelf(sku), shelf(3n));
  t.match(await movedFor(order.orderId), ['authorization authorized', 'capture refused', 'void voided']);
});

t.test('cancelling', async (t) => {
  await t.test('a pending order stops it', async (t) => {
    const sku = await shop.stock(3n);
    const { orderId } = await customer.orders.placeOrder(wish(sku, { paymentMethod: 'card_slow' }));
    for await (const { event } of customer.orders.watchOrder({ orderId })) if (event?.$case === 'stockReserved') break;
    t.match(await customer.orders.cancelOrder({ orderId }), { cancelRequested: true });
    const events = await follow(customer, orderId);
    t.equal(steps(events).at(-1), 'cancelled');
    t.notOk(steps(events).includes('confirmed'));
    t.match(await customer.orders.getOrder({ orderId }), { reason: 'CUSTOMER_REQUEST' });
    t.strictSame(await shop.shelf(sku), shelf(3n));
    t.notOk((await movedFor(orderId)).includes('capture captured'));
    t.match(await customer.orders.cancelOrder({ orderId }), { cancelRequested: true }, 'again changes nothing');
  });

  await t.test('cancelling a completed order refunds the money and returns the units', async (t) => {
    const sku = await shop.stock(3n);
    const { orderId, paymentId } = await buy(customer, wish(sku));
    t.strictSame(await shop.shelf(sku), shelf(2n));
    await customer.orders.cancelOrder({ orderId });
    const events = await follow(customer, orderId, 7n);
    t.strictSame(steps(events), ['cancelRequested', 'paymentRefunded', 'stockReleased', 'cancelled']);
    t.match(events.at(-1)?.event, { value: { refunded: { currencyCode: 'EUR', amountMinor: 1_250n } } });
    t.strictSame(await shop.shelf(sku), shelf(3n));
    t.strictSame(await movedFor(orderId), ['authorization authorized', 'capture captured', 'refund refunded']);
    const payment = await customer.payments.getPayment({ paymentId });
    t.match(payment, { captured: { amountMinor: 1_250n }, refunded: { amountMinor: 1_250n } });
  });

  await t.test('a rejected order is refused', async (t) => {
    const { orderId } = await buy(customer, wish(await shop.stock(0n)));
    const refused = refusal({ code: 'FAILED_PRECONDITION', reason: 'ORDER_CLOSED' });
    await t.rejects(customer.orders.cancelOrder({ orderId }), refused);
  });
});

t.test('a repeated request returns the same order', async (t) => {
  const sku = await shop.stock(5n);
  const request = wish(sku);
  const responses = await Promise.all(Array.from({ length: 5 }, () => customer.orders.placeOrder(request)));
  t.equal(new Set(responses.map(({ orderId }) => orderId)).size, 1);
  await follow(customer, responses[0]!.orderId);
  t.strictSame(await shop.shelf(sku), shelf(4n));
});

t.test('a stream resumes where it was interrupted', async (t) => {
  const { orderId } = await customer.orders.placeOrder(wish(await shop.stock(5n)));
  const seen: OrderEvent[] = [];
  // A reader loses its stream after every event, until no event is left.
  for (let ended = false; !ended; ) {
    ended = true;
    for await (const event of customer.orders.watchOrder({ orderId, afterSequence: seen.at(-1)?.sequence ?? 0n })) {
      seen.push(event);
      ended = false;
      break;
    }
  }
  t.strictSame(steps(seen), straight);
  const { events, more } = await customer.orders.listOrderEvents({ orderId });
  t.strictSame([events, more], [seen, false]);
  const page = await customer.orders.listOrderEvents({ orderId, afterSequence: 2n, pageSize: 3 });
  t.strictSame([steps(page.events), page.more], [straight.slice(2, 5), true]);
});

t.test('only its customer and staff may see an order', async (t) => {
  const order = await buy(customer, wish(await shop.stock(5n)));
  const { orderId, paymentId } = order;
  const { orders, payments } = await shop.as('eve');
  const unseen = refusal({ code: 'NOT_FOUND', reason: 'ORDER_NOT_FOUND' });
  await t.rejects(orders.getOrder({ orderId }), unseen);
  await t.rejects(orders.cancelOrder({ orderId }), unseen);
  await t.rejects(orders.listOrderEvents({ orderId }), unseen);
  await t.rejects(follow({ orders }, orderId), unseen);
  await t.rejects(payments.getPayment({ paymentId }), refusal({ code: 'NOT_FOUND' }));
  t.strictSame((await orders.listOrders({ customerId: 'eve' })).orders, []);
  t.strictSame(await staff.orders.getOrder({ orderId }), order, 'staff may see it');
});

t.test('the customer gets an e-mail', async (t) => {
  const sku = await shop.stock(5n);
  const order = await buy(customer, wish(sku, { contactEmail: 'post@example.com' }));
  await staff.orders.cancelOrder({ orderId: order.orderId });
  await follow(customer, order.orderId, order.sequence);
  const folder = join(shop.service('notifications').dir, 'mail', 'new');
  const mails = () =>
    readdirSync(folder)
      .map((name) => readFileSync(join(folder, name), 'utf8'))
      .filter((text) => /^To: .*post@example\.com/m.test(text));
  // The e-mail is sent first, and recorded as sent afterwards.
  const sent = async () => {
    const { deliveries } = await staff.notifications.listDeliveries({ orderId: order.orderId });
    return deliveries.filter(({ state }) => state === DeliveryState.DELIVERY_STATE_SENT);
  };
  while ((await sent()).length < 2) await sleep(50);
  t.equal(mails().length, 2);
  for (const mail of mails()) {
    t.match(mail, /^Subject: \S/m);
    t.match(mail, /^Content-Type: text\/plain/m);
    t.match(mail, /^Content-Type: text\/html/m);
    t.match(mail, order.orderId);
    t.notMatch(mail, /card_ok/);
  }
  t.ok(
    mails().some((mail) => mail.includes('12.50')),
    'the receipt names the sum',
  );
  t.match(await sent(), [{ attempts: 1 }, { attempts: 1 }]);
});
