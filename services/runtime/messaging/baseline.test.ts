// A consumer that was started late, or lost its queue or a part of its database, gets the current state from the owner.
import { setTimeout as sleep } from 'node:timers/promises';
import { Baseline } from '@armature/proto/runtime/v1/baseline.ts';
import t from 'tap';
import { createVirtualHost } from '../../../scripts/devmesh/provision.ts';
import { connectBroker } from '../../../test/support/infra.ts';
import { refusal } from '../../../test/support/refusal.ts';
import { background } from '../context/background.ts';
import { createLogger } from '../telemetry/log.ts';
import {
  eventually,
  openTestbed,
  type Producer,
  type RunningConsumer,
  type Ticked,
  ticked,
} from '../testing/messaging.ts';
import { deadLetters, deadLettersOf, effects, effectsOf, metric, recorder } from '../testing/observe.ts';
import { onBaseline } from './baseline.ts';
import { type BaselineRequest, baselinePublisher } from './baseline-publisher.ts';
import { type BaselineSource, outboxBaselines, placesOf, tableBaselines } from './baseline-source.ts';
import { baselineType } from './delivery.ts';
import {
  baselineRoutingKey,
  declareEventQueue,
  declareService,
  eventQueue,
  eventsExchange,
  expectedQueues,
} from './topology.ts';

t.setTimeout(180_000);
const queue = eventQueue('notifications', 'orders', 'order');
const open = background('orders', createLogger('test', 'silent'));

/** Publishes as an operator of orders would, all pages at once. */
async function publishBaselines(producer: Producer, more: Partial<BaselineRequest> = {}) {
  const call = open('baseline', 30_000);
  const source = more.source ?? outboxBaselines('order');
  const places =
    more.places ?? (await producer.db.read(call, (sql) => placesOf(sql, [source], { after: '', limit: 200, ids: [] })));
  const request = { db: producer.db, aggregate: 'order', consumer: 'notifications', skipHistory: false, dryRun: false };
  const { publish } = baselinePublisher({ service: 'orders', broker: producer.broker });
  try {
    return await publish(call, { ...request, source, places, ...more });
  } finally {
    call.close();
  }
}

const published = (producer: Producer) =>
  eventually(async () => {
    const [row] = await producer.db.read(null, (sql) =>
      sql.query<{ pending: number }>('select count(*) as pending from outbox where pending = 1'),
    );
    return Number(row?.pending) === 0;
  }, 'published');

const early = (consumer: RunningConsumer, count: number) =>
  eventually(async () => (await metric(consumer, 'armature_consumer_early_total')) >= count, `${count} early`);

t.test('a consumer that came late', async (t) => {
  const bed = await openTestbed(t);
  const producer = await bed.producer();
  for (const id of ['kept', 'gone', 'skipped']) await producer.emit(id, [1, 2, 3]);
  await published(producer);
  await producer.db.write(null, (sql) => sql.execute(`delete from outbox where aggregate_id = 'gone'`));
  const consumer = await bed.consumer({ consumers: [recorder], limits: { earlyShownMs: 300 } });
  for (const id of ['kept', 'gone', 'skipped']) await producer.emit(id, [4]);
  await early(consumer, 3);

  await t.test('waits for a bounded time, and then it shows', async (t) => {
    await eventually(async () => (await metric(consumer, 'armature_consumer_early_aggregates')) === 3, 'three shown');
    t.ok((await metric(consumer, 'armature_consumer_early_oldest_age_seconds')) >= 0.3);
    t.same(await effects(consumer), []);
    t.same(await deadLetters(consumer), [], 'and is no dead letter');
  });

  await t.test('a dry run counts and publishes nothing', async (t) => {
    const counted = await publishBaselines(producer, { dryRun: true });
    t.same(counted, { done: 3, baselines: 1, events: 9n });
    await sleep(300);
    t.same(await effects(consumer), []);
  });

  await t.test('gets the history that is kept, each event once and in order', async (t) => {
    await publishBaselines(producer, { places: [{ id: 'kept', sequence: 4n }] });
    t.same(await effectsOf(consumer, 'kept', 4), [1, 2, 3, 4]);
  });

  await t.test('goes on behind what is not kept', async (t) => {
    await publishBaselines(producer, { places: [{ id: 'gone', sequence: 4n }] });
    t.same(await effectsOf(consumer, 'gone', 1), [4]);
  });

  await t.test('can skip the past', async (t) => {
    await publishBaselines(producer, { places: [{ id: 'skipped', sequence: 4n }], skipHistory: true });
    await producer.emit('skipped', [5]);
    t.same(await effectsOf(consumer, 'skipped', 1), [5]);
  });

  await t.test('a second time nothing happens', async (t) => {
    await publishBaselines(producer);
    await publishBaselines(producer);
    for (const id of ['kept', 'gone', 'skipped']) await producer.emit(id, [9]);
    t.same(await effectsOf(consumer, 'kept', 5), [1, 2, 3, 4, 9]);
    t.same(await effectsOf(consumer, 'gone', 2), [4, 9]);
    t.same(await effectsOf(consumer, 'skipped', 2), [5, 9]);
    t.equal(await metric(consumer, 'armature_consumer_early_aggregates'), 0);
    t.same(await deadLetters(consumer), []);
  });
});

