// Events that a service skips in a batch: one that cannot be written must not block the others.
import { randomUUID } from 'node:crypto';
import t from 'tap';
import { refusal } from '../../../test/support/refusal.ts';
import type { Database } from '../db/database.ts';
import type { Tx } from '../db/tx.ts';
import { event, openTestbed, type Ticked } from '../testing/messaging.ts';
import { deadLetters, deadLettersOf, effectsOf, publish, record, recorder } from '../testing/observe.ts';
import { consume } from './consumer.ts';
import { keepUnknown, keptBodyMax } from './dead-letter.ts';
import type { Delivery } from './delivery.ts';

t.setTimeout(120_000);
const tocked = event('orders', 'order', 'Tocked');

/** The database, which fails to store messages of this id as events of an unknown type. */
const failingFor = (db: Database, messageId: string): Database => ({
  ...db,
  transaction: (call, work) =>
    db.transaction(call, (tx) =>
      work({
        ...tx,
        execute: (sql, params) =>
          sql.includes('into dead_letter') && params?.includes(messageId) && params.some(isUnknownReason)
            ? Promise.reject(new Error('this row cannot be written'))
            : tx.execute(sql, params),
      } as Tx),
    ),
});
const isUnknownReason = (param: unknown) => String(param).includes('EVENT_TYPE_UNKNOWN');

t.test(
  'an event that cannot be stepped over becomes a dead letter, and the others of its batch are kept',
  async (t) => {
    const bed = await openTestbed(t);
    const first = await bed.consumer({ consumers: [recorder] });
    await first.running.stop();
    const producer = await bed.producer();
    const poison = randomUUID();
    // They wait in the queue, so that the consumer reads them in few batches.
    const send = (id: string, sequence: number, messageId: string = randomUUID()) => {
      const headers = { aggregate: 'order', 'aggregate-id': id, sequence: String(sequence) };
      return publish(
        producer,
        { id, number: sequence, sequence },
        { event: tocked, properties: { messageId, type: tocked.type, headers } },
      );
    };
    for (let index = 0; index < 10; index += 1) await send(`before-${index}`, 1);
    await send('poison', 1, poison);
    await send('poison', 2);
    for (let index = 0; index < 10; index += 1) await send(`after-${index}`, 1);
    const consumer = await bed.consumer({
      consumers: [recorder],
      on: { db: failingFor(first.db, poison), databaseUrl: first.databaseUrl },
    });
    const found = await deadLettersOf(consumer, 22);
    const dead = found.filter(({ unknown_type }) => unknown_type === 0);
    t.match(dead, [{ message_id: poison, attempts: 4, reason: /cannot be written/ }]);
    t.equal(found.length, 22);
  },
);

t.test('a body above the limit is not kept, and its dead letter tells size and digest', async (t) => {
  const bed = await openTestbed(t);
  const consumer = await bed.consumer({ consumers: [recorder] });
  const producer = await bed.producer();
  const headers = { aggregate: 'order', 'aggregate-id': 'large', sequence: '1', note: 'n'.repeat(20_000) };
  await publish(
    producer,
    { id: 'large', number: 1, sequence: 1 },
    {
      event: tocked,
      body: Buffer.alloc(keptBodyMax + 1, '{'),
      properties: { messageId: randomUUID(), type: tocked.type, headers },
    },
  );
  await publish(producer, { id: 'large', number: 2, sequence: 2 });
  t.same(await effectsOf(consumer, 'large', 1), [2], 'the next event is handled');
  const [deadLetter] = await deadLetters(consumer);
  t.equal(deadLetter?.body.length, 0);
  t.match(deadLetter?.reason, new RegExp(`body not kept: ${keptBodyMax + 1} bytes, SHA-256 [0-9a-f]{64}`));
  await consumer.running.stop();
  const newer = await bed.consumer({
    consumers: [recorder, consume(tocked, (message: Ticked, _call, tx) => record(message, tx))],
    on: consumer,
  });
  await t.rejects(
    newer.running.redrive(deadLetter!.id),
    refusal({ code: 'FAILED_PRECONDITION', reason: 'DEAD_LETTER_BODY_LOST' }),
  );
});

t.test('bodies that are large together go in several statements', async (t) => {
  const sizes: number[] = [];
  const sql = {
    execute: async (_text: string, params: readonly unknown[] = []) => {
      sizes.push(params.reduce((sum: number, one) => sum + (Buffer.isBuffer(one) ? one.length : 0), 0));
      return { affectedRows: 1 };
    },
  } as unknown as Tx;
  const delivery = {
    ...{ messageId: 'm', publisher: 'orders', type: tocked.type, routingKey: '', aggregateId: 'a', sequence: 1n },
    ...{ attempt: 1, fault: null, message: { content: Buffer.alloc(3 * 1024 * 1024), properties: {} } },
  } as unknown as Delivery;
  await keepUnknown(sql, 'notifications.orders.order', Array<Delivery>(30).fill(delivery));
  t.equal(sizes.length, 15);
  t.ok(Math.max(...sizes) <= 8 * 1024 * 1024);
});
