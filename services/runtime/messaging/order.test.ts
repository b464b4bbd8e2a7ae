// Tests of events that cannot be handled now, are redriven late, or are invalid.
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { refusal } from '../../../test/support/refusal.ts';
import { openTcpProxy } from '../../../test/support/tcp-proxy.ts';
import type { Interceptor } from '../context/call-context.ts';
import { openDatabase } from '../db/database.ts';
import type { Tx } from '../db/tx.ts';
import { policyUnavailable, rpcError } from '../errors/errors.ts';
import { createLogger } from '../telemetry/log.ts';
import { Registry } from '../telemetry/metrics.ts';
import { event, eventually, ignored, openTestbed, type Ticked, ticked } from '../testing/messaging.ts';
import {
  deadLetters,
  deadLettersOf,
  effects,
  effectsOf,
  metric,
  publish,
  record,
  recorder,
} from '../testing/observe.ts';
import { consume } from './consumer.ts';

t.setTimeout(180_000);

/** As authorize(): without a policy it throws. */
const byPolicy = (loaded: () => boolean) => (): Interceptor => (next) => (call) =>
  loaded() ? next(call) : Promise.reject(policyUnavailable());

t.test('no policy: consumption pauses and no event loses an attempt', async (t) => {
  const bed = await openTestbed(t);
  let loaded = false;
  const consumer = await bed.consumer({
    consumers: [recorder],
    authorize: byPolicy(() => loaded),
    policyLoaded: () => loaded,
    limits: { pauseReleaseMs: 300 },
    waits: false,
  });
  const producer = await bed.producer();
  await eventually(() => producer.broker.queueBound('notifications.orders.order'), 'the queue is bound meanwhile');

  await t.test('at the start: the queue is not consumed', async (t) => {
    await producer.emit('a', [1, 2]);
    await sleep(500);
    t.same(await effects(consumer), []);
    t.match(consumer.running.faults(), [/notifications\.orders\.order: policy/]);
    t.equal(await metric(consumer, 'armature_consumption_paused', { missing: 'policy' }), 1);
    loaded = true;
    t.same(await effectsOf(consumer, 'a', 2), [1, 2]);
    t.strictSame(consumer.running.faults(), []);
  });

  await t.test('later: for longer than all retries together, and past the release of what was taken', async (t) => {
    loaded = false;
    for (let index = 0; index < 20; index += 1) await producer.emit(`b-${index}`, [1, 2]);
    await sleep(1_500);
    t.same(await deadLetters(consumer), [], 'no dead letter');
    t.equal(await metric(consumer, 'armature_consumer_retries_total'), 0, 'no attempt');
    loaded = true;
    for (let index = 0; index < 20; index += 1) t.same(await effectsOf(consumer, `b-${index}`, 2), [1, 2]);
    t.same(await deadLetters(consumer), []);
    t.equal(await metric(consumer, 'armature_consumption_paused'), 0);
  });
});

t.test('no database: no event loses an attempt', async (t) => {
  const bed = await openTestbed(t);
  const first = await bed.consumer({ consumers: [recorder] });
  await first.running.stop();
  const producer = await bed.producer();
  const proxy = await openTcpProxy(t, first.databaseUrl);
  const db = await openDatabase({ url: proxy.url, log: createLogger('test', 'silent'), registry: new Registry() });
  t.teardown(() => db.close());
  const consumer = await bed.consumer({ consumers: [recorder], on: { db, databaseUrl: proxy.url } });
  await producer.emit('a', [1]);
  t.same(await effectsOf(consumer, 'a', 1), [1]);
  proxy.refuse(Number.POSITIVE_INFINITY);
  proxy.cut();
  for (let index = 0; index < 10; index += 1) await producer.emit(`b-${index}`, [1, 2]);
  await eventually(
    async () => (await metric(consumer, 'armature_consumption_paused', { missing: 'database' })) === 1,
    'paused',
  );
  await sleep(1_500);
  t.equal(await metric(consumer, 'armature_consumer_retries_total'), 0, 'no attempt');
  proxy.refuse(0);
  for (let index = 0; index < 10; index += 1) t.same(await effectsOf(consumer, `b-${index}`, 2), [1, 2]);
  t.same(await deadLetters(consumer), []);
});

