// Faulty consumers and messages: a handler that never returns, messages that can never be handled, and every message
// delivered three times out of order.
import { randomUUID } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { rpcError } from '@armature/runtime/errors';
import { consume } from '@armature/runtime/messaging';
import { event, eventually, openTestbed, quick, type RunningConsumer } from '@armature/runtime/testing';
import t from 'tap';
import { openInvariantCheck } from '../../e2e/invariant-check.ts';
import { follow, openShop, type Shop, stateName, wish } from '../../e2e/shop.ts';
import { disorder } from './disorder.ts';

t.setTimeout(240_000);

const ticked = event('orders', 'order', 'Ticked');
const rang = event('inventory', 'bell', 'Rang');

interface DeadLetter {
  message_id: string;
  aggregate_id: string;
  body: Buffer;
  reason: string;
  attempts: number;
}
const deadLetters = (consumer: RunningConsumer): Promise<DeadLetter[]> =>
  consumer.db.read(null, (sql) => sql.query<DeadLetter>('select * from dead_letter order by aggregate_id'));

/** The numbers whose events had an effect, by aggregate, in commit order. */
async function effects(consumer: RunningConsumer): Promise<Map<string, number[]>> {
  const rows = await consumer.db.read(null, (sql) =>
    sql.query<{ id: string; number: number }>('select id, number from effect order by position'),
  );
  return new Map([...Map.groupBy(rows, ({ id }) => id)].map(([id, of]) => [id, of.map(({ number }) => number)]));
}
const total = async (consumer: RunningConsumer) => [...(await effects(consumer)).values()].flat().length;
const insert = 'insert into effect (id, number, written_us) values (?, ?, 0)';

t.test('a handler that never returns', async (t) => {
  const bed = await openTestbed(t);
  const limits = { ...quick, handleTimeoutMs: 400, prefetch: 20, width: 4 };
  const hung: (() => void)[] = [];
  const woken: unknown[] = [];
  const consumer = await bed.consumer({
    limits,
    consumers: [
      consume(ticked, async ({ id, number }, _call, tx) => {
        await tx.execute(insert, [id, number]);
        if (!id.startsWith('hangs') || number > 1) return;
        await new Promise<void>((resolve) => hung.push(resolve));
        await tx.execute(insert, [id, 99]).catch((error: unknown) => woken.push(error));
      }),
      consume(rang, async ({ id, number }, _call, tx) => void (await tx.execute(insert, [id, number]))),
    ],
  });
  const producer = await bed.producer();
  // More than are handled concurrently, and each has a successor that must wait for it.
  const hanging = Array.from({ length: 6 }, (_, index) => `hangs-${index}`);
  for (const id of hanging) await producer.emit(id, [1, 2]);
  const healthy = Array.from({ length: 60 }, (_, index) => `healthy-${index}`);
  for (const id of healthy) await producer.emit(id, [1, 2, 3]);
  const started = Date.now();

  await t.test('blocks no other aggregate, although there are fewer slots and a smaller window', async (t) => {
    await eventually(async () => {
      const found = await effects(consumer);
      return healthy.every((id) => found.get(id)?.length === 3);
    }, 'the healthy ones are handled');
    t.ok((await deadLetters(consumer)).length < hanging.length, 'while the hanging ones are still retried');
    const found = await effects(consumer);
    for (const id of healthy) t.strictSame(found.get(id), [1, 2, 3]);
  });

  await t.test('blocks no other queue', async (t) => {
    const bell = await bed.producer({ service: 'inventory' });
    await bell.emit('bell', [1], rang);
    await eventually(async () => (await effects(consumer)).has('bell'), 'the other queue is handled');
    t.ok((await deadLetters(consumer)).length < hanging.length, 'while the hanging ones are still retried');
  });

  await t.test('is retried and then dead-lettered, within its time limit', async (t) => {
    const dead = await eventually(
      async () => ((await deadLetters(consumer)).length === hanging.length ? deadLetters(consumer) : null),
      'every hanging event is a dead letter',
      60_000,
    );
    const attempts = quick.retryDelaysMs!.length + 1;
    t.comment(`${hanging.length} dead-lettered after ${Date.now() - started} ms`);
    t.strictSame(
      dead.map((one) => [one.aggregate_id, one.attempts]),
      hanging.map((id) => [id, attempts]),
    );
    for (const { reason } of dead) t.match(reason, /^DEADLINE_EXCEEDED/);
    t.equal(hung.length, hanging.length * attempts, 'each was tried exactly that often');
    await eventually(async () => (await total(consumer)) === 60 * 3 + 1 + 6, 'their successors are handled');
    for (const id of hanging) t.strictSame((await effects(consumer)).get(id), [2], 'the hanging event had no effect');
  });

  await t.test('keeps no connection, and has no effect when it returns late', async (t) => {
    const gauge = consumer.registry.getSingleMetric('armature_db_connections_in_use');
    await eventually(async () => (await gauge?.get())?.values[0]?.value === 0, 'no connection is in use');
    const before = await total(consumer);
    for (const wake of hung) wake();
    await eventually(async () => woken.length === hung.length, 'all handlers have returned');
    for (const error of woken) t.match(error, { message: /its transaction has ended/ });
    t.equal(await total(consumer), before);
  });
});

