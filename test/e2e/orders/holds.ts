// Holds that end at the acquirer before the charge, and refunds that the acquirer refuses permanently.
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { opsClient, paymentOperationsClient } from '@armature/clients';
import { PaymentResolution } from '@armature/proto/payments/v1/operations.ts';
import { PaymentState } from '@armature/proto/payments/v1/payments.ts';
import t from 'tap';
import { ageRows } from '../../support/aging.ts';
import { developerCredentials, token } from '../../support/service.ts';
import { eventually } from '../../verification/faults/shoppers.ts';
import { acquirerLog } from '../../verification/invariants/ledger-checks.ts';
import { shopDataOf } from '../invariant-check.ts';
import { isStopped, restart } from '../restart.ts';
import { buy, follow, mailAbout, stateName, wish } from '../shop.ts';
import { shop } from './shop.ts';

/** Services that are started here run until the file ends. */
const mesh = t;
const { customer, staff } = shop;
const acquirerUrl = `http://${shop.service('acquirer').http}`;

/** Calls the acquirer directly, without payments. */
async function atAcquirer(path: string, body: object = {}): Promise<{ operation_id: string }> {
  const headers = { 'content-type': 'application/json', 'idempotency-key': randomUUID() };
  const response = await fetch(`${acquirerUrl}${path}`, { method: 'POST', headers, body: JSON.stringify(body) });
  if (!response.ok) throw new Error(`POST ${path}: ${response.status} ${await response.text()}`);
  return (await response.json()) as { operation_id: string };
}

const shopData = await shopDataOf(t, shop);
const sagasOf = (orderId: string, status: string) =>
  shopData.query<{ saga_id: string; name: string }>(
    'select saga_id, name from {orders}.saga where subject_id = ? and status = ?',
    [orderId, status],
  );

