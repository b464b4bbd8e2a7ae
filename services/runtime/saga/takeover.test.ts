import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { RowDataPacket } from 'mysql2/promise';
import t from 'tap';
import { withConnection } from '../../../scripts/devmesh/provision.ts';
import { createDatabase } from '../../../test/support/infra.ts';
import { amount, long } from '../../../test/support/tier.ts';
import { newId } from '../id/id.ts';
import { type Behaviour, checkout, openSchema, type Script } from '../testing/saga.ts';

const database = await createDatabase(t, 'orders');
const schema = await openSchema(t, database);
const { db } = schema;
t.setTimeout(240_000);
const all = ['run reserve', 'run authorize', 'run capture'];
const completed = ['reserve done', 'authorize done', 'confirmed', 'capture done', 'complete', 'end'];

/** Runs a worker in its own process, which a crash point kills; resolves with the signal that ended it. */
async function crash(name: string, points: string): Promise<NodeJS.Signals | null> {
  const child = spawn(
    process.execPath,
    [fileURLToPath(import.meta.resolve('./crash-child.ts')), schema.url, name, points],
    { stdio: ['ignore', 'inherit', 'inherit'] },
  );
  const tooLong = setTimeout(() => child.kill('SIGTERM'), 60_000);
  const [, signal] = (await once(child, 'exit')) as [number | null, NodeJS.Signals | null];
  clearTimeout(tooLong);
  return signal;
}

t.test('a worker is killed anywhere and another takes over', async (t) => {
  const points = ['saga.before-call', 'saga.sent', 'saga.responded', 'saga.recorded'];
  const rows = points.flatMap((point) => (long ? [1, 2, 3] : [2]).map((pass) => ({ point, pass })));
  const started = await Promise.all(
    rows.map(async ({ point, pass }) => {
      // Its time limit must not pass while other processes are killed before it.
      const definition = checkout(db, { name: `${point.replace('.', '-')}-${pass}`, timeLimitMs: 600_000 });
      return { point: `${point}:${pass}`, definition, id: await schema.start(definition) };
    }),
  );
  // Three processes at a time: they share the machine with the servers.
  for (let at = 0; at < started.length; at += 3) {
    const signals = started.slice(at, at + 3).map(({ definition, point }) => crash(definition.name, point));
    for (const signal of await Promise.all(signals)) t.equal(signal, 'SIGKILL');
  }
  const worker = schema.worker(started.map(({ definition }) => definition));
  for (const { point, definition, id } of started) {
    t.strictSame(await schema.rest([id]), ['COMPLETED'], point);
    t.strictSame(await schema.effects(id), all, `${point}: each step acted once`);
    t.strictSame(await schema.facts(id), completed, `${point}: and was recorded once`);
    t.strictSame(await schema.misplayed(definition), [], `${point}: and its history gives its state`);
  }
  await worker.stop();
});

t.test('killed on the way back', async (t) => {
  const name = 'back';
  const definition = checkout(db, { name });
  const subject = newId();
  const id = await schema.start(definition, subject);
  // The time limit has passed before a worker takes the saga, so the first call is a status query and the second a
  // compensation.
  await schema.db.write(null, (sql) =>
    sql.execute('update saga set deadline_at = utc_timestamp(6) where saga_id = ?', [id]),
  );
  t.equal(await crash(name, 'saga.responded:2'), 'SIGKILL');
  const worker = schema.worker([definition]);
  t.strictSame(await schema.rest([id]), ['FAILED']);
  t.strictSame(await schema.effects(id), ['compensate reserve']);
  t.strictSame(await schema.facts(id), ['reserve compensated absent', 'end expired']);
  await worker.stop();
});

const crowd = amount(150, 500);

