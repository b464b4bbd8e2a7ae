import { parsePolicy, policyOf } from '@armature/runtime/authz';
import { tokenScopeOf, type User } from '@armature/runtime/context';
import t from 'tap';
import { explain, type Question } from './explain.ts';

const text = `
p, service:orders, payments.capture, any
p, role:gateway, orders.read, on-behalf
p, role:gateway, payments.refund, on-behalf
p, role:gateway, catalog.read, any
p, role:customer, orders.read, own
p, role:customer, catalog.read, any
p, role:staff, orders.read, any
p, role:admin, payments.refund, any
g, role:admin, role:staff
g, workload:door, role:gateway
g, user:bo, role:staff
g, user:eve, role:admin
g, user:gone, role:admin
g, client:reports, role:staff
d, user:gone
`;
const rows = parsePolicy(text, 'policy');
const policy = policyOf(text);

function decide({ workload, subject, permission, scope }: Question) {
  const [kind, id = ''] = subject.split(':');
  const user: User | null = subject
    ? { kind: kind as User['kind'], subject: id, token: '', scope: tokenScopeOf(scope ?? 'all') }
    : null;
  return policy.decide({ workload: workload || null, user }, permission);
}

interface Row extends Question {
  name: string;
  reasons: string[];
  grants?: string[];
}

const table: Row[] = [
  {
    name: 'a workload with its own rule',
    workload: 'service:orders',
    subject: '',
    permission: 'payments.capture',
    reasons: [
      'service:orders may payments.capture by itself: service:orders has the rule payments.capture with scope any.',
      'So service:orders is allowed payments.capture.',
    ],
  },
  {
    name: 'a user through a role, carried by a gateway',
    workload: 'workload:door',
    subject: 'user:bo',
    permission: 'orders.read',
    reasons: [
      'workload:door may carry orders.read for those who call through it: workload:door has role:gateway, and role:gateway has the rule orders.read with scope on-behalf.',
      'user:bo may orders.read: user:bo has role:staff, and role:staff has the rule orders.read with scope any.',
      'So user:bo through workload:door is allowed orders.read.',
    ],
    grants: ['workload:door role:gateway', 'user:bo role:staff'],
  },
  {
    name: 'a chain of roles',
    workload: 'workload:door',
    subject: 'user:eve',
    permission: 'orders.read',
    reasons: [
      'workload:door may carry orders.read for those who call through it: workload:door has role:gateway, and role:gateway has the rule orders.read with scope on-behalf.',
      'user:eve may orders.read: user:eve has role:admin, role:admin has role:staff, and role:staff has the rule orders.read with scope any.',
      'So user:eve through workload:door is allowed orders.read.',
    ],
    grants: ['workload:door role:gateway', 'user:eve role:admin', 'role:admin role:staff'],
  },
  {
    name: 'a role that every user has, for own resources',
    workload: 'workload:door',
    subject: 'user:ada',
    permission: 'orders.read',
    reasons: [
      'workload:door may carry orders.read for those who call through it: workload:door has role:gateway, and role:gateway has the rule orders.read with scope on-behalf.',
      'user:ada may orders.read for its own things only: every user has role:customer, and role:customer has the rule orders.read with scope own.',
      'So user:ada through workload:door is allowed orders.read, on what belongs to user:ada.',
    ],
    grants: ['workload:door role:gateway'],
  },
  {
    name: 'a permission that no role of the user gives',
    workload: 'workload:door',
    subject: 'user:bo',
    permission: 'payments.refund',
    reasons: [
      'workload:door may carry payments.refund for those who call through it: workload:door has role:gateway, and role:gateway has the rule payments.refund with scope on-behalf.',
      'user:bo may not payments.refund: it has role:customer, role:staff, and none of them gives it. What gives it: role:admin, role:gateway.',
      'So user:bo through workload:door is not allowed payments.refund.',
    ],
    grants: ['workload:door role:gateway'],
  },
  {
    name: 'a user who is denied',
    workload: 'workload:door',
    subject: 'user:gone',
    permission: 'catalog.read',
    reasons: [
      'workload:door may catalog.read by itself: workload:door has role:gateway, and role:gateway has the rule catalog.read with scope any.',
      'user:gone is denied everything, whatever it was granted: its account was deactivated or erased.',
      'So user:gone through workload:door is not allowed catalog.read.',
    ],
    grants: ['workload:door role:gateway'],
  },
  {
    name: 'a client without grants',
    workload: 'workload:door',
    subject: 'client:reports',
    permission: 'catalog.read',
    reasons: [
      'workload:door may catalog.read by itself: workload:door has role:gateway, and role:gateway has the rule catalog.read with scope any.',
      'client:reports may not catalog.read: it has role:staff, and none of them gives it. What gives it: role:customer, role:gateway.',
      'So client:reports through workload:door is not allowed catalog.read.',
    ],
    grants: ['workload:door role:gateway'],
  },
  {
    name: 'on behalf of no user',
    workload: 'workload:door',
    subject: '',
    permission: 'orders.read',
    reasons: [
      'workload:door may orders.read only together with the token of a user who may, and there is none: workload:door has role:gateway, and role:gateway has the rule orders.read with scope on-behalf.',
      'So workload:door is not allowed orders.read.',
    ],
    grants: ['workload:door role:gateway'],
  },
  {
    name: 'a workload without any role',
    workload: 'service:other',
    subject: 'user:eve',
    permission: 'payments.refund',
    reasons: [
      'service:other may not payments.refund: it has no role. What gives it: role:admin, role:gateway.',
      'So user:eve through service:other is not allowed payments.refund.',
    ],
  },
  {
    name: 'no workload',
    workload: '',
    subject: 'user:eve',
    permission: 'payments.refund',
    reasons: [
      'The call names no workload, and without one nothing is allowed.',
      'So user:eve through no workload is not allowed payments.refund.',
    ],
  },
  {
    name: 'a permission that no rule names',
    workload: 'service:orders',
    subject: '',
    permission: 'moon.land',
    reasons: ['No caller may moon.land: no rule gives this permission.'],
  },
];

