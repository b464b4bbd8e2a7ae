import t from 'tap';
import { refusal } from '../../test/support/refusal.ts';
import {
  type Contents,
  compile,
  contentsOf,
  describeGrant,
  describeRules,
  type GrantRow,
  givenTwice,
  isAdministered,
  limits,
  periodProblem,
  type Rule,
  textOf,
  withDenials,
} from './policy.ts';

const rule = (subject: string, permission: string, scope: Rule['scope'] = 'any'): Rule => ({
  subject,
  permission,
  scope,
});
const grant = (member: string, role: string, more: Partial<GrantRow> = {}): GrantRow => ({
  member,
  role,
  state: 'LIVE',
  lasting: true,
  ...more,
});
const waiting = { state: 'WAITING', lasting: false } as const;

/** An administrator, and a workload that carries the calls. */
const administered: Contents = {
  rules: [
    rule('role:admin', 'access.grant'),
    rule('role:admin', 'access.write'),
    rule('role:gateway', 'access.grant', 'on-behalf'),
    rule('role:gateway', 'access.write', 'on-behalf'),
  ],
  grants: [grant('user:root', 'role:admin'), grant('workload:door', 'role:gateway')],
  denied: [],
};
const plus = ({ rules = [], grants = [], denied = [] }: Partial<Contents>): Contents => ({
  rules: [...administered.rules, ...rules],
  grants: [...administered.grants, ...grants],
  denied: [...administered.denied, ...denied],
});

t.test('the same contents in any order make the same text', async (t) => {
  const contents = plus({ denied: ['user:z', 'user:a'] });
  const shuffled = {
    rules: contents.rules.toReversed(),
    grants: contents.grants.toReversed(),
    denied: contents.denied.toReversed(),
  };
  t.equal(textOf(shuffled), textOf(contents));
  t.equal(
    textOf(contents),
    `p, role:admin, access.grant, any
p, role:admin, access.write, any
p, role:gateway, access.grant, on-behalf
p, role:gateway, access.write, on-behalf
g, user:root, role:admin
g, workload:door, role:gateway
d, user:a
d, user:z
`,
  );
  const back = contentsOf(textOf(contents), 'policy.csv');
  t.equal(textOf(back), textOf(contents), 'reading it back loses nothing');
});

t.test('two grants of one role to one member make one row', async (t) => {
  const text = textOf(plus({ grants: [grant('user:root', 'role:admin')] }));
  t.equal(text.match(/g, user:root, role:admin/g)?.length, 1);
});

t.test('compile', async (t) => {
  const {
    text,
    digest,
    administered: hasAdministrator,
  } = compile(plus({ grants: [grant('user:bo', 'role:admin', waiting)] }));
  t.notMatch(text, 'user:bo', 'a grant that waits gives nothing yet');
  t.match(digest, /^[0-9a-f]{16}$/);
  t.ok(hasAdministrator);
});

t.test('compile refuses', async (t) => {
  const chain = Array.from({ length: 12 }, (_, index) => grant(`role:r${index}`, `role:r${index + 1}`));
  for (const row of [
    {
      name: 'a role that has itself',
      more: { grants: [grant('role:a', 'role:b'), grant('role:b', 'role:a')] },
      reason: 'ROLE_CYCLE',
      names: /g, role:[ab], role:[ab]: role:[ab] would have itself/,
    },
    {
      name: 'a role that would have itself once a grant begins',
      more: { grants: [grant('role:a', 'role:b'), grant('role:b', 'role:a', waiting)] },
      reason: 'ROLE_CYCLE',
      names: /would have itself/,
    },
    {
      name: 'a chain that is too long to follow',
      more: { grants: chain },
      reason: 'ROLE_CYCLE',
      names: /chain of more than 10/,
    },
    {
      name: 'scope own for a workload',
      more: { rules: [rule('service:orders', 'orders.read', 'own')] },
      reason: 'RULE_CONFLICT',
      names: /service:orders is a workload and owns nothing/,
    },
    {
      name: 'scope own for a workload through its role',
      more: { rules: [rule('role:x', 'orders.read', 'own')], grants: [grant('service:orders', 'role:x')] },
      reason: 'RULE_CONFLICT',
      names: /p, role:x, orders.read, own: scope own is not for service:orders/,
    },
    {
      name: 'scope on-behalf for a user, through a grant that waits',
      more: { grants: [grant('user:bo', 'role:gateway', waiting)] },
      reason: 'RULE_CONFLICT',
      names: /p, role:gateway, access.grant, on-behalf: scope on-behalf is not for user:bo/,
    },
    {
      name: 'scope own for a client',
      more: { rules: [rule('role:x', 'orders.read', 'own')], grants: [grant('client:reports', 'role:x')] },
      reason: 'RULE_CONFLICT',
      names: /scope own is not for client:reports/,
    },
    {
      name: 'more rules than the limit',
      more: { rules: Array.from({ length: limits.rules }, (_, index) => rule('role:x', `x.p${index}`)) },
      reason: 'LIMIT_REACHED',
      names: /at most 25000 rules/,
    },
  ]) {
    t.test(row.name, async (t) => {
      t.throws(() => compile(plus(row.more)), { reason: row.reason, message: row.names });
    });
  }
});

