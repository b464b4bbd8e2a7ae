// Dead letters that must no longer be handled, because of a later event or because another event has their message id.
import { randomUUID } from 'node:crypto';
import t from 'tap';
import { refusal } from '../../../test/support/refusal.ts';
import { background } from '../context/background.ts';
import { createLogger } from '../telemetry/log.ts';
import { event, eventually, openTestbed, ticked } from '../testing/messaging.ts';
import { deadLetters, deadLettersOf, effects, effectsOf, publish, recordUnless } from '../testing/observe.ts';
import { baselinePublisher } from './baseline-publisher.ts';
import { outboxBaselines } from './baseline-source.ts';
import { consume } from './consumer.ts';

t.setTimeout(120_000);
const mailed = event('orders', 'order', 'Mailed');
const bed = await openTestbed(t);
const failing = new Set<number>();
const handle = recordUnless(failing);
const consumer = await bed.consumer({
  consumers: [consume(ticked, handle), consume(mailed, handle, { orderIndependent: true })],
});
const producer = await bed.producer();
const { redrive, checkRedrive } = consumer.running;

t.test('an event that a baseline without state stood in for is refused, unless it depends on no order', async (t) => {
  failing.add(1).add(2);
  await producer.emit('a', [1]);
  await producer.emit('a', [2], mailed);
  const [first, second] = await deadLettersOf(consumer, 2);
  failing.clear();
  await producer.db.write(null, (sql) => sql.execute(`delete from outbox where aggregate_id = 'a'`));
  const call = background('orders', createLogger('test', 'silent'))('baseline', 20_000);
  await baselinePublisher({ service: 'orders', broker: producer.broker }).publish(call, {
    ...{ db: producer.db, aggregate: 'order', consumer: 'notifications', skipHistory: false, dryRun: false },
    ...{ source: outboxBaselines('order'), places: [{ id: 'a', sequence: 5n }] },
  });
  call.close();
  await eventually(async () => {
    const [place] = await consumer.db.read(null, (sql) =>
      sql.query<{ applied: string }>(`select applied from inbox_sequence where aggregate_id = 'a'`),
    );
    return Number(place?.applied) === 5;
  }, 'the baseline moved the sequence');
  const superseded = refusal({ code: 'FAILED_PRECONDITION', reason: 'EVENT_SUPERSEDED' });
  await t.rejects(checkRedrive(first!.id), superseded);
  await t.rejects(redrive(first!.id), superseded);
  t.equal(await redrive(second!.id), 'redriven');
  t.same(await effects(consumer, 'a'), [2]);
});

t.test('another event under a used message id is refused and stays open', async (t) => {
  const reused = refusal({ code: 'FAILED_PRECONDITION', reason: 'MESSAGE_ID_REUSED' });
  const send = (id: string, number: number, messageId: string) => {
    const headers = { aggregate: 'order', 'aggregate-id': id, sequence: '1' };
    return publish(
      producer,
      { id, number, sequence: 1 },
      { event: mailed, properties: { messageId, type: mailed.type, headers } },
    );
  };
  const deadLettersFor = async (id: string, count: number) =>
    (await deadLettersOf(consumer, count)).filter((deadLetter) => deadLetter.aggregate_id === id);

  await t.test('when the first one was handled', async (t) => {
    const messageId = randomUUID();
    await send('b', 31, messageId);
    t.same(await effectsOf(consumer, 'b', 1), [31]);
    await send('b', 32, messageId);
    const [deadLetter] = await deadLettersFor('b', 3);
    await t.rejects(checkRedrive(deadLetter!.id), reused);
    await t.rejects(redrive(deadLetter!.id), reused);
    t.same(await effects(consumer, 'b'), [31]);
    t.equal((await deadLetters(consumer)).find(({ id }) => id === deadLetter!.id)?.redriven_at, null, 'it stays');
  });

  await t.test('when the first one is a dead letter, which is handled after all', async (t) => {
    const messageId = randomUUID();
    failing.add(41);
    await send('c', 41, messageId);
    await deadLettersFor('c', 4);
    await send('c', 42, messageId);
    const [first, second] = await deadLettersFor('c', 5);
    failing.clear();
    await t.rejects(redrive(second!.id), reused);
    t.equal(await redrive(first!.id), 'redriven');
    t.same(await effects(consumer, 'c'), [41]);
  });
});
