import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { modelText, policyOf } from '@armature/runtime/authz';
import { type Adapter, Enforcer, FileAdapter, newEnforcer, newModelFromString, StringAdapter } from 'casbin';
import t from 'tap';
import { type Random, seeded } from '../../test/support/random.ts';
import { casbinAdapter } from './casbin-adapter.ts';
import { openTables, seedWith } from './testbed.ts';

t.setTimeout(120_000);
const tables = await openTables(t);
const instance = await tables.instance();
const ours = () => casbinAdapter(instance);
const folder = mkdtempSync(join(tmpdir(), 'armature-adapter-'));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));

/** A policy without an administrator is rejected. */
const fixed = `
p, role:root, access.grant, any
p, role:root, access.write, any
p, role:door, access.grant, on-behalf
p, role:door, access.write, on-behalf
g, user:root, role:root
g, workload:door, role:door
`;
const subjects = [
  'user:ada',
  'user:bo',
  'client:reports',
  'service:orders',
  'workload:robot',
  'role:a',
  'role:b',
  'role:c',
];
const roles = ['role:a', 'role:b', 'role:c', 'role:d'];
const permissions = ['orders.read', 'orders.place', 'catalog.read'];

/** Random rows that are a policy. */
function randomPolicy({ pick }: Random): string {
  for (;;) {
    const rules = new Map<string, string>();
    for (let count = 0; count < 6; count += 1) {
      const [subject, permission] = [pick([...subjects, ...roles]), pick(permissions)];
      rules.set(`${subject}, ${permission}`, `p, ${subject}, ${permission}, ${pick(['any', 'any', 'own'])}`);
    }
    const grants = new Set(Array.from({ length: 6 }, () => `g, ${pick(subjects)}, ${pick(roles)}`));
    const text = [fixed.trim(), ...rules.values(), ...grants].join('\n');
    try {
      policyOf(text);
      return text;
    } catch {
      // Not a policy; another one may be.
    }
  }
}

const enforcerOf = (adapter: Adapter): Promise<Enforcer> => newEnforcer(newModelFromString(modelText), adapter);

/** What each subject may, by every rule that allows it first. */
async function decisionsOf(enforcer: Enforcer): Promise<string[]> {
  const found: string[] = [];
  for (const subject of [...subjects, 'user:root', 'workload:door', 'user:without-role']) {
    for (const permission of [...permissions, 'access.write']) {
      if (await enforcer.enforce(subject, permission)) found.push(`${subject} ${permission}`);
    }
  }
  return found;
}

async function rowsOf(enforcer: Enforcer): Promise<string[]> {
  return [...(await enforcer.getPolicy()), ...(await enforcer.getGroupingPolicy())].map((row) => row.join(', ')).sort();
}

await seedWith(instance, fixed);

/** The behaviour that every adapter has, ours as well. */
const adapters: Record<string, (text: string) => Promise<Adapter>> = {
  'the file adapter': async (text) => {
    const file = join(folder, 'policy.csv');
    writeFileSync(file, text);
    return new FileAdapter(file);
  },
  'the string adapter': async (text) => new StringAdapter(text),
  'our adapter': async (text) => {
    const adapter = ours();
    const model = newModelFromString(modelText);
    await new StringAdapter(text).loadPolicy(model);
    await adapter.savePolicy(model);
    return adapter;
  },
};

