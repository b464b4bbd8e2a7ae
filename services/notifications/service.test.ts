import { randomUUID } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { notificationsClient } from '@armature/clients';
import type { EventContract } from '@armature/proto/contract.ts';
import { type Delivery, DeliveryState } from '@armature/proto/notifications/v1/notifications.ts';
import { OrderCancelledEvent, OrderConfirmedEvent, OrderPlacedEvent } from '@armature/proto/orders/v1/contract.ts';
import { newId } from '@armature/runtime';
import type { ConfirmChannel } from 'amqplib';
import t, { type Test } from 'tap';
import { connectBroker } from '../../test/support/infra.ts';
import { reluctantMailServer } from '../../test/support/mail-server.ts';
import { openOrderContacts } from '../../test/support/order-contacts.ts';
import { refusal } from '../../test/support/refusal.ts';
import { type RunningService, startService, token, workloadCertificate } from '../../test/support/service.ts';

const [bo, ada, eve] = await Promise.all(['bo', 'ada', 'eve'].map((subject) => token(subject)));
const contacts = await openOrderContacts(t);
const peers = { orders: contacts.address };
const tls = await workloadCertificate('developer');
const clientOf = (service: RunningService, bearer: string | undefined) =>
  notificationsClient({ addresses: [service.grpc], tls, token: () => bearer });
const staffOf = (service: RunningService) => clientOf(service, bo);

/** Publishes as the orders service would, with the rights of its broker user. */
async function publisher(service: RunningService): Promise<{ channel: ConfirmChannel; close(): Promise<void> }> {
  const connection = await connectBroker(service.vhost?.url('orders') ?? '');
  const channel = await connection.createConfirmChannel();
  return { channel, close: () => connection.close() };
}

const maxAttempts = 50;

/** Publishes until the broker has it, as a relay does: a queue that has only just been declared may refuse. */
async function publish(
  channel: ConfirmChannel,
  event: EventContract,
  message: { orderId: string },
  sequence: number,
  messageId: string = newId(),
) {
  const body = Buffer.from(event.message.encode(event.message.fromPartial(message)).finish());
  const headers = {
    aggregate: event.aggregate,
    'aggregate-id': message.orderId,
    sequence: String(sequence),
    'created-at-ms': String(Date.now()),
  };
  const properties = { messageId, type: event.type, contentType: 'application/protobuf', userId: 'orders', headers };
  for (let attempt = 1; ; attempt++) {
    channel.publish('armature.events', event.routingKey, body, properties);
    try {
      return await channel.waitForConfirms();
    } catch (error) {
      if (attempt === maxAttempts || !(error instanceof Error) || error.message !== 'message nacked') throw error;
      await sleep(100);
    }
  }
}

const orderOf = (orderId: string) => ({
  orderId,
  customerId: 'ada',
  lines: [{ sku: 'A-1', title: 'Tea', quantity: 2n, unitPrice: { currencyCode: 'EUR', amountMinor: 450n } }],
  total: { currencyCode: 'EUR', amountMinor: 900n },
});

/** Asks until the delivery of an order looks as it should. */
async function deliveryOf(
  staff: ReturnType<typeof staffOf>,
  orderId: string,
  wanted: (delivery: Delivery) => boolean,
): Promise<Delivery> {
  const deadline = Date.now() + 15_000;
  for (;;) {
    const { deliveries } = await staff.listDeliveries({ orderId });
    const found = deliveries.find(wanted);
    if (found) return found;
    if (Date.now() > deadline)
      throw new Error(
        `no such delivery; there are ${JSON.stringify(deliveries.map((one) => [one.template, one.state]))}`,
      );
  }
}

/** A customer lists and reads their own deliveries, and no other customer does. */
async function onlyTheCustomerReads(
  t: Test,
  service: RunningService,
  { deliveryId, orderId, customerId }: Delivery,
): Promise<void> {
  const [own, other] = [clientOf(service, ada), clientOf(service, eve)];
  const { deliveries } = await own.listDeliveries({ customerId });
  t.ok(deliveries.some((one) => one.deliveryId === deliveryId));
  t.match(await own.getDelivery({ deliveryId }), { orderId });
  const denied = refusal({ code: 'PERMISSION_DENIED' });
  await t.rejects(own.listDeliveries({}), denied);
  await t.rejects(own.listDeliveries({ orderId }), denied);
  await t.rejects(other.listDeliveries({ customerId }), denied);
  t.strictSame((await other.listDeliveries({ customerId: 'eve' })).deliveries, []);
  await t.rejects(other.getDelivery({ deliveryId }), refusal({ reason: 'DELIVERY_NOT_FOUND' }));
  own.close();
  other.close();
}

