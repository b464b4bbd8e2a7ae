import t from 'tap';
import { phasesOf, planKeys, planRevocation } from './key.ts';

const at = (seconds: number) => new Date(Date.UTC(2026, 0, 1) + seconds * 1_000);
const periods = { periodS: 1_000, leadS: 100, keptS: 200 };
const key = (kid: string, seconds: number) => ({ kid, activatesAt: at(seconds) });

t.test('phases', async (t) => {
  const keys = [key('c', 2_000), key('a', 0), key('b', 1_000)];
  for (const row of [
    { now: 500, phases: { a: 'current', b: 'upcoming', c: 'upcoming' } },
    { now: 1_000, phases: { a: 'retired', b: 'current', c: 'upcoming' } },
    { now: 9_000, phases: { a: 'retired', b: 'retired', c: 'current' } },
  ]) {
    t.match(Object.fromEntries(phasesOf(keys, at(row.now))), row.phases, `at ${row.now}`);
  }
});

t.test('revocation', async (t) => {
  const keys = [key('a', 0), key('b', 1_000), key('c', 2_000)];
  for (const row of [
    { name: 'a retired key', keys, kid: 'a', plan: { activate: null, make: false } },
    { name: 'an upcoming key', keys, kid: 'c', plan: { activate: null, make: false } },
    { name: 'the current key: the upcoming one signs', keys, kid: 'b', plan: { activate: 'c', make: false } },
    {
      name: 'the current key without an upcoming one: a new key, not the retired one',
      keys: keys.slice(0, 2),
      kid: 'b',
      plan: { activate: null, make: true },
    },
  ]) {
    t.strictSame(planRevocation(row.keys, row.kid, at(1_500)), row.plan, row.name);
  }
});

t.test('next step of a rotation', async (t) => {
  for (const row of [
    { name: 'no keys: one that signs at once', keys: [], now: 50, make: 50, remove: [] },
    { name: 'young: nothing', keys: [key('a', 0)], now: 899, make: null, remove: [] },
    { name: 'nearly due: its successor is published', keys: [key('a', 0)], now: 900, make: 1_000, remove: [] },
    { name: 'the successor is there: nothing', keys: [key('a', 0), key('b', 1_000)], now: 950, make: null, remove: [] },
    { name: 'overdue: published first all the same', keys: [key('a', 0)], now: 5_000, make: 5_100, remove: [] },
    {
      name: 'the elder is kept while what it signed is valid',
      keys: [key('a', 0), key('b', 1_000)],
      now: 1_200,
      make: null,
      remove: [],
    },
    { name: 'and then removed', keys: [key('a', 0), key('b', 1_000)], now: 1_201, make: null, remove: ['a'] },
    {
      name: 'a successor that does not sign yet removes no key',
      keys: [key('a', 0), key('b', 9_000)],
      now: 8_000,
      make: null,
      remove: [],
    },
  ]) {
    const plan = planKeys(row.keys, periods, at(row.now));
    t.strictSame(plan, { make: row.make === null ? null : at(row.make), remove: row.remove }, row.name);
  }
});

t.test('over a long time there is always one that signs, published before and after', async (t) => {
  let keys: ReturnType<typeof key>[] = [];
  const firstSeen = new Map<string, number>();
  for (let now = 0; now < 20_000; now += 7) {
    const plan = planKeys(keys, periods, at(now));
    keys = keys.filter(({ kid }) => !plan.remove.includes(kid));
    if (plan.make) keys.push({ kid: `k${now}`, activatesAt: plan.make });
    for (const { kid } of keys) if (!firstSeen.has(kid)) firstSeen.set(kid, now);
    const current = [...phasesOf(keys, at(now))].filter(([, phase]) => phase === 'current');
    if (current.length !== 1) return t.fail(`at ${now} there are ${current.length} that sign`);
    const seen = firstSeen.get(current[0]?.[0] ?? '') ?? now;
    if (seen !== 0 && now - seen < periods.leadS - 14) return t.fail(`at ${now} a key signs too early`);
    if (keys.length > 3) return t.fail(`at ${now} there are ${keys.length} keys`);
  }
  t.ok(firstSeen.size > 15);
});
