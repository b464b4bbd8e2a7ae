import { randomUUID } from 'node:crypto';
import { NotificationServiceContract } from '@armature/proto/notifications/v1/contract.ts';
import { Delivery } from '@armature/proto/notifications/v1/notifications.ts';
import t from 'tap';
import { createDatabase, type Teardown, type TestDatabase } from '../../../test/support/infra.ts';
import { openTcpProxy } from '../../../test/support/tcp-proxy.ts';
import { background } from '../context/background.ts';
import { type CallContext, openCall } from '../context/call-context.ts';
import { childTrace } from '../context/trace.ts';
import { idempotencyKeyOf, setIdempotencyKey, storedResponseOf } from '../idempotency/key.ts';
import { noHashKeys, requestHasher } from '../idempotency/request-hash.ts';
import { runIdempotent } from '../idempotency/run-idempotent.ts';
import { runtimeMigrations } from '../migrations/runtime-migrations.ts';
import { createLogger } from '../telemetry/log.ts';
import { createRegistry } from '../telemetry/metrics.ts';
import { type Database, openDatabase } from './database.ts';
import { migrate } from './migrate.ts';

const schema = await createDatabase(t, 'orders');
await migrate(schema.migratorUrl, runtimeMigrations);
await schema.migrated();
const log = createLogger('test', 'error');
const db = await openDatabase({
  url: schema.migratorUrl,
  log,
  registry: createRegistry('test'),
  statementTimeoutMs: 1_000,
});
t.teardown(() => db.close());
const open = background('test', log);
await db.write(null, (sql) => sql.execute('create table counter (id int primary key, n bigint not null)'));
await db.write(null, (sql) => sql.execute('insert into counter values (1, 0), (2, 0)'));
const count = async (id: number) => {
  const rows = await db.read(null, (sql) => sql.query<{ n: number }>('select n from counter where id = ?', [id]));
  return rows[0]?.n;
};