/** Until notifications has bound its queue, what is published goes nowhere. */
async function bound(service: RunningService, channel: ConfirmChannel): Promise<void> {
  const deadline = Date.now() + 15_000;
  let returned = true;
  channel.on('return', () => {
    returned = true;
  });
  while (returned) {
    if (Date.now() > deadline) throw new Error(`notifications has not bound its queue: ${service.logs()}`);
    returned = false;
    const probe = newId();
    const body = Buffer.from(
      OrderPlacedEvent.message.encode(OrderPlacedEvent.message.fromPartial({ orderId: probe })).finish(),
    );
    channel.publish('armature.events', OrderPlacedEvent.routingKey, body, {
      mandatory: true,
      messageId: newId(),
      type: OrderPlacedEvent.type,
      userId: 'orders',
      headers: { aggregate: 'order', 'aggregate-id': probe, sequence: '1' },
    });
    await channel.waitForConfirms();
  }
}

t.test('an order that is confirmed is told by mail, once', async (t) => {
  const service = await startService(t, 'notifications', { peers });
  const staff = staffOf(service);
  const { channel, close } = await publisher(service);
  await bound(service, channel);
  const orderId = newId();
  const message = orderOf(orderId);
  await publish(channel, OrderPlacedEvent, message, 1);
  const messageId = newId();
  await publish(channel, OrderConfirmedEvent, message, 2, messageId);
  await publish(channel, OrderConfirmedEvent, message, 2, messageId);
  const sent = await deliveryOf(staff, orderId, ({ state }) => state === DeliveryState.DELIVERY_STATE_SENT);
  t.match(sent, { template: 'order_confirmed', attempts: 1, recipient: '', lastError: '' });

  await publish(
    channel,
    OrderCancelledEvent,
    { ...message, reason: 'CUSTOMER_REQUEST', refunded: message.total } as typeof message,
    3,
  );
  await deliveryOf(
    staff,
    orderId,
    (one) => one.template === 'order_cancelled' && one.state === DeliveryState.DELIVERY_STATE_SENT,
  );
  const { deliveries } = await staff.listDeliveries({ orderId });
  t.equal(deliveries.length, 2, 'one mail for each event, although one event came twice');
  const folder = join(service.dir, 'mail', 'new');
  const mails = readdirSync(folder).map((name) => readFileSync(join(folder, name), 'utf8'));
  t.equal(mails.length, 2);
  const receipt = mails.find((mail) => mail.includes(sent.mailMessageId)) ?? '';
  t.match(receipt, /To: ada@example\.com/);
  t.match(receipt, 'text/plain');
  t.match(receipt, 'text/html');
  t.match(receipt, 'EUR 9.00');

  t.match(await staff.getDelivery({ deliveryId: sent.deliveryId }), { orderId });
  await onlyTheCustomerReads(t, service, sent);
  const again = await staff.resendDelivery({ deliveryId: sent.deliveryId });
  t.equal(again.state, DeliveryState.DELIVERY_STATE_QUEUED);
  await deliveryOf(
    staff,
    orderId,
    (one) => one.deliveryId === sent.deliveryId && one.state === DeliveryState.DELIVERY_STATE_SENT,
  );
  t.equal(readdirSync(folder).length, 2, 'sent again it takes its own place');
  await t.rejects(staff.getDelivery({ deliveryId: randomUUID() }), refusal({ reason: 'DELIVERY_NOT_FOUND' }));
  staff.close();
  await close();
});

t.test('a mail that cannot be sent is tried again, given up, and can be sent once more', async (t) => {
  const service = await startService(t, 'notifications', {
    peers,
    mailUrl: 'smtp://127.0.0.1:1',
    env: { ARMATURE_MAIL_ATTEMPTS_MAX: '3', ARMATURE_MAIL_RETRY_BASE_MS: '20' },
  });
  const staff = staffOf(service);
  const { channel, close } = await publisher(service);
  await bound(service, channel);
  const orderId = newId();
  await publish(channel, OrderPlacedEvent, orderOf(orderId), 1);
  await publish(channel, OrderConfirmedEvent, orderOf(orderId), 2);
  const dead = await deliveryOf(staff, orderId, ({ state }) => state === DeliveryState.DELIVERY_STATE_DEAD);
  t.equal(dead.attempts, 3);
  t.match(dead.lastError, /ECONNREFUSED/);
  await staff.resendDelivery({ deliveryId: dead.deliveryId });
  await deliveryOf(
    staff,
    orderId,
    ({ state, attempts }) => state === DeliveryState.DELIVERY_STATE_DEAD && attempts === 3,
  );
  staff.close();
  await close();
});