t.test('one poison message in a hundred', async (t) => {
  const bed = await openTestbed(t);
  const isPoison = (index: number) => index % 100 === 7;
  const consumer = await bed.consumer({
    consumers: [
      consume(ticked, async ({ id, number }, _call, tx) => {
        await tx.execute(insert, [id, number]);
        if (number === 666) throw rpcError('INVALID_ARGUMENT', 'POISON', 'cannot be handled, ever');
        if (number === 667) throw new Error('fails every time');
      }),
    ],
  });
  const producer = await bed.producer();
  const count = 1_000;
  const ids = Array.from({ length: count }, (_, index) => `p-${String(index).padStart(4, '0')}`);
  // Every second poison message fails permanently, every other is retried first.
  const numberOf = (index: number) => (isPoison(index) ? (index % 200 === 7 ? 666 : 667) : 1);
  for (let from = 0; from < count; from += 100) {
    await Promise.all(ids.slice(from, from + 100).map((id, at) => producer.emit(id, [numberOf(from + at), 2])));
  }
  producer.relay.wake();
  const poison = ids.filter((_, index) => isPoison(index));
  await eventually(
    async () => (await total(consumer)) === 2 * count - poison.length,
    'every valid event is handled',
    60_000,
  );
  const dead = await deadLetters(consumer);
  t.strictSame(
    dead.map((deadLetter) => deadLetter.aggregate_id),
    poison,
    'each poison message is a dead letter, and no other',
  );
  const sent = await producer.db.read(null, (sql) =>
    sql.query<{ messageId: string; aggregateId: string; payload: Buffer }>(
      'select message_id as messageId, aggregate_id as aggregateId, payload from outbox where sequence = 1',
    ),
  );
  const published = new Map(sent.map((row) => [row.aggregateId, row]));
  for (const deadLetter of dead) {
    const { messageId, payload } = published.get(deadLetter.aggregate_id)!;
    const permanent = numberOf(ids.indexOf(deadLetter.aggregate_id)) === 666;
    t.equal(deadLetter.message_id, messageId);
    t.strictSame(deadLetter.body, payload);
    t.match(deadLetter.reason, permanent ? /^INVALID_ARGUMENT POISON/ : /^INTERNAL: Error: fails every time/);
    t.equal(deadLetter.attempts, permanent ? 1 : quick.retryDelaysMs!.length + 1);
  }
  const found = await effects(consumer);
  for (const [index, id] of ids.entries()) {
    const numbers = found.get(id)?.join();
    if (numbers !== (isPoison(index) ? '2' : '1,2')) t.fail(`${id}: ${numbers}`);
  }
});

t.test('every message three times, out of order, and some late', async (t) => {
  const limitMs = 4_000;
  const shop = await openShop(t, { orders: { ARMATURE_CHECKOUT_LIMIT_MS: String(limitMs) } });
  const assertInvariants = await openInvariantCheck(t, shop);
  const { vhost } = shop.service('orders');
  const mixed = await disorder(t, vhost!, { copies: 3, within: 100, seed: Math.floor(Math.random() * 2 ** 31) });
  t.comment(`seed ${mixed.seed}`);
  const sku = await shop.stock(40n);
  const longTimeout = { timeoutMs: 10_000 };
  const cards = ['card_ok', 'card_declined', 'card_webhook', 'card_ok', 'card_error_once'];
  const orders = await Promise.all(
    Array.from({ length: 40 }, async (_, index) => {
      const paymentMethod = cards[index % cards.length]!;
      const contactEmail = `${index}-${randomUUID()}@example.com`;
      const { orderId } = await shop.customer.orders.placeOrder(
        wish(sku, { paymentMethod, contactEmail }),
        longTimeout,
      );
      // The first event of every fifth order arrives after the time limit of its saga.
      if (index % 5 === 0) mixed.delay(orderId, limitMs + 2_000);
      await follow(shop.customer, orderId);
      return shop.customer.orders.getOrder({ orderId });
    }),
  );
  await mixed.idle();
  await assertInvariants();
  t.equal(mixed.published(), 3 * mixed.taken(), 'each was published three times');
  t.ok(mixed.taken() > 40 * 4 && mixed.displaced() > mixed.taken() / 2, 'and most not in their place');
  t.ok(mixed.delayed() > 0, 'some late');
  t.ok(orders.some((order) => stateName(order) === 'COMPLETED'));
  t.ok(orders.some((order) => stateName(order) === 'CANCELLED'));
  const ended = orders.map(({ orderId }) => orderId);
  t.strictSame((await mailed(shop)).sort(), ended.sort(), 'one e-mail for each order: completed or ended otherwise');
});

/** The order id of each e-mail. */
async function mailed(shop: Shop): Promise<string[]> {
  const folder = join(shop.service('notifications').dir, 'mail', 'new');
  const { deliveries } = await shop.staff.notifications.listDeliveries({ pageSize: 100 });
  return readdirSync(folder).length === deliveries.length ? deliveries.map(({ orderId }) => orderId) : [];
}