t.test('isAdministered', async (t) => {
  const without = (member: string) => administered.grants.filter((one) => one.member !== member);
  const user = (more: Partial<GrantRow>) => [...without('user:root'), grant('user:root', 'role:admin', more)];
  const rows: [name: string, contents: Contents, expected: boolean][] = [
    ['a user with both permissions', administered, true],
    ['no user with the role', { ...administered, grants: without('user:root') }, false],
    ['a user whose grant has an end', { ...administered, grants: user({ lasting: false }) }, false],
    ['a user who is denied', { ...administered, denied: ['user:root'] }, false],
    [
      'another one beside a denied one',
      { ...plus({ grants: [grant('user:bo', 'role:admin')] }), denied: ['user:root'] },
      true,
    ],
    ['a user through another role', plus({ grants: [grant('role:boss', 'role:admin')] }), true],
    [
      'a client only',
      { ...administered, grants: [...without('user:root'), grant('client:robot', 'role:admin')] },
      false,
    ],
    ['one permission without the other', { ...administered, rules: administered.rules.slice(1) }, false],
    [
      'a narrower scope',
      { ...administered, rules: [rule('role:admin', 'access.grant', 'own'), ...administered.rules.slice(1)] },
      false,
    ],
    ['no workload that carries it', { ...administered, grants: without('workload:door') }, false],
  ];
  for (const [name, contents, expected] of rows) t.equal(isAdministered(contents), expected, name);
  const chained = {
    ...administered,
    grants: [
      ...without('user:root'),
      grant('user:root', 'role:boss'),
      grant('role:boss', 'role:admin', { lasting: false }),
    ],
  };
  t.notOk(isAdministered(chained), 'a chain that breaks by itself');
});

t.test('periodProblem', async (t) => {
  const now = new Date('2026-11-24T12:00:00Z');
  const at = (text: string | null) => (text === null ? null : new Date(text));
  const rows: [name: string, start: string | null, end: string | null, problem: RegExp | null][] = [
    ['from now, for good', null, null, null],
    ['from later, for good', '2026-12-01T00:00:00Z', null, null],
    ['a while to come', '2026-12-01T00:00:00Z', '2026-12-02T00:00:00Z', null],
    ['a start that is past', '2026-11-24T11:59:59Z', null, /start_time is in the past/],
    ['an end that is past', null, '2026-11-24T11:59:59Z', /end_time is in the past/],
    ['an end that is now', null, '2026-11-24T12:00:00Z', /not after/],
    ['an end before the start', '2026-12-02T00:00:00Z', '2026-12-01T00:00:00Z', /not after/],
    ['no time at all', 'nonsense', null, /9999/],
    ['a time beyond columns', null, '+012026-12-01T00:00:00Z', /9999/],
  ];
  for (const [name, start, end, problem] of rows) {
    const found = periodProblem({ startAt: at(start), endAt: at(end) }, now);
    if (problem) t.match(found, problem, name);
    else t.equal(found, null, name);
  }
});

t.test('describeRules and describeGrant', async (t) => {
  const [read, write] = [rule('role:x', 'a.read', 'own'), rule('role:x', 'a.write')];
  t.equal(describeRules('role:x', [], [read]), 'role:x may a.read (own)');
  t.equal(describeRules('role:x', [read], [write]), 'role:x may a.write (any), may no longer a.read');
  t.equal(
    describeRules('role:x', [read], [{ ...read, scope: 'any' }]),
    'role:x may a.read with scope any, no longer own',
  );
  t.equal(describeRules('role:x', [read], [read]), 'role:x was put without a change');
  const many = Array.from({ length: 20 }, (_, index) => rule('role:x', `a.p${index}`));
  t.match(describeRules('role:x', [], many), /and 8 more$/);
  t.equal(
    describeGrant('user:bo', 'role:x', { startAt: null, endAt: new Date(0) }),
    'user:bo was given role:x until 1970-01-01T00:00:00.000Z',
  );
  t.strictSame(givenTwice('role:x', [read, write, read]), ['role:x is given a.read twice']);
});

t.test('withDenials makes the text that textOf makes of the same contents', async (t) => {
  for (const { name, before, subjects, denied, after } of [
    { name: 'the first', before: [], subjects: ['user:b'], denied: true, after: ['user:b'] },
    {
      name: 'one in between',
      before: ['user:a', 'user:c'],
      subjects: ['user:b'],
      denied: true,
      after: ['user:a', 'user:b', 'user:c'],
    },
    { name: 'one that is there', before: ['user:a'], subjects: ['user:a'], denied: true, after: ['user:a'] },
    { name: 'the last goes', before: ['user:a'], subjects: ['user:a'], denied: false, after: [] },
    {
      name: 'several go',
      before: ['user:a', 'user:b', 'user:c'],
      subjects: ['user:c', 'user:a'],
      denied: false,
      after: ['user:b'],
    },
    { name: 'one that is not there', before: ['user:a'], subjects: ['user:b'], denied: false, after: ['user:a'] },
  ]) {
    const expected = compile(plus({ denied: after }));
    t.match(
      withDenials(textOf(plus({ denied: before })), subjects, denied),
      { text: expected.text, digest: expected.digest },
      name,
    );
  }
  const full = textOf(plus({ denied: Array.from({ length: limits.denied }, (_, index) => `user:${index}`) }));
  t.throws(() => withDenials(full, ['user:more'], true), refusal({ reason: 'LIMIT_REACHED' }));
});
