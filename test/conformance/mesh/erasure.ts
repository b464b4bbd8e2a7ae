// Erases a customer whose data have unique markers, and searches everything that services store, expose or write for them.
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { accessClient, identityClient } from '@armature/clients';
import { DeliveryState } from '@armature/proto/notifications/v1/notifications.ts';
import { OrderCancelledEvent } from '@armature/proto/orders/v1/contract.ts';
import { OrderEvent } from '@armature/proto/orders/v1/orders.ts';
import { newId } from '@armature/runtime';
import t from 'tap';
import { withConnection } from '../../../scripts/devmesh/provision.ts';
import { buy, mailAbout, stateName, wish } from '../../e2e/shop.ts';
import { refusal } from '../../support/refusal.ts';
import { token, workloadCertificate } from '../../support/service.ts';
import { password } from '../access/scene.ts';
import { type Canary, everywhere, sightings } from '../canary-search.ts';
import { shop } from './shop.ts';

const erasedWithinMs = 30_000;

/** A customer of which every part is a marker. */
function marked() {
  const marker = (kind: string): Canary => ({ kind, value: `${kind}-${randomBytes(10).toString('hex')}` });
  const [email, name, recipient, street, city] = ['email', 'name', 'recipient', 'street', 'city'].map(marker);
  return {
    markers: [email!, name!, recipient!, street!, city!],
    email: `${email!.value}@example.org`,
    displayName: name!.value,
    shippingAddress: {
      ...{ recipient: recipient!.value, street: street!.value, city: city!.value },
      ...{ postalCode: '1', countryCode: 'GB' },
    },
  };
}

/** What earlier releases have left: e-mail addresses in the history of an order, in a delivery and in a dead letter. */
async function ageOrder(orderId: string, customerId: string, contactEmail: string): Promise<void> {
  const { database: orders } = shop.service('orders');
  await withConnection(orders!.adminUrl, async (connection) => {
    const [rows] = await connection.query('select sequence, body from order_event where order_id = ?', [orderId]);
    for (const { sequence, body } of rows as { sequence: number; body: Buffer }[]) {
      const event = OrderEvent.decode(body);
      if (event.event?.$case !== 'confirmed') continue;
      event.event.value.contactEmail = contactEmail;
      const aged = Buffer.from(OrderEvent.encode(event).finish());
      await connection.query('update order_event set body = ? where order_id = ? and sequence = ?', [
        aged,
        orderId,
        sequence,
      ]);
    }
  });
  const { database: notifications } = shop.service('notifications');
  await withConnection(notifications!.adminUrl, async (connection) => {
    await connection.query('update delivery set recipient = ?, last_error = ? where order_id = ?', [
      contactEmail,
      `550 ${contactEmail} unknown`,
      orderId,
    ]);
    const lost = OrderCancelledEvent.message.fromPartial({ orderId: newId(), customerId, contactEmail });
    await connection.query(
      `insert into dead_letter (id, consumer, message_id, publisher, type, routing_key, aggregate_id, sequence, body,
         headers, reason, attempts, unknown_type, dead_at)
       values (?, 'notifications.orders.order', ?, 'orders', ?, ?, ?, 9, ?, '{}', 'INTERNAL a test', 6, 0, utc_timestamp(6))`,
      [
        ...[newId(), newId(), OrderCancelledEvent.type, OrderCancelledEvent.routingKey, lost.orderId],
        Buffer.from(OrderCancelledEvent.message.encode(lost).finish()),
      ],
    );
  });
}

