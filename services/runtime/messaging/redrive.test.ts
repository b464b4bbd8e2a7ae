// Dead letters that must not be handled any more.
import t from 'tap';
import { refusal } from '../../../test/support/refusal.ts';
import { background } from '../background.ts';
import type { Tx } from '../db/tx.ts';
import { rpcError } from '../rpc/errors.ts';
import { createLogger } from '../telemetry/log.ts';
import { baselinePublisher } from './baseline-publisher.ts';
import { outboxBaselines } from './baseline-source.ts';
import { consume } from './consumer.ts';
import { effects, lettersOf, record } from './observe.ts';
import { event, eventually, openTestbed, type Ticked, ticked } from './testbed.ts';

t.setTimeout(120_000);
const mailed = event('orders', 'order', 'Mailed');
const bed = await openTestbed(t);
const failing = new Set<number>();
const handle = (message: Ticked, _call: unknown, tx: Tx) =>
  failing.has(message.number)
    ? Promise.reject(rpcError('FAILED_PRECONDITION', 'NEVER', 'this cannot be'))
    : record(message, tx);
const consumer = await bed.consumer({
  consumers: [consume(ticked, handle), consume(mailed, handle, { orderIndependent: true })],
});
const producer = await bed.producer();
const { redrive, checkRedrive } = consumer.running;

t.test('an event that a baseline without state stood in for is refused, unless it depends on no order', async (t) => {
  failing.add(1).add(2);
  await producer.emit('a', [1]);
  await producer.emit('a', [2], mailed);
  const [first, second] = await lettersOf(consumer, 2);
  failing.clear();
  await producer.db.read(null, (sql) => sql.execute(`delete from outbox where aggregate_id = 'a'`));
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