t.test('a redrive keeps the order of the aggregate', async (t) => {
  const bed = await openTestbed(t);
  const failing = new Set<number>();
  const handle = (message: Ticked, _call: unknown, tx: Tx) =>
    failing.has(message.number)
      ? Promise.reject(rpcError('FAILED_PRECONDITION', 'NEVER', 'this cannot be'))
      : record(message, tx);
  const mailed = event('orders', 'order', 'Mailed');
  const consumer = await bed.consumer({
    consumers: [consume(ticked, handle), consume(mailed, handle, { orderIndependent: true })],
  });
  const producer = await bed.producer();
  const { redrive, checkRedrive } = consumer.running;
  const superseded = refusal({ code: 'FAILED_PRECONDITION', reason: 'EVENT_SUPERSEDED' });
  for (const number of [1, 11, 12, 21, 31]) failing.add(number);

  await t.test('a dead letter older than an applied event is refused', async (t) => {
    await producer.emit('a', [1, 2]);
    t.same(await effectsOf(consumer, 'a', 1), [2]);
    const [deadLetter] = await deadLettersOf(consumer, 1);
    failing.clear();
    await t.rejects(checkRedrive(deadLetter!.id), superseded);
    await t.rejects(redrive(deadLetter!.id), superseded);
    t.same(await effects(consumer, 'a'), [2]);
    t.equal((await deadLetters(consumer))[0]?.redriven_at, null, 'it stays');
  });

  await t.test('one that only events without an effect here have followed is handled', async (t) => {
    failing.add(21);
    await producer.emit('b', [21]);
    await producer.emit('b', [0, 0], ignored);
    const [, deadLetter] = await deadLettersOf(consumer, 2);
    await eventually(async () => (await metric(consumer, 'armature_consumer_skipped_total')) >= 2, 'skipped');
    failing.clear();
    t.equal(await redrive(deadLetter!.id), 'redriven');
    t.same(await effects(consumer, 'b'), [21]);
  });

  await t.test('an earlier dead letter goes first', async (t) => {
    failing.add(11).add(12);
    await producer.emit('c', [11, 12]);
    const [, , first, second] = await deadLettersOf(consumer, 4);
    failing.clear();
    await t.rejects(
      redrive(second!.id),
      refusal({
        code: 'FAILED_PRECONDITION',
        reason: 'EARLIER_DEAD_LETTER_OPEN',
        metadata: { dead_letter_id: first!.id },
      }),
    );
    t.equal(await redrive(first!.id), 'redriven');
    t.equal(await redrive(second!.id), 'redriven');
    t.same(await effects(consumer, 'c'), [11, 12]);
    t.equal(await redrive(first!.id), 'already', 'twice does nothing');
  });

  await t.test('an event that depends on no order is handled at any time', async (t) => {
    failing.add(31);
    await producer.emit('d', [31], mailed);
    await producer.emit('d', [32]);
    t.same(await effectsOf(consumer, 'd', 1), [32]);
    const deadLetter = (await deadLettersOf(consumer, 5))[4];
    failing.clear();
    t.equal(await redrive(deadLetter!.id), 'redriven');
    t.same(await effects(consumer, 'd'), [32, 31]);
  });
});