t.test('an erased customer leaves no personal data', async (t) => {
  const bearer = await token('admin');
  const identity = identityClient({
    ...{ addresses: [shop.service('identity').grpc], tls: await workloadCertificate('developer') },
    token: () => bearer,
  });
  t.teardown(() => identity.close());
  const { markers, email, displayName, shippingAddress } = marked();
  const { userId } = await identity.registerUser({ email, displayName, password });
  await identity.updateUser({ userId, displayName, updateMask: ['display_name'] });
  const customer = await shop.as(userId);
  const order = (sku: string) => wish(sku, { customerId: userId, contactEmail: email, shippingAddress });
  const sku = await shop.stock(10n);
  const completed = await buy(customer, order(sku));
  const rejected = await buy(customer, order(await shop.stock(0n)));
  const { orderId } = await buy(customer, order(sku));
  const cancelRequest = { requestId: newId(), orderId };
  await shop.staff.orders.cancelOrder(cancelRequest);
  await mailAbout(shop, completed.orderId, /confirmed/);
  await mailAbout(shop, orderId, /cancelled/);
  t.equal((await customer.orders.getOrder({ orderId })).contactEmail, email);
  await ageOrder(completed.orderId, userId, email);
  const services = Object.values(shop.mesh);
  const look = async () => sightings(markers, await everywhere(services)).map(({ kind, place }) => `${kind} ${place}`);
  const before = await look();
  for (const place of [
    'email orders.orders.contact_email',
    'street orders.orders.address_json',
    'email orders.order_event.body',
    'email notifications.delivery.recipient',
    'email notifications.delivery.last_error',
    'email notifications.dead_letter.body',
    'email mail of notifications',
    'email mail of identity',
    'name identity.account.display_name',
    'email orders.idempotency.body',
    'email identity.idempotency.body',
  ]) {
    t.ok(before.includes(place), `${place}, before`);
  }

  await identity.eraseUser({ userId });
  const deadline = Date.now() + erasedWithinMs;
  let left = before;
  while (left.length > 0 && Date.now() < deadline) {
    await sleep(200);
    left = await look();
  }
  t.strictSame(left, [], 'places where a marker is left');
  for (const { orderId } of [completed, rejected]) {
    const kept = await shop.staff.orders.getOrder({ orderId });
    t.match(kept, { customerId: userId, contactEmail: '', shippingAddress: undefined, eraseTime: Date });
    t.ok(kept.total?.amountMinor, 'amounts are kept');
  }
  const { events } = await shop.staff.orders.listOrderEvents({ orderId: completed.orderId });
  const event = events.find((one) => one.event?.$case === 'confirmed')?.event;
  t.match(event, { value: { orderId: completed.orderId, lines: [{ sku }] } }, 'the history can still be read');
  t.equal(stateName(await shop.staff.orders.getOrder({ orderId })), 'CANCELLED');

  await t.rejects(
    shop.staff.orders.cancelOrder(cancelRequest),
    refusal({ code: 'FAILED_PRECONDITION', reason: 'RESPONSE_ERASED' }),
    'a repeat of a request has no second effect',
  );

  const { deliveries } = await shop.staff.notifications.listDeliveries({ orderId: completed.orderId });
  const { deliveryId } = deliveries[0]!;
  await shop.staff.notifications.resendDelivery({ deliveryId });
  t.match(await untilSkipped(deliveryId), { lastError: /erased/ }, 'no e-mail can be sent any more');
});

async function untilSkipped(deliveryId: string) {
  for (const deadline = Date.now() + erasedWithinMs; ; ) {
    const delivery = await shop.staff.notifications.getDelivery({ deliveryId });
    if (delivery.state === DeliveryState.DELIVERY_STATE_SKIPPED) return delivery;
    if (Date.now() > deadline) throw new Error(`delivery ${deliveryId} is not skipped: ${JSON.stringify(delivery)}`);
    await sleep(50);
  }
}

t.test('a read of personal data by another person is recorded, with whose data it was', async (t) => {
  const { orderId, paymentId } = await buy(shop.customer, wish(await shop.stock(1n)));
  await shop.customer.orders.getOrder({ orderId });
  await shop.staff.orders.getOrder({ orderId });
  await shop.staff.orders.listOrders({ customerId: '', pageSize: 1 });
  await shop.staff.orders.listOrders({ customerId: 'ada', pageSize: 1 });
  for await (const _ of shop.staff.orders.watchOrder({ orderId })) break;
  await shop.staff.payments.getPayment({ paymentId });
  const bearer = await token('admin');
  const access = accessClient({
    ...{ addresses: [shop.service('access').grpc], tls: await workloadCertificate('developer') },
    token: () => bearer,
  });
  t.teardown(() => access.close());
  const orders = '/armature.orders.v1.OrderService';
  const wanted = [
    `${orders}/GetOrder of user:ada`,
    `${orders}/ListOrders`,
    `${orders}/ListOrders of user:ada`,
    `${orders}/WatchOrder of user:ada`,
    '/armature.payments.v1.PaymentService/GetPayment of user:ada',
  ];
  const targets = async (subject: string) =>
    (await access.listDecisions({ subject, pageSize: 200 })).decisions
      .filter(({ allowed }) => allowed)
      .map(({ target }) => target);
  let recorded: string[] = [];
  for (const deadline = Date.now() + erasedWithinMs; Date.now() < deadline; await sleep(200)) {
    recorded = await targets('user:bo');
    if (wanted.every((target) => recorded.includes(target))) break;
  }
  t.strictSame(
    wanted.filter((target) => !recorded.includes(target)),
    [],
    'reads that are not recorded',
  );
  const own = await targets('user:ada');
  t.strictSame(
    own.filter((target) => target.endsWith('of user:ada')),
    [],
    'reads of own data are not',
  );
});
