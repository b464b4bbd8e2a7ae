// Events that arrive after their aggregate's sequence has passed them: behind a baseline, or under a used sequence.
import t from 'tap';
import { v7 as uuidv7 } from 'uuid';
import { refusal } from '../../../test/support/refusal.ts';
import { background } from '../context/background.ts';
import { createLogger } from '../telemetry/log.ts';
import { event, eventually, ignored, openTestbed, type Ticked, ticked } from '../testing/messaging.ts';
import { deadLetters, effects, effectsOf, metric, publish, recordUnless } from '../testing/observe.ts';
import { onBaseline } from './baseline.ts';
import { baselinePublisher } from './baseline-publisher.ts';
import { outboxBaselines } from './baseline-source.ts';
import { consume } from './consumer.ts';

t.setTimeout(120_000);
const mailed = event('orders', 'order', 'Mailed');
const unknown = event('orders', 'order', 'Tocked');
const stateType = 'test.orders.v1.State';
const bed = await openTestbed(t);
const failing = new Set<number>();
const states: number[] = [];
const handle = recordUnless(failing);
const consumer = await bed.consumer({
  consumers: [consume(ticked, handle), consume(mailed, handle, { orderIndependent: true })],
  baselines: [
    onBaseline<Ticked>({ source: 'orders', aggregate: 'order', stateType, state: ticked.message }, async (state) => {
      states.push(state.number);
    }),
  ],
});
const producer = await bed.producer();

/** Publishes an event whose number is its sequence. */
const send = (id: string, sequence: number, type = ticked, messageId: string = uuidv7()) => {
  const headers = { aggregate: 'order', 'aggregate-id': id, sequence: String(sequence) };
  const properties = { messageId, type: type.type, headers };
  const body = Buffer.from(JSON.stringify({ id, number: sequence, atMs: 0 }));
  return publish(producer, { id, number: sequence, sequence }, { event: type, body, properties });
};

/**
 * Publishes, as orders, a baseline of an aggregate that has no events in the outbox, and waits until it was applied.
 */
async function baseline(id: string, sequence: number, more: { skipHistory?: boolean; state?: number } = {}) {
  const { skipHistory = false, state } = more;
  const before = await metric(consumer, 'armature_consumer_baselines_total');
  const call = background('orders', createLogger('test', 'silent'))('baseline', 20_000);
  const bytes = Buffer.from(JSON.stringify({ id, number: state, atMs: 0 }));
  const baselineState = { stateType, state: async () => ({ sequence: BigInt(sequence), state: bytes }) };
  await baselinePublisher({ service: 'orders', broker: producer.broker }).publish(call, {
    ...{ db: producer.db, aggregate: 'order', consumer: 'notifications', skipHistory, dryRun: false },
    ...{ source: { ...outboxBaselines('order'), ...(state ? baselineState : {}) } },
    places: [{ id, sequence: BigInt(sequence) }],
  });
  call.close();
  await eventually(async () => (await metric(consumer, 'armature_consumer_baselines_total')) > before, 'a baseline');
}

const deadLettersOf = (id: string, count: number) =>
  eventually(async () => {
    const found = (await deadLetters(consumer)).filter((deadLetter) => deadLetter.aggregate_id === id);
    return found.length >= count && found;
  }, `${count} dead letters of ${id}`);
const counted = (name: string, count: number) =>
  eventually(async () => (await metric(consumer, name)) === count, `${count} of ${name}`);

t.test('events behind a baseline without state are not lost', async (t) => {
  await send('a', 4);
  await send('a', 5);
  await eventually(async () => (await metric(consumer, 'armature_consumer_early_total')) > 0, 'kept as early');
  await baseline('a', 5);
  await send('a', 6);
  t.same(await effectsOf(consumer, 'a', 3), [4, 5, 6], 'those that the consumer holds are handled, in order');

  await send('a', 3);
  const [late] = await deadLettersOf('a', 1);
  t.match(late, { sequence: 3, reason: /^FAILED_PRECONDITION EVENT_SUPERSEDED/ }, 'one that would undo a later event');
  const mail = uuidv7();
  await send('a', 2, mailed, mail);
  t.same(await effectsOf(consumer, 'a', 4), [4, 5, 6, 2], 'one that depends on no order is handled');
  await send('a', 2, mailed, mail);
  await counted('armature_consumer_duplicates_total', 1);

  failing.add(1);
  await send('a', 1, mailed);
  t.match((await deadLettersOf('a', 2))[1], { sequence: 1, reason: /NEVER/ }, 'one that fails is a dead letter');
  failing.clear();
});

t.test('an event of an unknown type behind a baseline is kept, one without a handler needs nothing', async (t) => {
  await baseline('b', 3);
  await send('b', 1, unknown);
  await send('b', 2, ignored);
  await send('b', 4);
  t.match(await deadLettersOf('b', 1), [{ sequence: 1, unknown_type: 1 }]);
  await counted('armature_consumer_superseded_total', 1);
  t.same(await effectsOf(consumer, 'b', 1), [4]);
});

t.test('a state stands in for the events that it includes, except those that depend on no order', async (t) => {
  await send('c', 1);
  t.same(await effectsOf(consumer, 'c', 1), [1]);
  await baseline('c', 5, { state: 105 });
  await send('c', 3);
  await counted('armature_consumer_superseded_total', 2);
  await send('c', 4, mailed);
  t.same(await effectsOf(consumer, 'c', 2), [1, 4]);

  failing.add(6);
  await send('c', 6);
  const [deadLetter] = await deadLettersOf('c', 1);
  failing.clear();
  await baseline('c', 6, { state: 106 });
  t.same(states, [105, 106], 'a state at the sequence of the consumer repairs what an event failed to do');
  await t.rejects(
    consumer.running.redrive(deadLetter!.id),
    refusal({ code: 'FAILED_PRECONDITION', reason: 'EVENT_SUPERSEDED' }),
  );
  await baseline('c', 5, { state: 105 });
  t.same(states, [105, 106], 'an older one changes nothing');
});

t.test('where the past is left out, no event behind the baseline has an effect', async (t) => {
  await send('d', 3, mailed);
  await baseline('d', 3, { skipHistory: true });
  await send('d', 2, mailed);
  await counted('armature_consumer_superseded_total', 4);
  t.same(await effects(consumer, 'd'), []);
});

t.test('another event under a used sequence is a dead letter, handled here or not', async (t) => {
  const before = await metric(consumer, 'armature_consumer_dead_letters_total');
  await send('e', 1);
  await send('e', 2);
  t.same(await effectsOf(consumer, 'e', 2), [1, 2]);
  const again = uuidv7();
  await send('e', 1, ticked, again);
  await send('e', 2, ignored);
  await send('e', 1, ticked, again);
  await counted('armature_consumer_dead_letters_total', before + 3);
  const found = await deadLettersOf('e', 2);
  t.match(found, [
    { message_id: again, reason: /SEQUENCE_REUSED/ },
    { sequence: 2, reason: /SEQUENCE_REUSED/ },
  ]);
  t.equal(found.length, 2, 'a second delivery of it is the same dead letter');
  await send('e', 3);
  t.same(await effectsOf(consumer, 'e', 3), [1, 2, 3]);
});