t.test('what was lost while events go on', async (t) => {
  const bed = await openTestbed(t);
  const consumer = await bed.consumer({ consumers: [recorder], limits: { topologyCheckMs: 300 } });
  const producer = await bed.producer();
  const ids = Array.from({ length: 10 }, (_, index) => `id-${index}`);
  let number = 0;
  const emitAll = async () => {
    number += 1;
    for (const id of ids) await producer.emit(id, [number]);
  };
  const numbers = () => Array.from({ length: number }, (_, index) => index + 1);
  const applied = async (what: string) => {
    await eventually(async () => (await effects(consumer)).length >= ids.length * number, what);
    for (const id of ids) t.same(await effects(consumer, id), numbers(), `${id} ${what}`);
  };

  await t.test('with the queue', async () => {
    for (let round = 0; round < 3; round += 1) await emitAll();
    const path = `/queues/${bed.vhost.name}/${encodeURIComponent(queue)}`;
    await bed.vhost.api.request('DELETE', path);
    for (let round = 0; round < 3; round += 1) await emitAll();
    await published(producer);
    await eventually(() => producer.broker.queueBound(queue), 'the queue is there again');
    const traffic = (async () => {
      for (let round = 0; round < 5; round += 1) await emitAll();
    })();
    await publishBaselines(producer);
    await traffic;
    await applied('after the queue was lost');
  });

  await t.test('with the newest part of the database', async () => {
    // As after a restored backup: everything since the fourth event is lost.
    await consumer.db.write(null, (sql) => sql.execute('update inbox_sequence set applied = 4, handled = 4'));
    await consumer.db.write(null, (sql) => sql.execute('delete from inbox where sequence > 4'));
    const before = numbers();
    await emitAll();
    await publishBaselines(producer);
    for (const id of ids) {
      const again = numbers().filter((one) => one > 4);
      t.same(await effectsOf(consumer, id, before.length + again.length), [...before, ...again], id);
    }
  });
});

t.test('a broker that comes back empty', async (t) => {
  const bed = await openTestbed(t);
  const { name, api, adminUrl } = bed.vhost;
  const services = ['orders', 'notifications', 'inventory'];
  const subscription = { source: 'orders', aggregate: 'order' };
  const expected = expectedQueues('orders', [
    { service: 'notifications', ...subscription },
    { service: 'inventory', ...subscription },
  ]);
  const consumer = await bed.consumer({ consumers: [recorder] });
  const producer = await bed.producer({ expected });
  const other = eventQueue('inventory', 'orders', 'order');
  /** As inventory does at its start. */
  const declareOther = async () => {
    const connection = await connectBroker(adminUrl);
    const channel = await connection.createConfirmChannel();
    await declareService(channel, 'inventory', [50]);
    await declareEventQueue(channel, 'inventory', 'orders', 'order');
    const { messageCount } = await channel.checkQueue(other);
    await connection.close();
    return messageCount;
  };
  await declareOther();
  await producer.emit('a', [1, 2]);
  t.same(await effectsOf(consumer, 'a', 2), [1, 2]);

  await api.request('DELETE', `/vhosts/${name}`);
  await createVirtualHost(api, name, services);
  await producer.emit('a', [3]);
  await eventually(async () => consumer.running.faults().length === 0 && consumer.broker.ready(), 'consumed again');
  await eventually(async () => producer.broker.ready(), 'publishes again');

  await t.test('no event leaves before every consumer has its queue again', async (t) => {
    await sleep(500);
    t.same(await effects(consumer, 'a'), [1, 2]);
    await declareOther();
    t.same(await effectsOf(consumer, 'a', 3), [1, 2, 3]);
    await eventually(async () => (await declareOther()) === 1, 'the other has it as well');
  });

  await t.test('what was lost with it is published again', async (t) => {
    // Confirmed, but no longer in any queue when the consumer returns.
    await producer.emit('b', [1]);
    t.same(await effectsOf(consumer, 'b', 1), [1]);
    await consumer.db.write(null, (sql) => sql.execute(`delete from inbox where aggregate_id = 'b'`));
    await consumer.db.write(null, (sql) =>
      sql.execute(`update inbox_sequence set applied = 0 where aggregate_id = 'b'`),
    );
    await publishBaselines(producer);
    t.same(await effectsOf(consumer, 'b', 2), [1, 1]);
    t.same(await effects(consumer, 'a'), [1, 2, 3]);
  });
});