t.test('explanations', async (t) => {
  for (const row of table) {
    t.test(row.name, async (t) => {
      const { reasons, grants } = explain(rows, row, decide(row));
      t.strictSame(reasons, row.reasons);
      t.strictSame(
        grants.map(({ member, role }) => `${member} ${role}`),
        row.grants ?? [],
      );
    });
  }
});

t.test('a token that was not issued for the permission', async (t) => {
  const question = { workload: 'workload:door', subject: 'user:bo', permission: 'orders.read', scope: 'catalog ops' };
  const { reasons } = explain(rows, question, decide(question));
  t.match(reasons.slice(-2), [
    'The token does not: its scope names catalog ops, which does not include orders.read.',
    'So user:bo through workload:door is not allowed orders.read.',
  ]);
  const within = { ...question, scope: 'orders' };
  t.match(explain(rows, within, decide(within)).reasons.at(-1), /is allowed orders\.read/);
});

t.test('the last sentence states the decision, for every caller and permission', async (t) => {
  for (const workload of ['service:orders', 'workload:door', 'service:other', 'not a workload', '']) {
    for (const subject of ['', 'user:ada', 'user:bo', 'user:eve', 'user:gone', 'client:reports', 'user:NOT']) {
      for (const permission of ['orders.read', 'payments.refund', 'payments.capture', 'catalog.read', 'moon.land']) {
        const question = { workload, subject, permission };
        const decision = decide(question);
        const { reasons } = explain(rows, question, decision);
        const last = reasons.at(-1) ?? '';
        t.equal(/is allowed/.test(last), decision.allowed, JSON.stringify({ ...question, reasons }));
      }
    }
  }
});