/** Clients of an operator: the sagas of orders, and the operations of payments. */
async function operatorClients() {
  const [tls, bearer] = [await developerCredentials(), await token('olga')];
  const to = (name: string) => ({ addresses: [shop.service(name).grpc], tls, token: () => bearer });
  const clients = { orders: opsClient('orders', to('orders')), operations: paymentOperationsClient(to('payments')) };
  t.teardown(() => {
    for (const client of Object.values(clients)) client.close();
  });
  return clients;
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
    const orders = await restart(mesh, shop, 'orders', { ARMATURE_CRASH_POINTS: 'saga.recorded:3=stop' });
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

t.test('a refund that the acquirer refuses waits for an operator, and the units do not wait for it', async (t) => {
  const sku = await shop.stock(3n, { EUR: 15_490n });
  const order = await buy(customer, wish(sku, { paymentMethod: 'card_refund_declined' }));
  const { orderId, paymentId, sequence } = order;
  t.equal(stateName(order), 'COMPLETED');
  await customer.orders.cancelOrder({ orderId });
  await eventually('the units are back', 20_000, async () => (await shop.shelf(sku)).onHand === 3n);
  const [stuck] = await sagasOf(orderId, 'STUCK');
  t.equal(stuck?.name, 'cancellation');
  const waiting = await customer.orders.getOrder({ orderId });
  t.match([stateName(waiting), waiting.cancelRequested], ['COMPLETED', true]);

  const operator = await operatorClients();
  const forced = operator.orders.forceCompensateSaga({ sagaId: stuck!.saga_id, why: 'a test' });
  await t.rejects(forced, { code: 'FAILED_PRECONDITION' } as object as Error, 'a cancellation cannot be abandoned');
  const { operations } = await operator.operations.listPaymentOperations({ paymentId });
  const refused = operations.find(({ failureCode }) => failureCode === 'refund_declined');
  const resolution = PaymentResolution.PAYMENT_RESOLUTION_REFUNDED_OUTSIDE;
  const reason = 'bank transfer 815';
  await operator.operations.resolvePaymentOperation({ operationId: refused!.operationId, resolution, reason });
  await operator.orders.resumeSaga({ sagaId: stuck!.saga_id });

  const events = await follow(customer, orderId, sequence);
  const total = { currencyCode: 'EUR', amountMinor: 15_490n };
  const named = events.find(({ event }) => event?.$case === 'paymentRefunded')?.event;
  t.match(named, { value: { amount: total, refundedTotal: total } }, 'what the operator recorded is in the history');
  t.match(events.at(-1)?.event, { $case: 'cancelled', value: { refunded: total, refundedTotal: total } });
  t.match(await customer.payments.getPayment({ paymentId }), { refunded: total });
  t.match(await mailAbout(shop, orderId, /cancelled/), 'We have refunded EUR 154.90.');
  t.strictSame(await sagasOf(orderId, 'STUCK'), []);
});

t.test('a cancellation refunds what a recorded refund of the acquirer has left', async (t) => {
  const sku = await shop.stock(3n, { EUR: 15_490n });
  const { orderId, paymentId, sequence } = await buy(customer, wish(sku));
  const path = `/v1/charges/${await chargeOf(orderId)}/refund`;
  const { operation_id: externalId } = await atAcquirer(path, { amount_minor: 500 });
  await customer.orders.cancelOrder({ orderId });
  await eventually('the cancellation is stuck', 20_000, async () => (await sagasOf(orderId, 'STUCK')).length > 0);
  const [stuck] = await sagasOf(orderId, 'STUCK');

  const operator = await operatorClients();
  await operator.operations.recordAcquirerOperation({ externalId, reason: 'support refunded a part, ticket 4711' });
  await operator.orders.resumeSaga({ sagaId: stuck!.saga_id });

  const events = await follow(customer, orderId, sequence);
  const eur = (amountMinor: bigint) => ({ currencyCode: 'EUR', amountMinor });
  const refunded = { refunded: eur(14_990n), refundedTotal: eur(15_490n) };
  t.match(events.at(-1)?.event, { $case: 'cancelled', value: refunded });
  t.match(await customer.payments.getPayment({ paymentId }), { refunded: eur(15_490n) });
  const says = 'We have refunded EUR 149.90. With earlier refunds that makes EUR 154.90.';
  t.match(await mailAbout(shop, orderId, /cancelled/), says);
  t.strictSame((await operator.operations.listPaymentOperations({})).operations, [], 'no operation needs an operator');
});

t.test('an order that was charged by another request is cancelled once the charge is refunded', async (t) => {
  const orders = await restart(mesh, shop, 'orders', { ARMATURE_CRASH_POINTS: 'saga.recorded:2' });
  const sku = await shop.stock(3n);
  const { orderId, paymentId, total } = await customer.orders.placeOrder(wish(sku));
  await eventually('orders is killed', 20_000, async () => orders.process.signalCode === 'SIGKILL');
  const path = `/v1/charges/${await chargeOf(orderId)}/capture`;
  const { operation_id: externalId } = await atAcquirer(path, { amount_minor: Number(total!.amountMinor) });
  // The order is not confirmed in time, and the lease of the killed process has ended.
  await ageRows(shopData, 5 / 60);
  await restart(mesh, shop, 'orders', {});
  const operator = await operatorClients();
  const refusedVoid = async () => {
    const { operations } = await operator.operations.listPaymentOperations({ paymentId });
    return operations.find(({ failureCode }) => failureCode === 'charge_already_captured');
  };
  await eventually('the void needs an operator', 40_000, async () => (await refusedVoid()) !== undefined);
  const reason = 'captured by support, ticket 4711';
  await operator.operations.recordAcquirerOperation({ externalId, reason });
  await (await shop.as('admin')).payments.refundPayment({ paymentId });
  const held = await refusedVoid();
  const resolution = PaymentResolution.PAYMENT_RESOLUTION_NOTHING_HELD;
  await operator.operations.resolvePaymentOperation({ operationId: held!.operationId, resolution, reason });
  // The checkout retries within a minute.
  await ageRows(shopData, 2 / 60);

  const events = await follow(customer, orderId);
  t.notOk(
    events.some(({ event }) => event?.$case === 'paymentVoided'),
    'the history names no void',
  );
  const refunded = { refunded: { amountMinor: 0n }, refundedTotal: total };
  t.match(events.at(-1)?.event, { $case: 'cancelled', value: refunded });
  t.match(await mailAbout(shop, orderId, /cancelled/), 'EUR 12.50 of this order has been refunded in total.');
});
