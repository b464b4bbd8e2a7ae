import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { openTcpProxy } from '../../../test/support/tcp-proxy.ts';
import { amount, inLongTier } from '../../../test/support/tier.ts';
import { dependencyUnavailable } from '../errors/errors.ts';
import { eventually, openTestbed, type Producer, type RunningConsumer, ticked, unheard } from '../testing/messaging.ts';
import type { Broker } from './connection.ts';
import { consume } from './consumer.ts';
import type { CrashChild } from './crash-child.ts';
import { openLease } from './lease.ts';
import { eventQueue, expectedQueues } from './topology.ts';

t.setTimeout(120_000);

const recorder = consume(ticked, async (message, _call, tx) => {
  await tx.execute('insert into effect (id, number, written_us) values (?, ?, 0)', [message.id, message.number]);
});

async function effects(consumer: RunningConsumer): Promise<Map<string, number[]>> {
  const rows = await consumer.db.read(null, (sql) =>
    sql.query<{ id: string; number: number }>('select id, number from effect order by position'),
  );
  const found = new Map<string, number[]>();
  for (const { id, number } of rows) found.set(id, [...(found.get(id) ?? []), number]);
  return found;
}

async function pending(producer: Producer): Promise<number> {
  const rows = await producer.db.read(null, (sql) =>
    sql.query<{ many: number }>('select count(*) as many from outbox where pending = 1'),
  );
  return Number(rows[0]?.many);
}

const total = (found: Map<string, number[]>) => [...found.values()].reduce((sum, numbers) => sum + numbers.length, 0);

t.test('who consumes what', async (t) => {
  const bed = await openTestbed(t);
  const subscriptions = [
    { service: 'notifications', source: 'orders', aggregate: 'order' },
    { service: 'orders', source: 'inventory', aggregate: 'reservation' },
  ];
  const expected = expectedQueues('orders', subscriptions);
  t.same(expected, [{ aggregate: 'order', queue: 'notifications.orders.order' }]);
  const producer = await bed.producer({ expected });

  await t.test('an event without consumers is done, and its row says so', async (t) => {
    await producer.emit('a', [1], unheard);
    await eventually(async () => (await pending(producer)) === 0, 'published');
    const rows = await producer.db.read(null, (sql) => sql.query<{ unrouted: number }>('select unrouted from outbox'));
    t.same(
      rows.map((row) => Number(row.unrouted)),
      [1],
    );
  });

  await t.test('an event whose consumer was never there waits for it', async (t) => {
    await producer.emit('a', [1, 2]);
    await producer.emit('a', [2], unheard);
    await eventually(async () => (await pending(producer)) === 2, 'the other aggregate goes on');
    t.equal(await producer.relay.drain(5_000), true, 'what waits for its queue does not hold up a drain');
    const consumer = await bed.consumer({ consumers: [recorder] });
    await eventually(async () => total(await effects(consumer)) === 2, 'effects');
    t.equal(await eventually(async () => (await pending(producer)) === 0, 'marked'), true);
  });

  await t.test('an event whose queue was taken away stays in the outbox', async (t) => {
    const queue = encodeURIComponent(eventQueue('notifications', 'orders', 'order'));
    await bed.vhost.api.request('DELETE', `/queues/${bed.vhost.name}/${queue}`);
    await producer.emit('b', [1]);
    // The consumer notices, declares the queue again and gets the events written meanwhile.
    await eventually(async () => (await pending(producer)) === 0, 'published', 30_000);
    const rows = await producer.db.read(null, (sql) =>
      sql.query<{ unrouted: number }>(`select unrouted from outbox where aggregate_id = 'b'`),
    );
    t.same(
      rows.map((row) => Number(row.unrouted)),
      [0],
    );
  });
});

