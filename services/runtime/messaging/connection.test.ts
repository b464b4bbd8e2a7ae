import t from 'tap';
import { createVhost } from '../../../test/support/infra.ts';
import { openTcpProxy } from '../../../test/support/tcp-proxy.ts';
import { createLogger } from '../telemetry/log.ts';
import { Registry } from '../telemetry/metrics.ts';
import { eventually } from '../testing/messaging.ts';
import { type BrokerOptions, openBroker } from './connection.ts';
import type { OutgoingMessage } from './publisher.ts';
import { declareEventQueue, declareService, eventsExchange, formerMarker } from './topology.ts';

t.setTimeout(60_000);
const log = createLogger('test', 'silent');

const message = (id: string, more: Partial<OutgoingMessage> = {}): OutgoingMessage => ({
  exchange: eventsExchange,
  routingKey: 'orders.order.Ticked',
  body: Buffer.from('x'),
  properties: { messageId: id },
  ...more,
});

function open(t: { teardown(undo: () => unknown): unknown }, url: string, more: Partial<BrokerOptions> = {}) {
  const backoff = { initialBackoffMs: 20, maxBackoffMs: 200 };
  const broker = openBroker({ url, service: 'orders', log, registry: new Registry(), backoff, ...more });
  t.teardown(() => broker.close());
  return broker;
}

t.test('a broker', async (t) => {
  const vhost = await createVhost(t, ['orders', 'notifications']);

  await t.test('says whether a message found a queue', async (t) => {
    const broker = open(t, vhost.url('orders'));
    await eventually(async () => broker.ready(), 'ready');
    t.equal(await broker.publish(message('1')), 'unrouted');
    const subscription = broker.subscribe('orders.own', async (channel) => {
      await channel.assertQueue('orders.own', { exclusive: true });
      await channel.bindQueue('orders.own', eventsExchange, 'orders.order.*');
    });
    await eventually(async () => subscription.current(), 'bound');
    t.same(await Promise.all([broker.publish(message('2')), broker.publish(message('3'))]), ['routed', 'routed']);
  });

  await t.test('refuses at once while it is away, and comes back', async (t) => {
    const proxy = await openTcpProxy(t, vhost.url('orders'));
    const broker = open(t, proxy.url);
    let setups = 0;
    broker.subscribe('orders.own', async () => {
      setups += 1;
    });
    await eventually(async () => broker.ready() && setups === 1, 'ready');
    proxy.refuse(Number.POSITIVE_INFINITY);
    proxy.cut();
    await eventually(async () => !broker.ready(), 'away');
    await t.rejects(broker.publish(message('1')), { message: /broker does not respond/ });
    proxy.refuse(0);
    await eventually(async () => broker.ready() && setups === 2, 'back, and set up again');
    t.equal(await broker.publish(message('2')), 'unrouted');
  });

  await t.test('that falls silent is given up, and nothing hangs', async (t) => {
    const proxy = await openTcpProxy(t, vhost.url('orders'));
    const broker = open(t, proxy.url, { confirmTimeoutMs: 300, unconfirmedMax: 2 });
    await eventually(async () => broker.ready(), 'ready');
    proxy.hold();
    const unconfirmed = [broker.publish(message('1')), broker.publish(message('2'))];
    await t.rejects(broker.publish(message('3')), { message: /2 messages are unconfirmed/ });
    for (const one of unconfirmed) await t.rejects(one, { message: /broker does not respond/ });
    proxy.open();
    await eventually(async () => broker.canPublish(), 'back');
    t.equal(await broker.publish(message('4')), 'unrouted');
  });

  await t.test('that is silent does not keep us from closing', async (t) => {
    const proxy = await openTcpProxy(t, vhost.url('orders'));
    const broker = open(t, proxy.url);
    await eventually(async () => broker.ready(), 'ready');
    proxy.hold();
    const since = performance.now();
    await broker.close();
    t.ok(performance.now() - since < 8_000, 'closed in time');
  });

  await t.test('refuses headers that do not fit, and goes on', async (t) => {
    const broker = open(t, vhost.url('orders'));
    await eventually(async () => broker.ready(), 'ready');
    const headers = { long: 'x'.repeat(70_000) };
    await t.rejects(broker.publish(message('1', { properties: { messageId: '1', headers } })), {
      message: /broker does not respond/,
    });
    t.equal(await broker.publish(message('2')), 'unrouted');
  });

  await t.test('knows whether a queue of another service is bound, without rights on it', async (t) => {
    const orders = open(t, vhost.url('orders'));
    const notifications = openBroker({
      url: vhost.url('notifications'),
      service: 'notifications',
      log,
      registry: new Registry(),
    });
    t.teardown(() => notifications.close());
    await eventually(async () => orders.ready() && notifications.ready(), 'ready');
    const queue = 'notifications.orders.order';
    t.equal(await orders.queueBound(queue), false);
    const subscription = notifications.subscribe(queue, async (channel) => {
      // As an earlier release left it.
      await channel.assertExchange(formerMarker(queue), 'fanout', { durable: true });
      await declareService(channel, 'notifications', [100]);
      await declareEventQueue(channel, 'notifications', 'orders', 'order');
    });
    await eventually(async () => subscription.current(), 'declared');
    t.equal(await orders.queueBound(queue), true);
    const channel = subscription.current()!;
    await channel.deleteQueue(queue);
    await channel.assertQueue(queue, { durable: true });
    t.equal(await orders.queueBound(queue), false, 'a queue that was made anew has no bindings');
  });
});

t.test('a broker that is not there is logged once for each connection', async (t) => {
  const lines: string[] = [];
  const warn = (about: { connection: string }, text: string) => void lines.push(`${about.connection}: ${text}`);
  open(t, 'amqp://orders@127.0.0.1:1', { log: Object.assign(Object.create(log), { warn }) });
  await new Promise((resolve) => setTimeout(resolve, 1_000));
  t.same(
    lines.sort(),
    ['consume', 'publish'].map((one) => `orders ${one}: broker not reached; it is tried again`),
  );
});
