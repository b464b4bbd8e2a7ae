// Queues and exchanges that are deleted or changed by hand: declared again, or reported as the reason for not being
// ready.
import t from 'tap';
import { connectBroker } from '../../../test/support/infra.ts';
import type { Tx } from '../db/tx.ts';
import { createLogger, type Logger } from '../telemetry/log.ts';
import {
  eventually,
  openTestbed,
  type RunningConsumer,
  type Testbed,
  type Ticked,
  ticked,
  unheard,
} from '../testing/messaging.ts';
import { deadLetters, deadLettersOf, effects, effectsOf, metric, record, recorder } from '../testing/observe.ts';
import { consume } from './consumer.ts';
import { deadQueue, eventQueue, eventsExchange, expectedQueues, retryExchange, returnExchange } from './topology.ts';

t.setTimeout(180_000);
const service = 'notifications';
const queue = eventQueue(service, 'orders', 'order');
const expected = expectedQueues('orders', [{ service, source: 'orders', aggregate: 'order' }]);
const subscriptions = { expected };

const remove = (bed: Testbed, kind: 'queues' | 'exchanges', name: string) =>
  bed.vhost.api.request('DELETE', `/${kind}/${bed.vhost.name}/${encodeURIComponent(name)}`);

async function exists(bed: Testbed, kind: 'queues' | 'exchanges', name: string): Promise<boolean> {
  const found = await bed.vhost.api.request('GET', `/${kind}/${bed.vhost.name}`);
  return (found as unknown as { name: string }[]).some((one) => one.name === name);
}

/** Whether the broker returns messages from a retry queue to the events' queue. */
async function returns(bed: Testbed): Promise<boolean> {
  const path = `/exchanges/${bed.vhost.name}/${returnExchange(service)}/bindings/source`;
  const found = await bed.vhost.api.request('GET', path).catch(() => []);
  return (found as unknown as { destination: string }[]).some((one) => one.destination === queue);
}

const ready = (consumer: RunningConsumer) =>
  eventually(async () => consumer.running.faults().length === 0 && consumer.broker.ready(), 'consumed again');

t.test('what is taken away is declared again, without a restart', async (t) => {
  const bed = await openTestbed(t);
  const failing = new Set<number>();
  const handle = async (message: Ticked, _call: unknown, tx: Tx) => {
    if (failing.delete(message.number)) throw new Error('not yet');
    await record(message, tx);
  };
  const consumer = await bed.consumer({ consumers: [consume(ticked, handle)], limits: { topologyCheckMs: 400 } });
  const producer = await bed.producer(subscriptions);
  await ready(consumer);
  let number = 0;
  /** An event that fails once, so that it needs the retry queues, and is handled in the end. */
  const retried = async () => {
    number += 1;
    failing.add(number);
    await producer.emit('a', [number]);
    t.equal((await effectsOf(consumer, 'a', number)).at(-1), number);
  };
  await retried();

  for (const { kind, name } of [
    { kind: 'queues', name: deadQueue(service) },
    { kind: 'exchanges', name: deadQueue(service) },
    { kind: 'exchanges', name: retryExchange(service) },
    { kind: 'exchanges', name: returnExchange(service) },
    { kind: 'queues', name: `${service}.retry.50ms` },
    { kind: 'queues', name: queue },
  ] as const) {
    await t.test(`${kind.slice(0, -1)} ${name}`, async (t) => {
      await remove(bed, kind, name);
      // A message that leaves a retry queue and has no route back waits in the broker for three minutes.
      if (name === returnExchange(service)) await eventually(() => returns(bed), 'the way back is there');
      await retried();
      t.ok(await eventually(() => exists(bed, kind, name), 'declared again'));
      await ready(consumer);
    });
  }

  await t.test('the exchange of all events: once those who run the broker have declared it', async (t) => {
    await remove(bed, 'exchanges', eventsExchange);
    await eventually(
      async () => consumer.running.faults().some((fault) => fault.includes('armature.events')),
      'it shows',
    );
    const path = `/exchanges/${bed.vhost.name}/${eventsExchange}`;
    await bed.vhost.api.request('PUT', path, { type: 'topic', durable: true });
    await retried();
    await ready(consumer);
    t.same(await deadLetters(consumer), []);
  });

  await t.test('everything of the service at once', async (t) => {
    for (const exchange of [retryExchange(service), returnExchange(service), deadQueue(service)])
      await remove(bed, 'exchanges', exchange);
    for (const one of [queue, deadQueue(service), ...[50, 100, 200].map((ms) => `${service}.retry.${ms}ms`)])
      await remove(bed, 'queues', one);
    await eventually(() => returns(bed), 'the way back is there');
    await ready(consumer);
    await retried();
    t.same(await deadLetters(consumer), []);
  });
});