t.test('two relays', async (t) => {
  const bed = await openTestbed(t);
  const consumer = await bed.consumer({ consumers: [recorder] });
  const producer = await bed.producer({ leaseMs: 600 });
  await eventually(async () => producer.relay.leading(), 'the first leads');
  const second = producer.startRelay({ leaseMs: 600 });
  await producer.emit('a', [1, 2, 3]);
  await eventually(async () => total(await effects(consumer)) === 3, 'effects');
  t.same([producer.relay.leading(), second.leading()], [true, false], 'one leads');
  await producer.relay.stop();
  await eventually(async () => second.leading(), 'the second takes over');
  await producer.emit('a', [4]);
  await eventually(async () => total(await effects(consumer)) === 4, 'effects');
  t.same((await effects(consumer)).get('a'), [1, 2, 3, 4]);
});

t.test('a relay that lost its lease marks nothing', async (t) => {
  const bed = await openTestbed(t);
  await bed.consumer({ consumers: [recorder] });
  const producer = await bed.producer({ leaseMs: 60_000 });
  await eventually(async () => producer.relay.leading(), 'leads');
  // As after a long pause: another process has taken the lease meanwhile.
  await producer.db.write(null, (sql) => sql.execute('update lease set token = token + 1'));
  await producer.emit('a', [1]);
  await eventually(async () => !producer.relay.leading(), 'notices');
  t.equal(await pending(producer), 1);
});

t.test('a lease whose holder is gone is taken soon, however long leases are', async (t) => {
  const bed = await openTestbed(t);
  const producer = await bed.producer({ leaseMs: 60_000 });
  await eventually(async () => producer.relay.leading(), 'leads');
  const next = openLease(producer.db, 'relay', 60_000);
  t.equal(await next.hold(), null, 'another process holds it');
  await producer.relay.stop();
  await eventually(async () => (await next.hold()) !== null, 'taken', 5_000);
});

t.test('a batch that takes longer than the lease keeps it, and is published once', async (t) => {
  const bed = await openTestbed(t);
  const consumer = await bed.consumer({ consumers: [recorder] });
  const producer = await bed.producer();
  await producer.relay.stop();
  await producer.emit('a', [1, 2, 3]);
  let published = 0;
  const slow: Broker = {
    ...producer.broker,
    publish: async (message) => {
      published += 1;
      const confirm = await producer.broker.publish(message);
      await sleep(2_500);
      return confirm;
    },
  };
  const first = producer.startRelay({ broker: slow, leaseMs: 600 });
  await eventually(async () => published === 3, 'the first relay publishes');
  const second = producer.startRelay({ broker: slow, leaseMs: 600 });
  await eventually(async () => (await pending(producer)) === 0, 'marked', 10_000);
  t.equal(published, 3, 'by the first relay only');
  t.equal(first.leading(), true);
  t.equal(second.leading(), false);
  t.same((await effects(consumer)).get('a'), [1, 2, 3]);
});

t.test('what the broker has not confirmed stays pending, and is published again', async (t) => {
  const bed = await openTestbed(t);
  const consumer = await bed.consumer({ consumers: [recorder] });
  const producer = await bed.producer();
  await producer.relay.stop();
  await producer.emit('a', [1, 2, 3]);
  let lost = 0;
  const lossy: Broker = {
    ...producer.broker,
    // The first publish is lost, and only the missing confirm shows that.
    publish: (message) => {
      if (lost === 3) return producer.broker.publish(message);
      lost += 1;
      return Promise.reject(dependencyUnavailable('broker', new Error('the connection is gone')));
    },
  };
  producer.startRelay({ broker: lossy });
  await eventually(async () => total(await effects(consumer)) === 3, '3 effects', 5_000);
  t.same((await effects(consumer)).get('a'), [1, 2, 3]);
  t.equal(lost, 3);
});

/** Runs until a crash point kills it; returns the signal that ended it. */
async function crash(child: CrashChild): Promise<string | null> {
  const program = fileURLToPath(new URL('crash-child.ts', import.meta.url));
  const running = spawn(process.execPath, [program, JSON.stringify(child)], { stdio: ['ignore', 'ignore', 'inherit'] });
  const timer = setTimeout(() => running.kill('SIGTERM'), 20_000);
  const [, signal] = await once(running, 'exit');
  clearTimeout(timer);
  return signal;
}