t.test(`two workers compete over ${crowd} sagas`, async (t) => {
  const count = crowd;
  const definition = checkout(db, { name: 'race' });
  const ids: string[] = [];
  // A few more at a time than there are connections: a start that waits too long for one is refused, and that is not
  // tested.
  while (ids.length < count)
    ids.push(...(await Promise.all(Array.from({ length: 50 }, () => schema.start(definition)))));
  const since = Date.now();
  const workers = [1, 2].map(() => schema.worker([definition]));
  const statuses = await schema.rest(ids, 60_000);
  t.comment(`${count} sagas in ${Date.now() - since} ms`);
  t.ok(statuses.every((status) => status === 'COMPLETED'));
  const [effects] = await schema.sql<{ effects: string; calls: string }>(
    `select count(*) as effects, sum(calls) as calls from effect join saga using (saga_id) where name = 'race'`,
  );
  t.strictSame([Number(effects?.effects), Number(effects?.calls)], [3 * count, 3 * count], 'each step was called once');
  const [facts] = await schema.sql<{ facts: string }>(
    `select count(*) as facts from fact join saga using (saga_id) where name = 'race'`,
  );
  t.equal(Number(facts?.facts), completed.length * count);
  const shares = await Promise.all(
    workers.map(async ({ registry }) => {
      const metric = await registry.getSingleMetric('armature_sagas_finished_total')?.get();
      return metric?.values[0]?.value ?? 0;
    }),
  );
  t.comment(`shares: ${shares.join(' and ')}`);
  t.ok(
    shares.every((share) => share > 0),
    'both had some',
  );
  t.strictSame(await schema.misplayed(definition), []);
  for (const worker of workers) await worker.stop();
});

/** A script whose first `run authorize` waits until the test releases it. */
function blockingScript() {
  const reached = Promise.withResolvers<void>();
  const goOn = Promise.withResolvers<void>();
  let first = true;
  const script: Script = async (call): Promise<Behaviour> => {
    if (call === 'run authorize' && first) {
      first = false;
      reached.resolve();
      await goOn.promise;
    }
    return 'work';
  };
  return { script, reached: reached.promise, goOn: goOn.resolve };
}

t.test('a lease is lost while a step hangs: its outcome changes nothing', async (t) => {
  const { script, reached, goOn } = blockingScript();
  const slow = checkout(db, { name: 'stale', script });
  const first = schema.worker([slow]);
  const id = await schema.start(slow);
  await reached;
  // As if the first worker had been paused past its lease.
  await db.write(null, (sql) => sql.execute('update saga set due_at = utc_timestamp(6) where saga_id = ?', [id]));
  const second = schema.worker([checkout(db, { name: 'stale' })]);
  t.strictSame(await schema.rest([id]), ['COMPLETED']);
  const before = await schema.sql('select * from saga where saga_id = ?', [id]);
  goOn();
  await first.stop();
  t.strictSame(await schema.sql('select * from saga where saga_id = ?', [id]), before);
  t.strictSame(await schema.effects(id), all);
  t.strictSame(await schema.facts(id), completed);
  t.match(await first.registry.metrics(), /armature_saga_leases_lost_total 1/);
  t.strictSame(await schema.misplayed(slow), []);
  await second.stop();
});

t.test('a lease is lost and its next holder has recorded nothing yet: the late outcome changes nothing', async (t) => {
  const [late, next] = [blockingScript(), blockingScript()];
  const first = schema.worker([checkout(db, { name: 'fenced', script: late.script })]);
  const definition = checkout(db, { name: 'fenced', script: next.script });
  const id = await schema.start(definition);
  first.wake();
  await late.reached;
  await db.write(null, (sql) => sql.execute('update saga set due_at = utc_timestamp(6) where saga_id = ?', [id]));
  const second = schema.worker([definition]);
  await next.reached;
  const row = () => schema.sql('select * from saga where saga_id = ?', [id]);
  const before = await row();
  late.goOn();
  await first.stop();
  t.strictSame(await row(), before, 'state, version and lease are what the next holder left');
  next.goOn();
  t.strictSame(await schema.rest([id]), ['COMPLETED']);
  t.strictSame(await schema.effects(id), all);
  t.strictSame(await schema.facts(id), completed);
  await second.stop();
});