t.test('a mail that one process is sending is not sent by another', async (t) => {
  const server = await reluctantMailServer(t);
  const service = await startService(t, 'notifications', { peers, mailUrl: server.url });
  const { database, vhost } = service;
  const other = await startService(t, 'notifications', { peers, mailUrl: server.url, database, vhost });
  const staff = staffOf(service);
  const { channel, close } = await publisher(service);
  await bound(service, channel);
  const orders = [newId(), newId()];
  for (const [index, orderId] of orders.entries()) {
    await publish(channel, OrderPlacedEvent, orderOf(orderId), 1);
    await publish(channel, OrderConfirmedEvent, orderOf(orderId), 2);
    // The sender of the first e-mail waits, so the other sender finds the second, and might take both.
    const deadline = Date.now() + 15_000;
    while (server.mails.length <= index) {
      if (Date.now() > deadline) throw new Error(`no mail came: ${service.logs()}`);
      await sleep(20);
    }
  }
  server.letGo();
  const isSent = ({ state }: Delivery) => state === DeliveryState.DELIVERY_STATE_SENT;
  const sent = await Promise.allSettled(orders.map((orderId) => deliveryOf(staff, orderId, isSent)));
  t.equal(server.mails.length, 2, `each mail was sent once: ${server.mails.join(', ')}`);
  for (const delivery of sent) t.match(delivery, { status: 'fulfilled', value: { attempts: 1 } });
  staff.close();
  await close();
  // What is still being sent is finished before they end.
  t.same([await service.stop(), await other.stop()], [0, 0]);
  t.equal(server.mails.length, 2, `each mail was sent once: ${server.mails.join(', ')}`);
});

t.test('a slow mail server gets each mail once', async (t) => {
  const server = await reluctantMailServer(t);
  const service = await startService(t, 'notifications', { peers, mailUrl: server.url });
  const staff = staffOf(service);
  const { channel, close } = await publisher(service);
  await bound(service, channel);
  // A claim waits while three quarters of 20 slots are taken.
  const orders = Array.from({ length: 16 }, () => newId());
  for (const orderId of orders) {
    await publish(channel, OrderPlacedEvent, orderOf(orderId), 1);
    await publish(channel, OrderConfirmedEvent, orderOf(orderId), 2);
  }
  // An e-mail that waited for a connection would use up the time of its attempt.
  const deadline = Date.now() + 20_000;
  while (server.mails.length < orders.length) {
    if (Date.now() > deadline) throw new Error(`${server.mails.length} of ${orders.length} mails are being sent`);
    await sleep(20);
  }
  server.letGo();
  for (const orderId of orders) {
    const sent = await deliveryOf(staff, orderId, ({ state }) => state === DeliveryState.DELIVERY_STATE_SENT);
    t.equal(sent.attempts, 1);
  }
  staff.close();
  await close();
  t.equal(await service.stop(), 0);
  t.equal(new Set(server.mails).size, orders.length);
  t.equal(server.mails.length, orders.length, 'each mail was sent once');
});

t.test('pages', async (t) => {
  const service = await startService(t, 'notifications', { peers });
  const staff = staffOf(service);
  const { channel, close } = await publisher(service);
  await bound(service, channel);
  const orders = Array.from({ length: 5 }, () => newId());
  for (const orderId of orders) {
    await publish(channel, OrderPlacedEvent, orderOf(orderId), 1);
    await publish(channel, OrderConfirmedEvent, orderOf(orderId), 2);
  }
  // Those that are due together are sent side by side, each once.
  for (const orderId of orders) {
    const sent = await deliveryOf(staff, orderId, ({ state }) => state === DeliveryState.DELIVERY_STATE_SENT);
    t.equal(sent.attempts, 1);
  }
  t.notMatch(service.logs(), /a transaction inside a transaction/);
  const seen: string[] = [];
  let pageToken = '';
  do {
    const page = await staff.listDeliveries({ pageSize: 2, pageToken });
    seen.push(...page.deliveries.map((one) => one.orderId));
    pageToken = page.nextPageToken;
  } while (pageToken);
  t.strictSame(seen.sort(), orders.sort());
  staff.close();
  await close();
});
