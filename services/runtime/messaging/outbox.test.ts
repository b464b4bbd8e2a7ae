import t from 'tap';
import { background } from '../context/background.ts';
import { createLogger, type Logger } from '../telemetry/log.ts';
import { createRegistry, exposition } from '../telemetry/metrics.ts';
import { eventually, openTestbed, ticked } from '../testing/messaging.ts';
import { deadLetterGauges, gaugeStatements } from './dead-letter-gauges.ts';
import { purgeInbox } from './inbox.ts';
import { eventBytesMax, purgeOutbox, writeOutbox } from './outbox.ts';
import { unknownRetention } from './unknown-retention.ts';

t.setTimeout(60_000);
const open = background('orders', createLogger('test', 'silent'));

t.test('an outbox', async (t) => {
  const bed = await openTestbed(t);
  const producer = await bed.producer();
  await producer.relay.stop();
  const write = async (id: string, sequences: readonly bigint[], pad = '') => {
    const call = open('test', 5_000);
    const events = sequences.map((sequence) => ({ event: ticked, message: { id, number: 1, atMs: 0, pad }, sequence }));
    await producer.db.transaction(call, (tx) => writeOutbox(tx, call, events)).finally(() => call.close());
  };
  const count = async (where: string) => {
    const rows = await producer.db.read(null, (sql) =>
      sql.query<{ many: number }>(`select count(*) as many from outbox where ${where}`),
    );
    return Number(rows[0]?.many);
  };

  const rows = [
    { name: 'a sequence below 1', id: 'a', sequences: [0n], says: /sequence 0 must be 1 or more/ },
    { name: 'a sequence that was used', id: 'a', sequences: [1n, 1n], says: /Duplicate entry/ },
    { name: 'an empty id', id: '', sequences: [1n], says: /id of its order must be 1 to 64/ },
    { name: 'an id with a space', id: 'a b', sequences: [1n], says: /id of its order must be 1 to 64/ },
    {
      name: 'a body over the limit',
      id: 'a',
      sequences: [1n],
      pad: 'x'.repeat(eventBytesMax),
      says: /exceeds 1048576/,
    },
  ];
  for (const { name, id, sequences, pad, says } of rows) {
    await t.test(`refuses ${name}`, async (t) => {
      await t.rejects(write(id, sequences, pad), { message: says });
      t.equal(await count('true'), 0);
    });
  }

  await t.test('keeps who wrote an event, and in which trace', async (t) => {
    await write('a', [1n, 2n]);
    t.equal(await count(`created_by = 'service:orders' and traceparent like '00-%-01' and pending = 1`), 2);
  });

  await t.test('forgets what was published long ago, a bounded number at a time', async (t) => {
    producer.startRelay();
    await eventually(async () => (await count('pending is null')) === 2, 'published');
    const purge = (hours: number, most: number) => producer.db.write(null, (sql) => purgeOutbox(sql, hours, most));
    t.equal(await purge(1, 10), 0);
    await producer.db.write(null, (sql) =>
      sql.execute('update outbox set published_at = published_at - interval 2 hour'),
    );
    await write('a', [3n]);
    t.same([await purge(1, 1), await purge(1, 10), await purge(1, 10)], [1, 1, 0]);
    t.equal(await count('true'), 1);
  });
});

t.test('an inbox forgets messages by the time in their ids', async (t) => {
  const bed = await openTestbed(t);
  const { db } = await bed.producer();
  const now = new Date('2026-11-24T12:00:00Z');
  const idAt = (ms: number) => {
    const hex = ms.toString(16).padStart(12, '0');
    return `${hex.slice(0, 8)}-${hex.slice(8)}-7000-8000-000000000000`;
  };
  for (const [index, hours] of [30, 25, 23, 1].entries()) {
    await db.write(null, (sql) =>
      sql.execute(
        `insert into inbox (consumer, message_id, type, aggregate_id, sequence, outcome, created_at) values ('c', ?, 'T', 'a', ?, 'applied', utc_timestamp(6))`,
        [idAt(now.getTime() - hours * 3_600_000), index + 1],
      ),
    );
  }
  const purge = (most: number) => db.write(null, (sql) => purgeInbox(sql, 24, now, most));
  t.same([await purge(1), await purge(10), await purge(10)], [1, 1, 0]);
});

t.test('events of unknown types are forgotten by age and by number, counted and logged', async (t) => {
  const bed = await openTestbed(t);
  const { db } = await bed.producer();
  const lines: object[] = [];
  const log: Logger = Object.assign(Object.create(createLogger('test', 'silent')), {
    error: (about: object) => void lines.push(about),
  });
  const registry = createRegistry('test');
  const forget = unknownRetention({ log, registry }, { days: 30, rows: 3, rowsAtOnce: 2 });
  const metric = async (name: string) =>
    Number((await exposition(registry)).match(new RegExp(`^${name}\\S* (\\d+)`, 'm'))?.[1]);
  deadLetterGauges(db, registry);
  const days = { unknown: [40, 5, 4, 3, 2, 1], failed: [50, 1] };
  for (const [type, ages] of Object.entries(days))
    for (const age of ages)
      await db.write(null, (sql) =>
        sql.execute(
          `insert into dead_letter (id, consumer, message_id, publisher, type, routing_key, body, headers, reason, attempts,
             unknown_type, dead_at)
           values (uuid(), 'c', uuid(), 'orders', 'T', '', 'b', '{}', 'r', 1, ?, utc_timestamp(6) - interval ? day)`,
          [type === 'unknown' ? 1 : 0, age],
        ),
      );
  const round = () => forget(db);
  t.same([await round(), await round()], [3, 0], 'one is too old, two are too many');
  t.same(lines, [{ dropped: 3, days: 30, rows: 3 }]);
  t.equal(await metric('armature_unknown_events_dropped_total'), 3);
  t.equal(await metric('armature_unknown_events_kept'), 3);
  t.equal(await metric('armature_dead_letters'), 2, 'failures are kept, whatever their age');
  t.ok((await metric('armature_dead_letters_oldest_age_seconds')) > 49 * 86_400);

  await t.test('gauges find them by an index', async (t) => {
    for (const statement of gaugeStatements) {
      const plan = await db.read(null, (sql) => sql.query<Record<string, unknown>>(`explain ${statement}`));
      const read = plan.filter((row) => row.table === 'dead_letter');
      t.ok(read.length > 0 && read.every((row) => row.key === 'dead_letter_waiting'), JSON.stringify(plan));
    }
  });
});
