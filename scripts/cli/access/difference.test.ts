import t from 'tap';
import { difference, opens, renderDifference, type Snapshot } from './difference.ts';
import type { Operation } from './operations.ts';
import { effectiveAccessOn, event, method } from './testbed.ts';

const buy = method('Buy', 'shop.buy', 'customer_id');
const refund = method('Refund', 'shop.refund');
const policy = [
  'p, role:customer, shop.buy, own',
  'p, role:admin, shop.refund, any',
  'p, role:gateway, shop.buy, on-behalf',
  'g, user:root, role:admin',
  'g, service:edge, role:gateway',
];
const snapshot = (rows: readonly string[], operations: readonly Operation[] = [buy, refund]): Snapshot => ({
  operations,
  effective: effectiveAccessOn(...rows),
});

interface Case {
  name: string;
  /** Rows that come to the policy, and the ones that go. */
  more?: string[];
  less?: string[];
  operations?: Operation[];
  /** "VERDICT principal method: before → after, because" */
  changes: string[];
  opens?: boolean;
}

const cases: Case[] = [
  { name: 'nothing', changes: [] },
  {
    name: 'rows in another order and spelling',
    less: [policy[0]!],
    more: ['p,role:customer,shop.buy,own'],
    changes: [],
  },
  { name: 'a row that nothing needs', more: ['p, user:root, shop.refund, any'], changes: [] },
  {
    name: 'a new rule',
    more: ['p, role:customer, shop.refund, any'],
    changes: ['OPENED role:customer Refund: deny → any, + p, role:customer, shop.refund, any (line 6)'],
    opens: true,
  },
  {
    name: 'a rule for own things that have no owner opens nothing',
    more: ['p, role:customer, shop.refund, own'],
    changes: [],
  },
  {
    name: 'a wider rule',
    less: ['p, role:customer, shop.buy, own'],
    more: ['p, role:customer, shop.buy, any'],
    changes: ['WIDENED role:customer Buy: own → any, + p, role:customer, shop.buy, any (line 5)'],
    opens: true,
  },
  {
    name: 'a rule that needs no user any more, and a grant of it',
    less: ['p, role:gateway, shop.buy, on-behalf'],
    more: ['p, role:gateway, shop.buy, any', 'g, service:shop, role:gateway'],
    changes: [
      'WIDENED role:gateway Buy: on-behalf → any, + p, role:gateway, shop.buy, any (line 5)',
      'OPENED service:shop Buy: deny → any, + p, role:gateway, shop.buy, any (line 5); + g, service:shop, role:gateway (line 6)',
    ],
    opens: true,
  },
  {
    name: 'a rule taken away',
    less: ['p, role:customer, shop.buy, own'],
    changes: ['CLOSED role:customer Buy: own → deny, - p, role:customer, shop.buy, own (line 1)'],
  },
  {
    name: 'a new grant',
    more: ['g, user:eve, role:admin'],
    changes: ['OPENED user:eve Refund: deny → any, + g, user:eve, role:admin (line 6)'],
    opens: true,
  },
  {
    name: 'a grant taken away',
    less: ['g, user:root, role:admin'],
    changes: ['CLOSED user:root Refund: any → deny, - g, user:root, role:admin (line 4)'],
  },
  {
    name: 'a principal denied everything',
    more: ['d, user:root'],
    changes: [
      'CLOSED user:root Buy: own → deny, + d, user:root (line 6)',
      'CLOSED user:root Refund: any → deny, + d, user:root (line 6)',
    ],
  },
  {
    name: 'an account for a program',
    more: ['p, client:reports, shop.refund, any'],
    changes: ['OPENED client:reports Refund: deny → any, + p, client:reports, shop.refund, any (line 6)'],
    opens: true,
  },
  {
    name: 'a method under another permission',
    operations: [buy, { ...refund, permission: 'shop.buy' }],
    changes: [
      'OPENED role:gateway Refund: deny → on-behalf, its permission was shop.refund, is shop.buy',
      'CLOSED role:admin Refund: any → deny, its permission was shop.refund, is shop.buy',
    ],
    opens: true,
  },
  {
    name: 'a method that lost its owner',
    operations: [{ ...buy, owner: '' }, refund],
    changes: ['CLOSED role:customer Buy: own → deny, its owner was customer_id, is none'],
  },
  {
    name: 'a method that got an owner',
    more: ['p, role:customer, shop.refund, own'],
    operations: [buy, { ...refund, owner: 'customer_id' }],
    changes: [
      'OPENED role:customer Refund: deny → own, its owner was none, is customer_id; + p, role:customer, shop.refund, own (line 6)',
    ],
    opens: true,
  },
  {
    name: 'a new method under a permission that is granted',
    operations: [buy, refund, method('Cancel', 'shop.refund')],
    changes: ['OPENED role:admin Cancel: deny → any, new method; p, role:admin, shop.refund, any'],
    opens: true,
  },
  {
    name: 'a new method that no principal may call',
    operations: [buy, refund, method('Gift', 'shop.gift')],
    changes: [],
  },
  {
    name: 'a new event',
    more: ['p, service:shop, shop.publish, any'],
    operations: [buy, refund, event('Bought', 'shop.publish')],
    changes: ['OPENED service:shop Bought: deny → any, new event; + p, service:shop, shop.publish, any (line 6)'],
    opens: true,
  },
  { name: 'a method that is gone', operations: [buy], changes: [] },
];

