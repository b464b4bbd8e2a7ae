import t from 'tap';
import { refusal } from '../../test/support/refusal.ts';
import { startService } from '../../test/support/service.ts';
import { amount } from '../../test/support/tier.ts';
import { ownPolicy } from './policy-source.ts';
import { readPolicy } from './policy-store.ts';
import { clientOf, eventually, type Instance, openTables, seedWith } from './testbed.ts';
import { watchPolicy } from './watch.ts';

t.setTimeout(120_000);
const soon = <T>(what: string, ask: () => T | undefined | false) => eventually(what, async () => ask());
const root = {
  workload: 'workload:developer',
  user: { kind: 'user', subject: 'admin', token: '', scope: 'all' },
} as const;

async function source(t: Tap, instance: Instance, more: Partial<Parameters<typeof ownPolicy>[0]> = {}) {
  const { db, watching, background, log } = instance;
  const own = await ownPolicy({ db, watching, background, log, ageMaxMs: 300_000, seed: async () => {}, ...more });
  t.teardown(() => own.stop());
  return own;
}
type Tap = { teardown(work: () => unknown): unknown };

const grantOnce = async ({ db, store, background }: Instance, member: string, role = 'role:staff') => {
  const call = background('grant', 20_000);
  return db.transaction(call, (tx) => store.grant(tx, call, { member, role, startAt: null, endAt: null }));
};

t.test('instances that start together seed once', async (t) => {
  const tables = await openTables(t);
  const instances = await Promise.all(Array.from({ length: 4 }, () => tables.instance()));
  const seeded = await Promise.all(instances.map((instance) => seedWith(instance)));
  t.strictSame(seeded.filter(Boolean).length, 1);
  const policies = await Promise.all(instances.map((instance) => instance.db.read(null, readPolicy)));
  t.ok(policies.every(({ version, digest }) => version === 1n && digest === policies[0]?.digest));
});

t.test('every call is denied until there is a policy', async (t) => {
  const tables = await openTables(t);
  const instance = await tables.instance();
  const own = await source(t, instance);
  t.equal(own.current(), null);
  await seedWith(instance);
  await soon('it is found', () => own.current());
  t.match(own.current()?.decide(root, 'access.write'), { allowed: true });
});

t.test('a seed without an administrator is rejected', async (t) => {
  const tables = await openTables(t);
  const instance = await tables.instance();
  const text = 'p, role:staff, orders.read, any\ng, user:bo, role:staff';
  await t.rejects(seedWith(instance, text), refusal({ reason: 'LAST_ADMINISTRATOR' }));
  t.match(await instance.db.read(null, readPolicy), { version: 0n, text: '' });
});

t.test('after a damaged policy the last good one stays in force until it is too old', async (t) => {
  const tables = await openTables(t);
  const instance = await tables.instance();
  await seedWith(instance);
  let clock = 0;
  const own = await source(t, instance, { now: () => clock, ageMaxMs: 60_000 });
  const good = own.current();
  t.ok(good);
  const put = (text: string) =>
    instance.db.write(null, (sql) =>
      sql.execute('update policy_head set version = version + 1, digest = ?, text = ?', [text, text]),
    );
  await put('nonsense');
  t.equal(own.current(), good);
  clock = 60_001;
  t.equal(own.current(), null, 'the policy could not be confirmed as in force');
  t.equal(own.confirmed(2_000), null, 'and is not confirmed to watchers');

  const damaged = await source(t, await tables.instance());
  t.equal(damaged.current(), null, 'an instance that starts now has none');
});

t.test('without a database there are no confirmations, and no policy once it is too old', async (t) => {
  const tables = await openTables(t);
  const instance = await tables.instance();
  await seedWith(instance);
  let clock = 0;
  let away = false;
  const db = {
    read: ((call, work) =>
      away ? Promise.reject(new Error('away')) : instance.db.read(call, work)) as Instance['db']['read'],
  };
  const own = await source(t, instance, { db, now: () => clock, ageMaxMs: 60_000 });
  away = true;
  clock = 3_000;
  t.ok(own.current());
  t.equal(own.confirmed(2_000), null);
  await t.rejects(own.fresh(instance.background('fresh', 5_000)), refusal({ reason: 'POLICY_UNAVAILABLE' }));
  clock = 60_001;
  t.equal(own.current(), null);
  away = false;
  await soon('it is back', () => own.current());
});

const changes = amount(200, 1_000);

t.test(`after ${changes} changes each watcher has the newest version, and few texts were read`, async (t) => {
  const tables = await openTables(t);
  const instance = await tables.instance();
  await seedWith(instance);
  let reads = 0;
  const db = {
    read: ((call, work) => {
      if (work === (readPolicy as unknown)) reads += 1;
      return instance.db.read(call, work);
    }) as Instance['db']['read'],
  };
  const own = await source(t, instance, { db });
  const ending = new AbortController();
  const watchers = Array.from({ length: 8 }, () => ({ texts: 0, version: 0n }));
  const following = watchers.map(async (watcher) => {
    for await (const { version, chunk } of watchPolicy(own, '', ending.signal)) {
      watcher.version = version;
      if (chunk.length > 0) watcher.texts += 1;
    }
  });
  const before = process.cpuUsage();
  const began = performance.now();
  let next = 0;
  await Promise.all(
    Array.from({ length: 8 }, async () => {
      while (next < changes) await grantOnce(instance, `user:many${next++}`);
    }),
  );
  const tookMs = performance.now() - began;
  await soon('all have the newest', () => watchers.every(({ version }) => version === BigInt(changes + 1)));
  const cpu = process.cpuUsage(before);
  t.comment(
    `${changes} changes in ${(tookMs / 1000).toFixed(1)} s, ${reads} texts read, ` +
      `${Math.max(...watchers.map(({ texts }) => texts))} sent to a watcher, ${((cpu.user + cpu.system) / 1e6).toFixed(1)} s of CPU`,
  );
  // One at the start, then at most one in each gap of 150 ms.
  t.ok(reads <= 2 + tookMs / 150 + 2, `${reads} reads`);
  t.ok(watchers.every(({ texts }) => texts <= reads));
  ending.abort(new Error('seen enough'));
  await Promise.allSettled(following);
  t.match(own.latest(), { version: BigInt(changes + 1) });
});

t.test('readiness depends on a policy', async (t) => {
  const tables = await openTables(t);
  const instance = await tables.instance();
  const without = await startService(t, 'access', {
    database: tables.database,
    env: { ARMATURE_POLICY_SEED_FILE: undefined },
  });
  const admin = await clientOf(without, 'admin');
  t.teardown(() => admin.close());
  const ready = await fetch(`http://${without.admin}/readyz`);
  t.equal(ready.status, 503);
  t.match(await ready.text(), /policy/);
  await t.rejects(admin.listRoles({}), refusal({ code: 'UNAVAILABLE', reason: 'POLICY_UNAVAILABLE' }));
  await seedWith(instance);
  await eventually('it is ready', async () => (await fetch(`http://${without.admin}/readyz`)).ok);
  await eventually('calls succeed', () => admin.listRoles({}).catch(() => false as const));
});