t.test('migrating again does nothing', async (t) => {
  t.strictSame(await migrate(schema.migratorUrl, runtimeMigrations), []);
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
  await db.write(null, (sql) => sql.execute('update counter set n = 0'));
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
function keyed(key: string, body: string, hash = requestHasher(noHashKeys)): CallContext {
  const call: CallContext = openCall({
    kind: 'server',
    name: method.path,
    method,
    message: {},
    deadline: Date.now() + 10_000,
    trace: childTrace(undefined),
    log,
  });
  setIdempotencyKey(call, {
    principal: 'user:ada',
    method: method.path,
    key,
    hash: hash(Buffer.from(body), Buffer.from(body)),
  });
  return call;
}
const addOne = (db: Database, call: CallContext) =>
  runIdempotent(db, call, async (tx) => {
    await tx.execute('update counter set n = n + 1 where id = 1');
    const rows = await tx.query<{ n: number }>('select n from counter where id = 1');
    return Delivery.fromPartial({ attempts: Number(rows[0]?.n) });
  });

t.test('twenty at once under one key: one effect, and the same response for all', async (t) => {
  const before = Number(await count(1));
  const key = randomUUID();
  const calls = Array.from({ length: 20 }, () => keyed(key, 'same'));
  const results = await Promise.all(calls.map((call) => addOne(db, call)));
  t.equal(await count(1), before + 1);
  for (const result of results) t.equal(result.attempts, before + 1);
  const bytes = new Set(calls.map((call) => Buffer.from(storedResponseOf(call) ?? []).toString('hex')));
  t.equal(bytes.size, 1, 'byte for byte');
});

t.test('the same key with another request is refused and has no effect', async (t) => {
  const before = await count(1);
  const key = randomUUID();
  await addOne(db, keyed(key, 'one'));
  await t.rejects(addOne(db, keyed(key, 'another')), { code: 'INVALID_ARGUMENT' });
  t.equal(await count(1), Number(before) + 1);
});

t.test('a repeat after the key of the hashes has changed gets the stored response', async (t) => {
  const before = requestHasher({ current: 'first secret', previous: [] });
  const during = requestHasher({ current: 'second secret', previous: ['first secret'] });
  const after = requestHasher({ current: 'third secret', previous: ['second secret'] });
  const key = randomUUID();
  const { attempts } = await addOne(db, keyed(key, 'same', before));
  for (const hash of [before, during]) {
    t.equal((await addOne(db, keyed(key, 'same', hash))).attempts, attempts);
    await t.rejects(addOne(db, keyed(key, 'another', hash)), { code: 'INVALID_ARGUMENT' });
  }
  t.equal((await addOne(db, keyed(key, 'same', after))).attempts, attempts, 'also when the key is forgotten');
  t.equal(await count(1), attempts, 'one effect');
});

t.test('a repeat of a request that an earlier release has stored gets the stored response', async (t) => {
  const key = randomUUID();
  const { attempts } = await addOne(db, keyed(key, 'same'));
  // As before hashes had a version: over the received bytes, under a key that is not recorded.
  await db.write(null, (sql) =>
    sql.execute(`update idempotency set hash_version = 1, hash_key = '' where request_key = ?`, [key]),
  );
  t.equal((await addOne(db, keyed(key, 'same'))).attempts, attempts);
  await t.rejects(addOne(db, keyed(key, 'another')), { code: 'INVALID_ARGUMENT' });
});

t.test(
  'a repeat of a request that an earlier release has stored under a key in upper case acts no second time',
  async (t) => {
    const receivedKey = randomUUID().toUpperCase();
    const { attempts } = await addOne(db, keyed(receivedKey, 'same'));
    const repeat = (body: string) => {
      const call = keyed(receivedKey.toLowerCase(), body);
      setIdempotencyKey(call, { ...idempotencyKeyOf(call)!, receivedKey });
      return addOne(db, call);
    };
    t.equal((await repeat('same')).attempts, attempts);
    await t.rejects(repeat('another'), { code: 'INVALID_ARGUMENT' });
    t.equal(await count(1), attempts, 'one effect');
  },
);

t.test('a database that is away is UNAVAILABLE, not an internal error', async (t) => {
  const away = await openDatabase({
    url: 'mysql://stranger:x@127.0.0.1:1/none',
    log,
    registry: createRegistry('away'),
  });
  await t.rejects(
    away.read(open('test', 5_000), (sql) => sql.query('select 1')),
    { code: 'UNAVAILABLE' },
  );
  await away.close();
});

/** A database behind a network path that can go silent, with its own pool of two connections. */
async function behindProxy(t: Teardown, { migratorUrl }: TestDatabase) {
  const proxy = await openTcpProxy(t, migratorUrl);
  const options = { url: proxy.url, log: createLogger('test', 'silent'), registry: createRegistry('proxy') };
  const far = await openDatabase({ ...options, poolMax: 2, statementTimeoutMs: 500 });
  // Closed before the path, so that its pending responses can arrive.
  t.teardown(async () => {
    proxy.open();
    await far.close();
  });
  return { proxy, far };
}

t.test('a database that hangs costs a call at most its deadline and a second, and keeps no connection', async (t) => {
  const { proxy, far } = await behindProxy(t, schema);
  const one = () => far.read(open('test', 1_000), (sql) => sql.query('select 1'));
  await Promise.all([one(), one()]);
  proxy.hold();
  const since = performance.now();
  // Two old connections, then two that do not even receive a greeting.
  for (const _ of [1, 2]) {
    const results = await Promise.allSettled([one(), one()]);
    t.match(
      results.map((result) => result.status === 'rejected' && result.reason.code),
      ['UNAVAILABLE', 'UNAVAILABLE'],
    );
  }
  // 0.5 s and the two of grace beyond the server's limit, or 1 s and its second; then 5 s for a connection.
  t.ok(performance.now() - since < 9_000, `${Math.round(performance.now() - since)} ms`);
  const asked = performance.now();
  await t.rejects(Promise.all([far.ping(), far.ping()]), /the database took longer/);
  t.ok(performance.now() - asked < 3_000, 'whether it is there is said within two seconds');
  proxy.open();
  await eventuallyReads(one);
  await Promise.all([one(), one(), one()]);
});

t.test('a transaction that cannot be reached any more keeps its locks for a while only', async (t) => {
  const { proxy, far } = await behindProxy(t, schema);
  const cutOff = far.transaction(open('test', 1_000), async (tx) => {
    await tx.execute('update counter set n = 7 where id = 2');
    proxy.hold();
    await tx.execute('update counter set n = 8 where id = 2');
  });
  await t.rejects(cutOff, { code: 'UNAVAILABLE' });
  const before = await count(2);
  const since = performance.now();
  await db.transaction(open('test', 20_000), (tx) => tx.execute('update counter set n = n + 1 where id = 2'));
  t.ok(performance.now() - since < 5_000, `the lock was free after ${Math.round(performance.now() - since)} ms`);
  t.equal(await count(2), Number(before) + 1);
});

t.test('a session that cannot be prepared costs no place in the pool', async (t) => {
  const options = { url: schema.url, log, registry: createRegistry('unprepared'), poolMax: 1 };
  const unprepared = await openDatabase({ ...options, statementTimeoutMs: Number.POSITIVE_INFINITY });
  t.teardown(() => unprepared.close());
  for (const _ of [1, 2, 3]) {
    const failing = unprepared.read(open('test', 2_000), (sql) => sql.query('select 1'));
    await t.rejects(failing, { message: /Infinity|max_statement_time/ });
  }
});

t.test('no other attempt begins after the deadline', async (t) => {
  const call = open('test', 300);
  let attempts = 0;
  const contended = db.transaction(call, async () => {
    attempts += 1;
    await new Promise((resolve) => setTimeout(resolve, 400));
    throw Object.assign(new Error('deadlock'), { errno: 1213 });
  });
  await t.rejects(contended, { code: 'DEADLINE_EXCEEDED' });
  t.equal(attempts, 1);
});

for (const [errno, what] of [
  [3, 'a temporary file that cannot be written'],
  [1021, 'a full disk'],
  [1114, 'a full table'],
  [1030, 'a full tablespace'],
  [1040, 'too many connections'],
  [1203, 'too many connections of one user'],
  [1290, 'a read-only server'],
  [1792, 'a read-only transaction'],
  [1836, 'a read-only mode'],
] as const) {
  t.test(`${what} (${errno}) is UNAVAILABLE and may be tried again`, async (t) => {
    const failing = db.transaction(open('test', 5_000), async () => {
      throw Object.assign(new Error('from the server'), { errno });
    });
    await t.rejects(failing, { code: 'UNAVAILABLE', details: { retryDelayMs: 500 } });
  });
}

/** Repeats the read until it succeeds, for twenty seconds. */
async function eventuallyReads(read: () => Promise<unknown>): Promise<void> {
  const deadline = performance.now() + 20_000;
  for (;;) {
    const result = await Promise.allSettled([read()]);
    if (result[0].status === 'fulfilled') return;
    if (performance.now() > deadline) throw result[0].reason;
  }
}

t.test('a second write outside a transaction is refused', async (t) => {
  const before = await count(1);
  const twice = db.write(null, async (sql) => {
    await sql.execute('update counter set n = n where id = 1');
    await sql.execute('update counter set n = n + 1 where id = 1');
  });
  await t.rejects(twice, { message: 'a second write outside a transaction' });
  t.equal(await count(1), before);
});

t.test('a read gives no way to write or to lock', async (t) => {
  const before = await count(1);
  const refused = [
    'update counter set n = n + 1',
    'delete from counter where id = 9',
    'insert into counter values (9, 9)',
    'truncate table counter',
    "set session time_zone = '+01:00'",
    'with one as (select 1 as id) delete from counter where id = 9',
    'explain analyze update counter set n = n + 1',
    "select n into outfile '/tmp/counter' from counter",
    'select n from counter where id = 1 for update',
    'select n from counter where id = 1\n for share',
    'select n from counter where id = 1 lock in share mode',
    'select 1; drop table counter',
  ];
  for (const statement of refused) {
    const read = db.read(open('test', 5_000), (sql) => sql.query(statement));
    await t.rejects(read, { message: /^not a read; use Database.write or a transaction: / }, statement);
  }
  const beforeWrite = db.write(null, (sql) => sql.query('update counter set n = n + 1'));
  await t.rejects(beforeWrite, { message: /^not a read/ }, 'a read before a write');
  await db.read(null, async (sql) => t.strictSame(Object.keys(sql).sort(), ['find', 'query']));
  await db.write(null, async (sql) => t.strictSame(Object.keys(sql).sort(), ['execute', 'find', 'query']));
  t.equal(await count(1), before);
});

t.test('a read may be a union in brackets, a common table expression or a plan', async (t) => {
  const accepted = [
    '(select n from counter where id = 1) union all (select n from counter where id = 2)',
    'with one as (select n from counter where id = 1) select n from one',
    'explain select n from counter',
    'show tables',
    '  select n as updated from counter',
  ];
  for (const statement of accepted) {
    const rows = await db.read(null, (sql) => sql.query(statement));
    t.ok(rows.length > 0, statement);
  }
});