t.test('stopping lets the step under way be recorded and gives the saga back', async (t) => {
  const { script, reached, goOn } = blockingScript();
  const definition = checkout(db, { name: 'stopped', script });
  const first = schema.worker([definition]);
  const id = await schema.start(definition);
  await reached;
  const stopped = first.stop();
  goOn();
  await stopped;
  t.strictSame(await schema.facts(id), ['reserve done', 'authorize done', 'confirmed']);
  const due = await schema.sql(
    'select lease_holder, due_at <= utc_timestamp(6) as due, status from saga where saga_id = ?',
    [id],
  );
  t.match(due, [{ lease_holder: null, due: 1, status: 'RUNNING' }]);
  const second = schema.worker([definition]);
  t.strictSame(await schema.rest([id]), ['COMPLETED']);
  t.strictSame(await schema.facts(id), completed);
  await second.stop();
});

t.test('stopping does not wait for ever', async (t) => {
  const { script, reached } = blockingScript();
  const first = schema.worker([checkout(db, { name: 'impatient', script })], { stopGraceMs: 100 });
  const definition = checkout(db, { name: 'impatient' });
  const id = await schema.start(definition);
  first.wake();
  await reached;
  const since = performance.now();
  await first.stop();
  t.ok(performance.now() - since < 3_000, 'the call itself would take 5 s');
  const second = schema.worker([definition]);
  t.strictSame(await schema.rest([id]), ['COMPLETED']);
  t.strictSame(await schema.effects(id), all);
  await second.stop();
});

t.test('a worker that is full leaves sagas to be found', async (t) => {
  const calls = { inProgress: 0, most: 0 };
  const script: Script = async (): Promise<Behaviour> => {
    calls.inProgress += 1;
    calls.most = Math.max(calls.most, calls.inProgress);
    await new Promise((resolve) => setTimeout(resolve, 5));
    calls.inProgress -= 1;
    return 'work';
  };
  const definition = checkout(db, { name: 'full', script });
  const worker = schema.worker([definition], { sagasMax: 4 });
  const ids = await Promise.all(Array.from({ length: 40 }, () => schema.start(definition)));
  t.ok((await schema.rest(ids, 60_000)).every((status) => status === 'COMPLETED'));
  t.ok(calls.most <= 4, `${calls.most} calls at once, although many are started in one moment`);
  await worker.stop();
});

t.test('a transaction that rolls back starts nothing', async (t) => {
  const definition = checkout(db, { name: 'rolled-back' });
  const worker = schema.worker([definition]);
  const subject = newId();
  const first = await schema.start(definition, subject);
  await t.rejects(schema.start(definition, subject), /[Dd]uplicate/, 'one saga of a name per subject');
  t.strictSame(await schema.rest([first]), ['COMPLETED']);
  t.equal((await schema.sql("select 1 from saga where name = 'rolled-back'")).length, 1);
  await worker.stop();
});

const noSuchThread = 1094;

t.test('connections are cut while sagas run', async (t) => {
  // When the response to a commit that leased sagas is lost, no worker works on them until that lease has expired.
  const definition = checkout(db, { name: 'cut', timeoutMs: 2_000 });
  const worker = schema.worker([definition], { leaseMs: 3_000 });
  const ids = await Promise.all(Array.from({ length: 60 }, () => schema.start(definition)));
  // From outside the pool, so that a cut does not hit the connection that cuts.
  const cut = await withConnection(database.adminUrl, async (administrator) => {
    let count = 0;
    for (let round = 0; round < 5; round += 1) {
      const [rows] = await administrator.query<RowDataPacket[]>(
        'select id from information_schema.processlist where user = ? order by rand() limit 6',
        [new URL(database.url).username],
      );
      for (const { id } of rows) {
        // A connection that another cut has closed meanwhile is not counted.
        await administrator.query('kill ?', [id]).then(
          () => {
            count += 1;
          },
          (error: { errno?: number }) => t.equal(error.errno, noSuchThread),
        );
      }
      await new Promise((resolve) => setTimeout(resolve, 30));
    }
    return count;
  });
  t.ok((await schema.rest(ids, 30_000)).every((status) => status === 'COMPLETED'));
  for (const id of ids) t.strictSame(await schema.facts(id), completed);
  t.comment(`${cut} connections cut`);
  t.ok(cut > 0);
  await worker.stop();
});
