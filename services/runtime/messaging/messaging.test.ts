import { randomUUID } from 'node:crypto';
import type { Options } from 'amqplib';
import t from 'tap';
import { connectBroker } from '../../../test/support/infra.ts';
import type { Tx } from '../db/tx.ts';
import { permissionDenied, rpcError } from '../errors/errors.ts';
import { createLogger } from '../telemetry/log.ts';
import { Registry } from '../telemetry/metrics.ts';
import {
  allowAll,
  contract,
  eventually,
  ignored,
  openTestbed,
  type Producer,
  type RunningConsumer,
  type Testbed,
  type Ticked,
  ticked,
} from '../testing/messaging.ts';
import { consume } from './consumer.ts';
import { startMessaging } from './messaging.ts';
import { deadQueue, eventQueue, eventsExchange } from './topology.ts';

t.setTimeout(120_000);

const queue = eventQueue('notifications', 'orders', 'order');

async function record(message: Ticked, tx: Tx): Promise<void> {
  await tx.execute('insert into effect (id, number, written_us) values (?, ?, 0)', [message.id, message.number]);
}

const recorder = consume(ticked, (message, _call, tx) => record(message, tx));

async function effects(consumer: RunningConsumer, id?: string): Promise<number[]> {
  const rows = await consumer.db.read(null, (sql) =>
    sql.query<{ id: string; number: number }>('select id, number from effect order by position'),
  );
  return rows.filter((row) => id === undefined || row.id === id).map((row) => row.number);
}

const effectsOf = (consumer: RunningConsumer, id: string, count: number): Promise<number[]> =>
  eventually(async () => {
    const found = await effects(consumer, id);
    return found.length >= count && found;
  }, `${count} effects on ${id}`);

interface DeadLetterRow {
  id: string;
  message_id: string;
  publisher: string;
  sequence: number | null;
  body: Buffer;
  reason: string;
  attempts: number;
  redriven_at: string | null;
}

const deadLetters = (consumer: RunningConsumer): Promise<DeadLetterRow[]> =>
  consumer.db.read(null, (sql) => sql.query<DeadLetterRow>('select * from dead_letter order by dead_at'));

const deadLettersOf = (consumer: RunningConsumer, count: number): Promise<DeadLetterRow[]> =>
  eventually(async () => {
    const found = await deadLetters(consumer);
    return found.length >= count && found;
  }, `${count} dead letters`);

async function metric(consumer: RunningConsumer, name: string): Promise<number> {
  const found = await consumer.registry.getSingleMetric(name)?.get();
  return found?.values.reduce((sum, value) => sum + value.value, 0) ?? 0;
}

/** Publishes an event without the outbox, as its source would. */
function publish(producer: Producer, id: string, number: number, sequence: number, body?: Buffer): Promise<string> {
  const message = { id, number, atMs: Date.now() };
  return producer.broker.publish({
    exchange: eventsExchange,
    routingKey: ticked.routingKey,
    body: body ?? Buffer.from(ticked.message.encode(message).finish()),
    properties: {
      messageId: randomUUID(),
      type: ticked.type,
      headers: { aggregate: 'order', 'aggregate-id': id, sequence: String(sequence) },
    },
  });
}

t.test('what consumers are started with', async (t) => {
  const bed = await openTestbed(t);
  const rows = [
    { name: 'a missing one', consumers: [], consumes: [ticked], says: /no consumer of test.orders.v1.Ticked/ },
    { name: 'a superfluous one', consumers: [recorder], consumes: [], says: /consumes test.orders.v1.Ticked/ },
    { name: 'two of one event', consumers: [recorder, recorder], consumes: [ticked], says: /two consumers of/ },
  ];
  for (const { name, consumers, consumes, says } of rows) {
    await t.test(name, (t) =>
      t.rejects(bed.consumer({ consumers, contracts: [contract('notifications', consumes)] }), { message: says }),
    );
  }
});