t.test('a baseline with state', async (t) => {
  const bed = await openTestbed(t);
  const producer = await bed.producer();
  await producer.emit('a', [1, 2, 3]);
  await published(producer);
  const stateType = 'test.orders.v1.State';
  const state = new Map<string, number>();
  const consumer = await bed.consumer({
    consumers: [recorder],
    baselines: [
      onBaseline<Ticked>(
        { source: 'orders', aggregate: 'order', stateType, state: ticked.message },
        async ({ id, number }) => {
          state.set(id, number);
        },
      ),
    ],
  });
  let sequence = 3n;
  const source: BaselineSource = {
    ...outboxBaselines('order'),
    stateType,
    state: async (_sql, id) => ({
      sequence,
      state: Buffer.from(JSON.stringify({ id, number: 100 + Number(sequence), atMs: 0 })),
    }),
  };
  await producer.emit('a', [4]);
  await early(consumer, 1);
  await publishBaselines(producer, { source });
  t.same(await effectsOf(consumer, 'a', 1), [4], 'the events that it includes are not handled, the next one is');
  t.equal(state.get('a'), 103);
  sequence = 2n;
  await publishBaselines(producer, { source });
  await producer.emit('a', [5]);
  t.same(await effectsOf(consumer, 'a', 2), [4, 5]);
  t.equal(state.get('a'), 103, 'an older one changes nothing');
});

t.test('who gets and who may send baselines', async (t) => {
  const bed = await openTestbed(t);
  const producer = await bed.producer();
  await producer.emit('a', [1, 2]);
  await published(producer);

  await t.test('without the consumer\u2019s queue it is refused', async (t) => {
    await t.rejects(
      publishBaselines(producer, { skipHistory: true }),
      refusal({ code: 'FAILED_PRECONDITION', reason: 'BASELINE_UNROUTED' }),
    );
  });

  const consumer = await bed.consumer({ consumers: [recorder] });
  const connection = await connectBroker(bed.vhost.adminUrl);
  t.teardown(() => connection.close());
  const channel = await connection.createConfirmChannel();

  await t.test('no other queue gets it', async (t) => {
    const { queue: other } = await channel.assertQueue('', { exclusive: true });
    await channel.bindQueue(other, eventsExchange, 'orders.order.*');
    await publishBaselines(producer);
    t.same(await effectsOf(consumer, 'a', 2), [1, 2]);
    t.equal((await channel.checkQueue(other)).messageCount, 0);
  });

  await t.test('one that the owner did not send is dead-lettered and moves nothing', async (t) => {
    const body = Baseline.encode(
      Baseline.fromPartial({ aggregate: 'order', aggregateId: 'a', sequence: 99n, historyAfter: 99n }),
    ).finish();
    channel.publish(eventsExchange, baselineRoutingKey('orders', 'order', 'notifications'), Buffer.from(body), {
      messageId: '00000000-0000-7000-8000-000000000099',
      type: baselineType,
      headers: { aggregate: 'order', 'aggregate-id': 'a' },
    });
    const [deadLetter] = await deadLettersOf(consumer, 1);
    t.match(deadLetter, { reason: /^UNAUTHENTICATED: user-id is missing/ });
    await producer.emit('a', [3]);
    t.same(await effectsOf(consumer, 'a', 3), [1, 2, 3]);
  });
});

t.test('places from a table and from the outbox', async (t) => {
  const bed = await openTestbed(t);
  const producer = await bed.producer();
  await producer.emit('b', [1, 2]);
  const table = tableBaselines({ aggregate: 'order', table: 'outbox', id: 'aggregate_id', sequence: 'sequence - 1' });
  const of = { after: '', limit: 10, ids: [] };
  const places = await producer.db.read(null, (sql) => placesOf(sql, [table, outboxBaselines('order')], of));
  t.same(places, [{ id: 'b', sequence: 2n }]);
});
