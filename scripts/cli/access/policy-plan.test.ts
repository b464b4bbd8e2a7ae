import { parsePolicy } from '@armature/runtime/authz';
import t from 'tap';
import { changeRow, type PolicyInForce, planPolicy } from './policy-plan.ts';

const wanted = (...rows: string[]) => parsePolicy(rows.join('\n'), 'test.csv');

const inForce: PolicyInForce = {
  rules: new Map([
    ['role:staff', [{ permission: 'gifts.list', scope: 'any' }]],
    ['service:orders', [{ permission: 'gifts.wrap', scope: 'on-behalf' }]],
  ]),
  grants: [{ grantId: 'grant-1', member: 'user:bo', role: 'role:staff' }],
};
const same = ['p, role:staff, gifts.list, any', 'p, service:orders, gifts.wrap, on-behalf', 'g, user:bo, role:staff'];

t.test('the same policy needs no change', async (t) => {
  t.same(planPolicy(wanted(...same), inForce), { changes: [], kept: [], impossible: [] });
});

const rows: { name: string; file: string[]; prune?: boolean; changes: string[][]; kept?: string[] }[] = [
  {
    name: 'rules of a role are replaced, as a whole',
    file: [...same, 'p, role:staff, gifts.wrap, own'],
    changes: [['put role', 'role:staff', '+ gifts.wrap own']],
  },
  {
    name: 'another scope is another rule',
    file: [...same.slice(1), 'p, role:staff, gifts.list, own'],
    changes: [['put role', 'role:staff', '+ gifts.list own, - gifts.list any']],
  },
  {
    name: 'a role is made before it is granted',
    file: ['g, user:eve, role:guest', 'p, role:guest, gifts.list, own', ...same],
    changes: [
      ['put role', 'role:guest', '+ gifts.list own'],
      ['grant', 'user:eve', '+ role:guest'],
    ],
  },
  {
    name: 'what the file does not name is kept',
    file: ['p, role:staff, gifts.list, any'],
    changes: [],
    kept: ['g, user:bo, role:staff', 'the rules of service:orders'],
  },
  {
    name: 'or removed, grants first',
    file: ['p, service:orders, gifts.wrap, on-behalf'],
    prune: true,
    changes: [
      ['revoke', 'user:bo', '- role:staff'],
      ['delete role', 'role:staff', ''],
    ],
  },
];

for (const { name, file, prune, changes, kept = [] } of rows) {
  t.test(name, async (t) => {
    const plan = planPolicy(wanted(...file), inForce, { prune });
    t.same(plan.changes.map(changeRow), changes);
    t.same(plan.kept, kept);
  });
}

t.test('rows without a call are named', async (t) => {
  const plan = planPolicy(wanted(...same, 'p, user:eve, gifts.list, own', 'd, user:mallory'), inForce);
  t.same(plan.changes, []);
  t.match(plan.impossible, [/^p, user:eve: rules are given to roles/, /^d, user:mallory: a subject is denied when/]);
});