t.test('events of an aggregate', async (t) => {
  const bed = await openTestbed(t);
  const consumer = await bed.consumer({ consumers: [recorder] });
  const producer = await bed.producer();

  await t.test('are handled once and in order, many aggregates side by side', async (t) => {
    const ids = Array.from({ length: 20 }, (_, index) => `order-${index}`);
    for (let number = 1; number <= 10; number += 1) {
      await Promise.all(
        ids.map(async (id) => {
          await producer.emit(id, [number]);
          await producer.emit(id, [0, 0], ignored);
        }),
      );
    }
    for (const id of ids) t.same(await effectsOf(consumer, id, 10), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    t.equal(
      await eventually(async () => (await metric(consumer, 'armature_consumer_skipped_total')) === 400, 'skips'),
      true,
    );
    const [row] = await consumer.db.read(null, (sql) =>
      sql.query<{ noted: number; least: number }>(
        `select (select count(*) from inbox) as noted, (select min(applied) from inbox_sequence) as least`,
      ),
    );
    t.same([Number(row?.noted), Number(row?.least)], [600, 30]);
  });

  await t.test('published again have no second effect', async (t) => {
    await producer.db.write(null, (sql) => sql.execute('update outbox set pending = 1'));
    producer.relay.wake();
    await eventually(async () => (await metric(consumer, 'armature_consumer_duplicates_total')) >= 600, 'duplicates');
    t.equal((await effects(consumer)).length, 200);
  });

  await t.test('that come early wait for their predecessor', async (t) => {
    await publish(producer, 'early', 3, 3);
    await publish(producer, 'early', 2, 2);
    await eventually(async () => (await metric(consumer, 'armature_consumer_early_total')) >= 1, 'early');
    t.same(await effects(consumer, 'early'), []);
    await publish(producer, 'early', 1, 1);
    t.same(await effectsOf(consumer, 'early', 3), [1, 2, 3]);
  });

  await t.test('that come early wait in a retry queue when it takes long', async (t) => {
    const before = await metric(consumer, 'armature_consumer_early_total');
    await publish(producer, 'late', 2, 2);
    await eventually(async () => (await metric(consumer, 'armature_consumer_early_total')) >= before + 4, 'early');
    await publish(producer, 'late', 1, 1);
    t.same(await effectsOf(consumer, 'late', 2), [1, 2]);
    t.same(await deadLetters(consumer), []);
  });
});

t.test('failures', async (t) => {
  const bed = await openTestbed(t);
  const tries = new Map<number, number>();
  const handle = async (message: Ticked, _call: unknown, tx: Tx) => {
    const attempt = (tries.get(message.number) ?? 0) + 1;
    tries.set(message.number, attempt);
    await record(message, tx);
    if (message.number === 100 && attempt < 3) throw new Error('not yet');
    if (message.number === 200 && attempt < 2) throw rpcError('FAILED_PRECONDITION', 'NEVER', 'this cannot be');
    if (message.number === 300 && attempt < 5) throw rpcError('UNAVAILABLE', 'AWAY', 'a dependency is away');
  };
  const failing = consume(ticked, handle, { orderIndependent: true });
  const consumer = await bed.consumer({ consumers: [failing] });
  const producer = await bed.producer();

  await t.test('that pass: tried again, and later events wait', async (t) => {
    await producer.emit('transient', [99, 100, 101, 102]);
    t.same(await effectsOf(consumer, 'transient', 4), [99, 100, 101, 102]);
    t.equal(tries.get(100), 3);
    t.same(await deadLetters(consumer), []);
  });

  await t.test('that stay: a dead letter at once, and later events go on', async (t) => {
    await producer.emit('permanent', [200, 201]);
    t.same(await effectsOf(consumer, 'permanent', 1), [201]);
    const [deadLetter] = await deadLettersOf(consumer, 1);
    const [row] = await producer.db.read(null, (sql) =>
      sql.query<{ message_id: string; payload: Buffer }>(
        `select message_id, payload from outbox where aggregate_id = 'permanent'`,
      ),
    );
    t.match(deadLetter, {
      message_id: row?.message_id,
      reason: 'FAILED_PRECONDITION NEVER: this cannot be',
      attempts: 1,
    });
    t.ok(deadLetter?.body.equals(row!.payload), 'the body is kept');
  });

  await t.test('redriving twice at once has one effect', async (t) => {
    const [deadLetter] = await deadLetters(consumer);
    const results = await Promise.all([
      consumer.running.redrive(deadLetter!.id),
      consumer.running.redrive(deadLetter!.id),
    ]);
    t.same(results.sort(), ['already', 'redriven']);
    t.equal(await consumer.running.redrive(deadLetter!.id), 'already');
    t.same((await effects(consumer, 'permanent')).sort(), [200, 201]);
  });

  await t.test('that pass too late: a dead letter with its attempts', async (t) => {
    await producer.emit('exhausted', [300, 301]);
    t.same(await effectsOf(consumer, 'exhausted', 1), [301]);
    const [, deadLetter] = await deadLettersOf(consumer, 2);
    t.match(deadLetter, { reason: 'UNAVAILABLE AWAY: a dependency is away', attempts: 4 });
  });

  await t.test('a body that is no such message: a dead letter at once', async (t) => {
    await publish(producer, 'malformed', 0, 1, Buffer.from('not JSON'));
    await publish(producer, 'malformed', 2, 2);
    t.same(await effectsOf(consumer, 'malformed', 1), [2]);
    const [, , deadLetter] = await deadLettersOf(consumer, 3);
    t.match(deadLetter, { reason: /MESSAGE_MALFORMED/, attempts: 1 });
    await t.rejects(consumer.running.redrive(deadLetter!.id), { message: /is not a test.orders.v1.Ticked/ });
  });

  await t.test('redriving an unknown dead letter', (t) =>
    t.rejects(consumer.running.redrive('00000000-0000-0000-0000-000000000000'), { message: /no dead letter/ }),
  );
});

t.test('publishers', async (t) => {
  const bed = await openTestbed(t);
  let allowed = true;
  const consumer = await bed.consumer({
    consumers: [recorder],
    authorize: () => (next) => (call) =>
      allowed && call.caller.workload === 'service:orders'
        ? next(call)
        : Promise.reject(permissionDenied('orders.publish')),
  });
  const producer = await bed.producer();

  await t.test('the broker refuses a message under the name of another service', async (t) => {
    t.match(await refusal(bed, 'inventory', {}), /topic 'orders.order.Ticked'/);
    t.match(await refusal(bed, 'admin', { userId: 'orders' }), /user_id property set to 'orders'/);
  });

  await t.test('a publisher that is not the source is dead-lettered and moves no sequence', async (t) => {
    t.equal(await refusal(bed, 'admin', {}), null, 'the broker lets an administrator publish');
    const [deadLetter] = await deadLettersOf(consumer, 1);
    t.match(deadLetter, { reason: /user-id is missing/, sequence: null });
    await producer.emit('forged', [1, 2]);
    t.same(await effectsOf(consumer, 'forged', 2), [1, 2]);
    await t.rejects(consumer.running.redrive(deadLetter!.id), { message: /is no event of orders/ });
  });

  await t.test('a source that policy refuses is dead-lettered, and redriven once policy is mended', async (t) => {
    allowed = false;
    await producer.emit('refused', [1]);
    const [, deadLetter] = await deadLettersOf(consumer, 2);
    t.match(deadLetter, { reason: /PERMISSION_DENIED/, publisher: 'orders', attempts: 1 });
    await t.rejects(consumer.running.redrive(deadLetter!.id), { message: /not allowed/ });
    allowed = true;
    t.equal(await consumer.running.redrive(deadLetter!.id), 'redriven');
    await producer.emit('refused', [2]);
    t.same(await effectsOf(consumer, 'refused', 2), [1, 2]);
  });
});

/** Publishes a message that looks like the first event of "forged"; returns the broker's error. */
async function refusal(bed: Testbed, as: string, properties: Options.Publish): Promise<string | null> {
  const connection = await connectBroker(as === 'admin' ? bed.vhost.adminUrl : bed.vhost.url(as));
  const channel = await connection.createConfirmChannel();
  const refused = new Promise<string>((resolve) => channel.on('error', (error) => resolve(error.message)));
  channel.publish(eventsExchange, ticked.routingKey, Buffer.from('{"id":"forged","number":666}'), {
    messageId: '00000000-0000-7000-8000-000000000666',
    type: ticked.type,
    headers: { aggregate: 'order', 'aggregate-id': 'forged', sequence: '1' },
    ...properties,
  });
  const outcome = await Promise.race([
    refused,
    channel.waitForConfirms().then(
      () => null,
      () => refused,
    ),
  ]);
  await connection.close();
  return outcome;
}

t.test('a message that kills its consumer again and again becomes a dead letter', async (t) => {
  const bed = await openTestbed(t);
  const first = await bed.consumer({ consumers: [recorder] });
  await first.running.stop();
  const producer = await bed.producer();
  await producer.emit('poison', [1, 2]);
  const connection = await connectBroker(bed.vhost.adminUrl);
  t.teardown(() => connection.close());
  const channel = await connection.createChannel();
  // Represents a process that dies while it handles the message: the broker counts both the same way.
  await channel.prefetch(1);
  await channel.consume(queue, (message) => message && channel.nack(message, false, true));
  await eventually(
    async () => (await channel.checkQueue(deadQueue('notifications'))).messageCount >= 1,
    'the broker gives up',
  );
  await channel.close();
  const consumer = await bed.consumer({ consumers: [recorder], on: first });
  const [deadLetter] = await deadLettersOf(consumer, 1);
  t.match(deadLetter, { reason: /too many deliveries/, sequence: 1, publisher: 'orders' });
  t.same(await effectsOf(consumer, 'poison', 1), [2]);
});

t.test('stopping finishes what is in hand and leaves the rest to the next', async (t) => {
  const bed = await openTestbed(t);
  const begun = Promise.withResolvers<void>();
  const slow = consume(ticked, async (message, _call, tx) => {
    begun.resolve();
    await new Promise((resolve) => setTimeout(resolve, 150));
    await record(message, tx);
  });
  const first = await bed.consumer({ consumers: [slow], limits: { width: 2 } });
  const producer = await bed.producer();
  await producer.emit('a', [1, 2, 3, 4, 5, 6]);
  await begun.promise;
  await first.running.stop();
  const done = await effects(first, 'a');
  t.ok(done.length > 0 && done.length < 6, `${done.length} were finished`);
  const second = await bed.consumer({ consumers: [recorder], on: first });
  t.same(await effectsOf(second, 'a', 6), [1, 2, 3, 4, 5, 6]);
});

t.test('a service as a whole: stopping publishes what was committed', async (t) => {
  const bed = await openTestbed(t);
  const consumer = await bed.consumer({ consumers: [recorder] });
  const producer = await bed.producer();
  await producer.relay.stop();
  const registry = new Registry();
  const log = createLogger('test', 'silent');
  const subscriptions = [{ service: 'notifications', source: 'orders', aggregate: 'order' }];
  const url = bed.vhost.url('orders');
  const messaging = startMessaging({ service: 'orders', url, log, registry, subscriptions });
  messaging.start(producer.db, { contracts: [], consumers: [], interceptors: [], authorize: allowAll });
  await messaging.started();
  await eventually(async () => messaging.ready(), 'ready');
  await producer.emit('last', [1, 2, 3]);
  const since = performance.now();
  await messaging.stop();
  t.ok(performance.now() - since < 5_000, 'within 5 s');
  t.same(await effectsOf(consumer, 'last', 3), [1, 2, 3]);
  t.match(await registry.metrics(), /armature_outbox_depth 0/);
});