/** A log whose warnings and errors a test can count. */
function recordingLog(): { log: Logger; lines: string[] } {
  const lines: string[] = [];
  const note = (about: { err?: Error }, text: string) =>
    void lines.push(`${text} ${JSON.stringify(about)} ${about.err?.message}`);
  return { log: Object.assign(Object.create(createLogger('test', 'silent')), { warn: note, error: note }), lines };
}

t.test('what is refused again and again is logged once', async (t) => {
  const bed = await openTestbed(t);
  const { log, lines } = recordingLog();
  const { api, name } = bed.vhost;
  const rights = `/permissions/${name}/${service}`;
  const { configure, write, read } = (await api.request('GET', rights)) as unknown as Record<string, string>;
  const first = await bed.consumer({ consumers: [recorder] });
  await first.running.stop();
  await first.broker.close();
  const events = eventsExchange.replace('.', '\\.');
  const withoutQueue = `^(${events}|${service}\\.(return|retry|dead).*)$`;
  await api.request('PUT', rights, { configure, write, read: withoutQueue });
  const limits = { topologyCheckMs: 300 };
  const consumer = await bed.consumer({ consumers: [recorder], log, limits, waits: false, on: first });
  const producer = await bed.producer({ ...subscriptions, log });
  const notReady = (what: string) =>
    eventually(async () => consumer.running.faults().some((fault) => fault.includes(what)), `${what} shows`);
  const attempts = () => new Promise((resolve) => setTimeout(resolve, 3_000));

  await t.test('the right to consume is missing', async (t) => {
    await notReady('ACCESS_REFUSED');
    await attempts();
    t.equal(lines.filter((line) => line.includes('ACCESS_REFUSED')).length, 1, lines.join('\n'));
    await api.request('PUT', rights, { configure, write, read });
    await ready(consumer);
  });

  await t.test('the exchange of events is missing', async (t) => {
    lines.length = 0;
    await remove(bed, 'exchanges', eventsExchange);
    await notReady(eventsExchange);
    await producer.emit('a', [1]);
    await attempts();
    t.ok(lines.length > 0);
    for (const line of lines) t.equal(lines.filter((other) => other === line).length, 1, line);
    await api.request('PUT', `/exchanges/${name}/${eventsExchange}`, { type: 'topic', durable: true });
    t.same(await effectsOf(consumer, 'a', 1), [1]);
  });
});

t.test('a queue with other arguments: not ready, and one line of log says why', async (t) => {
  const bed = await openTestbed(t);
  const connection = await connectBroker(bed.vhost.adminUrl);
  t.teardown(() => connection.close());
  const channel = await connection.createChannel();
  const name = `${service}.retry.50ms`;
  await channel.assertQueue(name, { durable: true, arguments: { 'x-queue-type': 'quorum', 'x-message-ttl': 77 } });
  const { log, lines } = recordingLog();
  const consumer = await bed.consumer({
    consumers: [recorder],
    waits: false,
    log,
  });
  await eventually(async () => consumer.running.faults().some((fault) => fault.includes('406')), 'the fault shows');
  const about = () => lines.filter((line) => line.includes(queue) && line.includes('PRECONDITION_FAILED'));
  await new Promise((resolve) => setTimeout(resolve, 2_500));
  t.equal(about().length, 1, 'said once of the queue');
  t.match(consumer.running.faults().join('\n'), new RegExp(`${queue}: .*406.*${name}`));
  t.equal(await metric(consumer, 'armature_consumer_ready', { queue }), 0);

  await remove(bed, 'queues', name);
  await ready(consumer);
  t.equal(await metric(consumer, 'armature_consumer_ready', { queue }), 1, 'repaired without a restart');
});