t.test('messages that are not what they should be', async (t) => {
  const bed = await openTestbed(t);
  const consumer = await bed.consumer({ consumers: [recorder] });
  const producer = await bed.producer();
  const reasonsOf = async (id: string) =>
    (await deadLetters(consumer)).filter((deadLetter) => deadLetter.aggregate_id === id).map(({ reason }) => reason);
  const latest = async (id: string, count: number) => {
    await eventually(async () => (await reasonsOf(id)).length >= count, `${count} dead letters of ${id}`);
    return (await reasonsOf(id)).at(-1) ?? '';
  };

  await t.test('an empty body is a dead letter, and the next event goes on', async (t) => {
    await publish(producer, { id: 'empty', number: 1, sequence: 1 }, { body: Buffer.from('{}') });
    await publish(producer, { id: 'empty', number: 2, sequence: 2 });
    t.same(await effectsOf(consumer, 'empty', 1), [2]);
    t.match(await latest('empty', 1), /^INVALID_ARGUMENT EVENT_MISMATCHED/);
  });

  await t.test('an id in the header that is not the one in the body is a dead letter', async (t) => {
    const body = Buffer.from(JSON.stringify({ id: 'another', number: 1, atMs: 0 }));
    await publish(producer, { id: 'header', number: 1, sequence: 1 }, { body });
    t.match(await latest('header', 1), /^INVALID_ARGUMENT EVENT_MISMATCHED/);
    t.same(await effects(consumer, 'another'), []);
  });

  await t.test('another event under a used message id is a dead letter, whatever its sequence', async (t) => {
    const messageId = randomUUID();
    const headers = (sequence: number) => ({
      aggregate: 'order',
      'aggregate-id': 'reused',
      sequence: String(sequence),
    });
    const again = (number: number, sequence: number) =>
      publish(
        producer,
        { id: 'reused', number, sequence },
        { properties: { messageId, type: ticked.type, headers: headers(sequence) } },
      );
    await again(1, 1);
    t.same(await effectsOf(consumer, 'reused', 1), [1]);
    await again(2, 2);
    t.match(await latest('reused', 1), /^INVALID_ARGUMENT MESSAGE_ID_REUSED/);
    await again(3, 1);
    t.match(await latest('reused', 2), /^INVALID_ARGUMENT MESSAGE_ID_REUSED/);
    const before = await metric(consumer, 'armature_consumer_duplicates_total');
    await publish(producer, { id: 'reused', number: 4, sequence: 3 });
    t.same(await effectsOf(consumer, 'reused', 2), [1, 4], 'later events go on');
    const [deadLetter] = (await deadLetters(consumer)).filter((one) => one.aggregate_id === 'reused');
    t.equal(before, await metric(consumer, 'armature_consumer_duplicates_total'), 'none was taken for a duplicate');
    await t.rejects(
      consumer.running.redrive(deadLetter!.id),
      refusal({ code: 'FAILED_PRECONDITION', reason: 'EVENT_SUPERSEDED' }),
    );
  });

  await t.test('an event of another aggregate in the queue is a dead letter', async (t) => {
    const properties = {
      messageId: randomUUID(),
      type: 'test.orders.v1.Unheard',
      headers: { aggregate: 'order', 'aggregate-id': 'elsewhere', sequence: '1' },
    };
    await publish(producer, { id: 'elsewhere', number: 1, sequence: 1 }, { properties });
    t.match(await latest('elsewhere', 1), /^INVALID_ARGUMENT EVENT_MISMATCHED/);
  });

  await t.test('metrics have no label of a publisher\u2019s choice', async (t) => {
    for (let index = 0; index < 50; index += 1) {
      const properties = {
        messageId: randomUUID(),
        type: `test.orders.v1.Made${index}`,
        headers: { aggregate: 'order', 'aggregate-id': 'labels', sequence: String(index + 1) },
      };
      await publish(producer, { id: 'labels', number: index, sequence: index + 1 }, { properties });
    }
    await eventually(async () => (await metric(consumer, 'armature_consumer_unknown_events_total')) === 50, 'counted');
    t.notMatch(await consumer.registry.metrics(), /Made\d/);
  });
});

t.test('an event of an unknown type', async (t) => {
  const bed = await openTestbed(t);
  const consumer = await bed.consumer({ consumers: [recorder] });
  const producer = await bed.producer();
  const tocked = event('orders', 'order', 'Tocked');
  await producer.emit('a', [1]);
  await producer.emit('a', [2], tocked);
  await producer.emit('a', [3], ignored);

  await t.test('steps the sequence, is counted and kept, and is no failure', async (t) => {
    const [kept] = await deadLettersOf(consumer, 1);
    t.match(kept, { type: tocked.type, sequence: 2, unknown_type: 1, reason: /EVENT_TYPE_UNKNOWN/ });
    t.equal(await metric(consumer, 'armature_consumer_unknown_events_total'), 1);
    t.equal(await metric(consumer, 'armature_consumer_dead_letters_total'), 0);
    t.equal(await metric(consumer, 'armature_dead_letters'), 0);
    await eventually(async () => (await metric(consumer, 'armature_consumer_skipped_total')) >= 2, 'the next went on');
    await t.rejects(
      consumer.running.redrive(kept!.id),
      refusal({ code: 'FAILED_PRECONDITION', reason: 'EVENT_NOT_CONSUMED' }),
    );
  });

  await t.test('is handled by a version of the service that knows it', async (t) => {
    await consumer.running.stop();
    const newer = await bed.consumer({
      consumers: [recorder, consume(tocked, (message, _call, tx) => record(message, tx))],
      on: consumer,
    });
    const [kept] = await deadLetters(newer);
    t.equal(await newer.running.redrive(kept!.id), 'redriven');
    t.equal(await newer.running.redrive(kept!.id), 'already');
    t.same(await effects(newer, 'a'), [1, 2]);
  });
});