t.test('what changes for whom, and by what', async (t) => {
  for (const { name, more = [], less = [], operations, changes, opens: open = false } of cases) {
    const after = [...policy.filter((row) => !less.includes(row)), ...more];
    const found = difference(snapshot(policy), snapshot(after, operations));
    const told = found.changes.map(
      (one) =>
        `${one.verdict} ${one.principal} ${one.operation.name.split(/[/.]/).at(-1)}: ${one.before} → ${one.after}, ${one.because}`,
    );
    t.same(told.sort(), changes.toSorted(), name);
    t.equal(opens(found), open, `${name}: ${open ? 'is' : 'is not'} for a person to see`);
  }
});

t.test('back again, everything that opened closes and what was widened is narrowed', async (t) => {
  const back = { OPENED: 'CLOSED', CLOSED: 'OPENED', WIDENED: 'NARROWED', NARROWED: 'WIDENED' } as const;
  for (const { name, more = [], less = [] } of cases) {
    const after = [...policy.filter((row) => !less.includes(row)), ...more];
    const verdicts = (from: readonly string[], to: readonly string[]) =>
      difference(snapshot(from), snapshot(to)).changes.map(({ verdict, principal, operation }) => ({
        verdict,
        principal,
        operation,
      }));
    const there = verdicts(policy, after).map((one) => ({ ...one, verdict: back[one.verdict] }));
    const byPrincipal = (a: { principal: string }, b: { principal: string }) => a.principal.localeCompare(b.principal);
    t.same(verdicts(after, policy).sort(byPrincipal), there.sort(byPrincipal), name);
  }
});

t.test('own and on-behalf are for different holders, so one in place of the other opens access', async (t) => {
  const before = snapshot(['p, role:x, shop.buy, own']);
  const after = snapshot(['p, role:x, shop.buy, on-behalf', 'g, service:edge, role:x']);
  const found = difference(before, after);
  t.match(found.changes[0], { verdict: 'OPENED', principal: 'role:x', before: 'own', after: 'on-behalf' });
});

t.test('as lines, grouped by what made the change', async (t) => {
  const cancel = method('Cancel', 'shop.buy', 'customer_id');
  const before = snapshot(policy);
  const after = snapshot([...policy.slice(1), 'p, role:admin, shop.buy, any'], [buy, cancel]);
  t.same(renderDifference(difference(before, after), 'main'), [
    'NEW      method  shop.v1.Shop/Cancel  shop.buy',
    'REMOVED  method  shop.v1.Shop/Refund  shop.refund',
    '',
    'OPENED  role:admin  new method; + p, role:admin, shop.buy, any (line 5)',
    '  shop.v1.Shop/Cancel  shop.buy  deny → any',
    '',
    'OPENED  role:gateway  new method; p, role:gateway, shop.buy, on-behalf',
    '  shop.v1.Shop/Cancel  shop.buy  deny → on-behalf',
    '',
    'WIDENED  role:admin  + p, role:admin, shop.buy, any (line 5)',
    '  shop.v1.Shop/Buy  shop.buy  own → any',
    '',
    'CLOSED  role:customer  - p, role:customer, shop.buy, own (line 1)',
    '  shop.v1.Shop/Buy  shop.buy  own → deny',
    '',
    'access diff: since main a principal may do more than before, so a person has to review this: ' +
      '2 opened, 1 widened, 0 narrowed, 1 closed, 1 new, 1 removed',
  ]);
  t.same(renderDifference(difference(before, before), 'main'), [
    'access diff: no principal may do more than at main: 0 opened, 0 widened, 0 narrowed, 0 closed, 0 new, 0 removed',
  ]);
});