for (const [name, adapterOf] of Object.entries(adapters)) {
  t.test(name, async (t) => {
    const text = `${fixed.trim()}\np, role:a, orders.read, any\ng, user:ada, role:a\ng, role:b, role:a\ng, user:bo, role:b`;
    const enforcer = await enforcerOf(await adapterOf(text));
    t.ok(await enforcer.enforce('user:ada', 'orders.read'), 'by a role');
    t.ok(await enforcer.enforce('user:bo', 'orders.read'), 'by a chain of roles');
    t.notOk(await enforcer.enforce('user:ada', 'orders.place'), 'not what no rule says');
    t.notOk(await enforcer.enforce('user:without-role', 'orders.read'), 'a user without a role');
    t.strictSame(
      await rowsOf(enforcer),
      text
        .split('\n')
        .map((row) => row.slice('p, '.length))
        .sort(),
      'every row',
    );

    await enforcer.addPolicy('role:b', 'orders.place', 'any');
    t.ok(await enforcer.enforce('user:bo', 'orders.place'), 'a rule that was added');
    await enforcer.removePolicy('role:b', 'orders.place', 'any');
    t.notOk(await enforcer.enforce('user:bo', 'orders.place'), 'a rule that was removed');
    await enforcer.addGroupingPolicy('user:cy', 'role:b');
    t.ok(await enforcer.enforce('user:cy', 'orders.read'), 'a grant that was added');
    await enforcer.removeFilteredGroupingPolicy(0, 'user:cy');
    t.notOk(await enforcer.enforce('user:cy', 'orders.read'), 'grants that were removed by member');
    await enforcer.removeFilteredPolicy(1, 'orders.read');
    t.notOk(await enforcer.enforce('user:ada', 'orders.read'), 'rules that were removed by permission');
  });
}

t.test('random policies decide the same from a file and from our tables, also after changes', async (t) => {
  const seed = Number(process.env.ARMATURE_TEST_SEED ?? Date.now() % 1_000_000);
  t.comment(`seed ${seed}`);
  const random = seeded(seed);
  for (let round = 0; round < 12; round += 1) {
    const text = randomPolicy(random);
    const file = await enforcerOf(await adapters['the file adapter']!(text));
    const mine = await enforcerOf(await adapters['our adapter']!(text));
    t.strictSame(await rowsOf(mine), await rowsOf(file), `rows of round ${round}, seed ${seed}`);
    t.strictSame(await decisionsOf(mine), await decisionsOf(file), `decisions of round ${round}, seed ${seed}`);

    const removed = text.split('\n').filter((row) => row.startsWith('g, ') && !/root|door/.test(row));
    const victim = random.pick(removed).split(', ').slice(1);
    for (const enforcer of [file, mine]) {
      await enforcer.removeGroupingPolicy(...victim);
      await enforcer.removeFilteredPolicy(1, 'orders.place');
      await enforcer.addPolicy('role:d', 'orders.place', 'any');
    }
    await file.savePolicy();
    const [again, mineAgain] = [
      await enforcerOf(new FileAdapter(join(folder, 'policy.csv'))),
      await enforcerOf(ours()),
    ];
    t.strictSame(await rowsOf(mineAgain), await rowsOf(again), `rows after changes, round ${round}, seed ${seed}`);
    t.strictSame(
      await decisionsOf(mineAgain),
      await decisionsOf(again),
      `decisions after, round ${round}, seed ${seed}`,
    );
  }
});

t.test('a part of the policy', async (t) => {
  const adapter = ours();
  const enforcer = new Enforcer();
  await enforcer.initWithModelAndAdapter(newModelFromString(modelText), adapter, true);
  await enforcer.loadFilteredPolicy({ p: ['role:root'], g: ['', 'role:root'] });
  t.strictSame(await rowsOf(enforcer), [
    'role:root, access.grant, any',
    'role:root, access.write, any',
    'user:root, role:root',
  ]);
  t.ok(enforcer.isFiltered());
  await t.rejects(adapter.savePolicy(enforcer.getModel()), /loaded in part/);
});

t.test('what is refused', async (t) => {
  const adapter = ours();
  for (const [name, work, problem] of [
    ['another kind of row', () => adapter.addPolicy('p', 'p2', ['a', 'b', 'c']), /no p2 rows/],
    ['another number of fields', () => adapter.addPolicy('p', 'p', ['role:a', 'orders.read']), /has 3 fields/],
    ['a grant twice', () => adapter.addPolicy('g', 'g', ['user:root', 'role:root']), /already/],
    ['a filter of everything', () => adapter.removeFilteredPolicy('p', 'p', 0, ''), /matches everything/],
    [
      'a scope that is none',
      () => adapter.addPolicy('p', 'p', ['role:x', 'a.b', 'some']),
      /is not any, own or on-behalf/,
    ],
    [
      'the last administrator',
      () => adapter.removePolicy('g', 'g', ['user:root', 'role:root']),
      /no user would be left/,
    ],
  ] as const) {
    await t.rejects(work(), problem, name);
  }
});
