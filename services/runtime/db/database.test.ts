import { createHash, randomUUID } from 'node:crypto';
import { NotificationServiceContract } from '@armature/proto/notifications/v1/contract.ts';
import { Delivery } from '@armature/proto/notifications/v1/notifications.ts';
import t from 'tap';
import { createDatabase } from '../../../test/support/infra.ts';
import { background } from '../background.ts';
import { type Call, openCall } from '../rpc/call.ts';
import { createLogger } from '../telemetry/log.ts';
import { createRegistry } from '../telemetry/metrics.ts';
import { childTrace } from '../telemetry/trace.ts';
import { type Database, openDatabase } from './database.ts';
import { migrate } from './migrate.ts';
import { Migration20261101000000_answers } from './migration.ts';

const schema = await createDatabase(t, 'orders');
await migrate(schema.migratorUrl, [Migration20261101000000_answers]);
await schema.migrated();
const log = createLogger('test', 'error');
const db = await openDatabase({
  url: schema.migratorUrl,
  log,
  registry: createRegistry('test'),
  statementTimeoutMs: 500,
});
t.teardown(() => db.close());
const open = background('test', log);
await db.read(null, (sql) => sql.execute('create table counter (id int primary key, n bigint not null)'));
await db.read(null, (sql) => sql.execute('insert into counter values (1, 0), (2, 0)'));
const count = async (id: number) => {
  const rows = await db.read(null, (sql) => sql.query<{ n: number }>('select n from counter where id = ?', [id]));
  return rows[0]?.n;
};

t.test('migrating again does nothing', async (t) => {
  t.strictSame(await migrate(schema.migratorUrl, [Migration20261101000000_answers]), []);
});

t.test('a transaction commits, or nothing of it remains', async (t) => {
  await db.transaction(open('test', 5_000), (tx) => tx.execute('update counter set n = 1 where id = 1'));
  t.equal(await count(1), 1);
  const failing = db.transaction(open('test', 5_000), async (tx) => {
    await tx.execute('update counter set n = 2 where id = 1');
    throw new Error('no');
  });
  await t.rejects(failing, { message: 'no' });
  t.equal(await count(1), 1);
});

t.test('transactions that deadlock each other both succeed', async (t) => {
  await db.read(null, (sql) => sql.execute('update counter set n = 0'));
  let runs = 0;
  let bothHoldOne: () => void = () => {};
  const barrier = new Promise<void>((resolve) => {
    bothHoldOne = resolve;
  });
  const cross = (first: number, second: number) =>
    db.transaction(open('test', 10_000), async (tx) => {
      runs += 1;
      await tx.execute('update counter set n = n + 1 where id = ?', [first]);
      if (runs === 2) bothHoldOne();
      await barrier;
      await tx.execute('update counter set n = n + 1 where id = ?', [second]);
    });
  await Promise.all([cross(1, 2), cross(2, 1)]);
  t.equal(runs, 3, 'one of them ran twice');
  t.strictSame([await count(1), await count(2)], [2, 2]);
});

t.test('afterCommit runs after the commit, and not after a rollback', async (t) => {
  const ran: string[] = [];
  await db.transaction(open('test', 5_000), async (tx) => tx.afterCommit(() => ran.push('committed')));
  const failing = db.transaction(open('test', 5_000), async (tx) => {
    tx.afterCommit(() => ran.push('rolled back'));
    throw new Error('no');
  });
  await t.rejects(failing);
  t.strictSame(ran, ['committed']);
});

t.test('a transaction inside a transaction is refused', async (t) => {
  const call = open('test', 5_000);
  await t.rejects(
    db.transaction(call, () => db.transaction(call, async () => {})),
    { message: /a transaction inside a transaction/ },
  );
});

t.test('a statement that takes too long is given up by the server', async (t) => {
  await t.rejects(
    db.read(open('test', 5_000), (sql) => sql.query('select count(*) from counter a where sleep(3) = 0')),
    { code: 'UNAVAILABLE' },
  );
});

const method = NotificationServiceContract.methods.resendDelivery;
function keyed(key: string, body: string): Call {
  const call = openCall<any>({
    kind: 'server',
    name: method.path,
    method,
    message: {},
    deadline: Date.now() + 10_000,
    trace: childTrace(undefined),
    log,
  });
  call.idempotency = {
    principal: 'user:ada',
    method: method.path,
    key,
    hash: createHash('sha256').update(body).digest(),
  };
  return call;
}
const addOne = (db: Database, call: Call) =>
  db.answer(call, async (tx) => {
    await tx.execute('update counter set n = n + 1 where id = 1');
    const rows = await tx.query<{ n: number }>('select n from counter where id = 1');
    return Delivery.fromPartial({ attempts: Number(rows[0]?.n) });
  });

t.test('twenty at once under one key: one effect, and the same answer for all', async (t) => {
  const before = Number(await count(1));
  const key = randomUUID();
  const calls = Array.from({ length: 20 }, () => keyed(key, 'same'));
  const answers = await Promise.all(calls.map((call) => addOne(db, call)));
  t.equal(await count(1), before + 1);
  for (const answer of answers) t.equal(answer.attempts, before + 1);
  const bytes = new Set(calls.map((call) => Buffer.from(call.answer ?? []).toString('hex')));
  t.equal(bytes.size, 1, 'byte for byte');
});

t.test('the same key with another request is refused and has no effect', async (t) => {
  const before = await count(1);
  const key = randomUUID();
  await addOne(db, keyed(key, 'one'));
  await t.rejects(addOne(db, keyed(key, 'another')), { code: 'INVALID_ARGUMENT' });
  t.equal(await count(1), Number(before) + 1);
});

t.test('a database that is away is UNAVAILABLE, not an internal error', async (t) => {
  const away = await openDatabase({ url: 'mysql://nobody:x@127.0.0.1:1/none', log, registry: createRegistry('away') });
  await t.rejects(
    away.read(open('test', 5_000), (sql) => sql.query('select 1')),
    { code: 'UNAVAILABLE' },
  );
  await away.close();
});