t.test('a foreign message in the dead-letter queue blocks nothing', async (t) => {
  const bed = await openTestbed(t);
  const first = await bed.consumer({ consumers: [recorder] });
  const producer = await bed.producer(subscriptions);
  await ready(first);
  const connection = await connectBroker(bed.vhost.adminUrl);
  t.teardown(() => connection.close());
  const channel = await connection.createConfirmChannel();
  const headers = { 'x-death': [{ reason: 'delivery_limit', queue: 'elsewhere' }] };
  channel.publish(deadQueue(service), '', Buffer.from('what is this?'), { messageId: 'foreign' });
  channel.publish(deadQueue(service), '', Buffer.alloc(200_000, 'x'), { headers });
  await channel.waitForConfirms();
  const [small, large] = await deadLettersOf(first, 2);
  t.match(small, {
    consumer: deadQueue(service),
    message_id: 'foreign',
    aggregate_id: null,
    reason: /MESSAGE_FOREIGN/,
  });
  t.equal(String(small!.body), 'what is this?');
  t.match(String(large!.body), /^200000 bytes, SHA-256 [0-9a-f]{64}$/);
  await eventually(async () => (await channel.checkQueue(deadQueue(service))).messageCount === 0, 'the queue is empty');
  t.equal(await metric(first, 'armature_consumer_foreign_messages_total', { outcome: 'kept' }), 2);

  await first.running.stop();
  await producer.emit('poison', [1, 2]);
  await channel.prefetch(1);
  const { consumerTag } = await channel.consume(queue, (message) => message && channel.nack(message, false, true));
  await eventually(async () => (await channel.checkQueue(deadQueue(service))).messageCount >= 1, 'the broker gives up');
  await channel.cancel(consumerTag);
  const second = await bed.consumer({ consumers: [recorder], on: first });
  const [, , own] = await deadLettersOf(second, 3);
  t.match(own, { reason: /too many deliveries/, aggregate_id: 'poison' });
  t.same(await effectsOf(second, 'poison', 1), [2]);
  t.same(await effects(second), [2]);

  const newQueue = eventQueue(service, unheard.source, unheard.aggregate);
  /** Publishes what the broker would: a message that exceeded the delivery limit of the newer version's queue. */
  const dieInNewQueue = (body: string, minutesAgo: number) => {
    const time = { '!': 'timestamp', value: Math.floor(Date.now() / 1_000) - minutesAgo * 60 };
    const headers = { 'x-death': [{ reason: 'delivery_limit', queue: newQueue, time }] };
    channel.publish(deadQueue(service), '', Buffer.from(body), { headers });
    return channel.waitForConfirms();
  };

  await t.test('one of a queue that only a newer version of the service consumes is left to it', async (t) => {
    await dieInNewQueue('of a new queue', 0);
    await new Promise((resolve) => setTimeout(resolve, 500));
    t.equal((await deadLetters(second)).length, 3, 'not taken by a version that does not know it');
    const handle = (message: Ticked, _call: unknown, tx: Tx) => record(message, tx);
    const newer = await bed.consumer({ consumers: [recorder, consume(unheard, handle)], on: first });
    const found = await deadLettersOf(newer, 4);
    t.match(found[3], { consumer: newQueue });
    t.equal(await metric(second, 'armature_consumer_foreign_messages_total'), 0);
    await newer.running.stop();
  });

  await t.test('one that died there more than ten minutes ago is foreign and blocks nothing', async (t) => {
    for (const body of ['first', 'second']) await dieInNewQueue(body, 11);
    const found = await deadLettersOf(second, 6);
    t.match(found[5], { consumer: deadQueue(service), reason: /MESSAGE_FOREIGN/ });
  });
});