t.test('killed at', async (t) => {
  const numbers = Array.from({ length: 30 }, (_, index) => index + 1);
  const rows = [
    { role: 'relay', point: 'relay.before-publish:2', leaves: 20, tier: inLongTier },
    { role: 'relay', point: 'relay.published:2', leaves: 20, tier: inLongTier },
    { role: 'relay', point: 'relay.confirmed:2', leaves: 20, tier: {} },
    { role: 'relay', point: 'relay.marked:2', leaves: 10, tier: inLongTier },
    { role: 'consumer', point: 'consumer.before-effect:7', leaves: 0, tier: inLongTier },
    { role: 'consumer', point: 'consumer.committed:7', leaves: 0, tier: {} },
  ] as const;
  for (const { role, point, leaves, tier } of rows) {
    await t.test(`${point}, every event has one effect in order`, tier, async (t) => {
      const bed = await openTestbed(t);
      const consumer = await bed.consumer({ consumers: [recorder] });
      const producer = await bed.producer({ leaseMs: 500 });
      const child = { role, crash: point, leaseMs: 500 };
      if (role === 'relay') {
        await producer.relay.stop();
        await producer.emit('a', numbers);
        const urls = { databaseUrl: producer.databaseUrl, brokerUrl: bed.vhost.url('orders') };
        t.equal(await crash({ ...child, ...urls }), 'SIGKILL');
        t.equal(await pending(producer), leaves);
        producer.startRelay({ leaseMs: 500 });
      } else {
        await consumer.running.stop();
        await producer.emit('a', numbers);
        const urls = { databaseUrl: consumer.databaseUrl, brokerUrl: bed.vhost.url('notifications') };
        t.equal(await crash({ ...child, ...urls }), 'SIGKILL');
        await bed.consumer({ consumers: [recorder], on: consumer });
      }
      await eventually(async () => total(await effects(consumer)) >= 30, 'effects');
      t.same((await effects(consumer)).get('a'), numbers);
      t.equal(await eventually(async () => (await pending(producer)) === 0, 'marked'), true);
    });
  }
});

/** Events of each of 20 aggregates. */
const each = amount(30, 100);

t.test(`connections cut in the middle of ${20 * each} events`, async (t) => {
  const bed = await openTestbed(t);
  const [publishing, consuming] = await Promise.all([
    openTcpProxy(t, bed.vhost.url('orders')),
    openTcpProxy(t, bed.vhost.url('notifications')),
  ]);
  const consumer = await bed.consumer({ consumers: [recorder], url: consuming.url });
  const producer = await bed.producer({ url: publishing.url });
  const ids = Array.from({ length: 20 }, (_, index) => `order-${index}`);
  let cuts = 0;
  const cutting = (async () => {
    for (const share of [0.1, 0.3, 0.5, 0.7].map((part) => part * 20 * each)) {
      await eventually(async () => total(await effects(consumer)) >= share, `${share} effects`, 60_000);
      cuts += publishing.cut();
      cuts += consuming.cut();
    }
  })();
  for (let number = 1; number <= each; number += 5) {
    await Promise.all(
      ids.map((id) =>
        producer.emit(
          id,
          [0, 1, 2, 3, 4].map((more) => number + more),
        ),
      ),
    );
  }
  await cutting;
  await eventually(async () => total(await effects(consumer)) >= 20 * each, 'all effects', 60_000);
  t.ok(cuts >= 8, `${cuts} sockets were cut`);
  t.equal(await eventually(async () => (await pending(producer)) === 0, 'marked'), true);
  const found = await effects(consumer);
  const inOrder = Array.from({ length: each }, (_, index) => index + 1);
  for (const id of ids) t.same(found.get(id), inOrder, id);
});
