// Cancellations in the whole mesh: what they refund, what they tell customers, and that they always end.
import { once } from 'node:events';
import t from 'tap';
import { connectMysql } from '../../../scripts/devmesh/servers/mysql.ts';
import { inLongTier } from '../../support/tier.ts';
import { acquirerLog } from '../../verification/invariants/ledger-checks.ts';
import { restart as restartService } from '../restart.ts';
import { buy, follow, mailAbout, stateName, wish } from '../shop.ts';
import { shop } from './shop.ts';

const { customer } = shop;
const admin = await shop.as('admin');
const acquirerUrl = `http://${shop.service('acquirer').http}`;

const eur = (amountMinor: bigint) => ({ currencyCode: 'EUR', amountMinor });

const restart = (name: string, env: Record<string, string>) => restartService(t, shop, name, env);
/** The e-mail about the cancellation of an order. */
const cancellationMail = (orderId: string) => mailAbout(shop, orderId, /cancelled/);

/** An order of 154.90 EUR that is complete. */
async function completedOrder() {
  const sku = await shop.stock(3n, { EUR: 15_490n });
  const order = await buy(customer, wish(sku));
  if (stateName(order) !== 'COMPLETED') throw new Error(`the order is ${stateName(order)}: ${order.reason}`);
  return { ...order, sku };
}

for (const version of ['2', '1']) {
  const tier = version === '2' ? {} : inLongTier;
  t.test(`version ${version} of the cancellation refunds what is left of the charge`, tier, async (t) => {
    if (version !== '2') await restart('orders', { ARMATURE_CANCELLATION_VERSION: version });
    for (const { name, before, refunded, says } of [
      {
        name: 'nothing refunded before',
        before: [],
        refunded: 15_490n,
        says: 'We have refunded EUR 154.90.',
      },
      {
        name: 'a part refunded before',
        before: [500n],
        refunded: 14_990n,
        says: 'We have refunded EUR 149.90. With earlier refunds that makes EUR 154.90.',
      },
      {
        name: 'all of it refunded before',
        before: [500n, 14_990n],
        refunded: 0n,
        says: 'EUR 154.90 of this order has been refunded in total.',
      },
    ]) {
      await t.test(name, async (t) => {
        const { orderId, paymentId, sequence, sku } = await completedOrder();
        for (const amountMinor of before) await admin.payments.refundPayment({ paymentId, amount: eur(amountMinor) });
        await customer.orders.cancelOrder({ orderId });
        const events = await follow(customer, orderId, sequence);
        const refund = events.find(({ event }) => event?.$case === 'paymentRefunded')?.event;
        const total = { refundedTotal: eur(15_490n) };
        if (refunded > 0n) t.match(refund, { value: { amount: eur(refunded), ...total } });
        else t.equal(refund, undefined);
        t.match(events.at(-1)?.event, { $case: 'cancelled', value: { refunded: eur(refunded), ...total } });
        t.equal(stateName(await customer.orders.getOrder({ orderId })), 'CANCELLED');
        const payment = await customer.payments.getPayment({ paymentId });
        t.match(payment, { captured: eur(15_490n), refunded: eur(15_490n) });
        t.match(await shop.shelf(sku), { onHand: 3n, reserved: 0n });
        t.match(await cancellationMail(orderId), says);
      });
    }
  });
}

t.test('partial refunds that race a cancellation never refund more than the charge', async (t) => {
  await restart('orders', {});
  const { orderId, paymentId, sequence } = await completedOrder();
  const refund = () =>
    admin.payments.refundPayment({ paymentId, amount: eur(500n) }).then(
      ({ moved }) => moved?.amountMinor ?? 0n,
      () => 0n,
    );
  const [first, second] = await Promise.all([refund(), refund(), customer.orders.cancelOrder({ orderId })]);
  const events = await follow(customer, orderId, sequence);
  t.match(await customer.payments.getPayment({ paymentId }), { refunded: eur(15_490n) });
  t.match(events.at(-1)?.event, { $case: 'cancelled', value: { refunded: eur(15_490n - first - second) } });
});

t.test('a cancellation that is late by days is carried out', async (t) => {
  const { orderId, paymentId, sequence, sku } = await completedOrder();
  const orders = await restart('orders', { ARMATURE_CRASH_POINTS: 'saga.before-call:1' });
  await customer.orders.cancelOrder({ orderId }).catch(() => null);
  if (orders.process.signalCode === null) await once(orders.process, 'exit');
  const connection = await connectMysql(orders.database!.url);
  const [aged] = await connection.query(
    `update saga set created_at = created_at - interval 3 day, deadline_at = deadline_at - interval 3 day,
       due_at = due_at - interval 3 day where name = 'cancellation' and subject_id = ?`,
    [orderId],
  );
  t.match(aged, { affectedRows: 1 }, 'the cancellation was accepted');
  await connection.end();
  await restart('orders', {});
  const events = await follow(customer, orderId, sequence);
  t.match(events.at(-1)?.event, { $case: 'cancelled', value: { refunded: eur(15_490n) } });
  t.match(await customer.payments.getPayment({ paymentId }), { refunded: eur(15_490n) });
  t.match(await shop.shelf(sku), { onHand: 3n, reserved: 0n });
});

t.test('a free order completes without a payment, and can be cancelled', async (t) => {
  const log = async () => (await acquirerLog(acquirerUrl)).length;
  const [logged, sku] = [await log(), await shop.stock(3n, { EUR: 0n })];
  const order = await buy(customer, wish(sku, { expectedTotal: eur(0n) }));
  const { orderId, sequence } = order;
  t.match([stateName(order), order.paymentId, order.total], ['COMPLETED', '', eur(0n)]);
  const { events } = await customer.orders.listOrderEvents({ orderId });
  t.strictSame(
    events.map(({ event }) => event?.$case),
    ['placed', 'stockReserved', 'stockCommitted', 'confirmed', 'completed'],
  );
  t.match(await shop.shelf(sku), { onHand: 2n, reserved: 0n });
  await customer.orders.cancelOrder({ orderId });
  const undone = await follow(customer, orderId, sequence);
  t.strictSame(
    undone.map(({ event }) => event?.$case),
    ['cancelRequested', 'stockReleased', 'cancelled'],
  );
  t.match(undone.at(-1)?.event, { value: { refunded: eur(0n), refundedTotal: eur(0n) } });
  t.match(await cancellationMail(orderId), 'Nothing was charged.');
  t.match(await shop.shelf(sku), { onHand: 3n, reserved: 0n });
  t.equal(await log(), logged, 'the acquirer received no request');
});
