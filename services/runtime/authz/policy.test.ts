import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { Caller } from '../context/call-context.ts';
import { type Decision, loadPolicy, policyHolder, policyOf } from './policy.ts';

const by = (workload: string | null, subject?: string): Caller => ({
  workload,
  user: subject === undefined ? null : { kind: 'user', subject, token: 'token', scope: 'all' },
});
const client = (workload: string, subject: string): Caller => ({
  workload,
  user: { kind: 'client', subject, token: 'token', scope: 'all' },
});
const outcome = (decision: Decision) => (decision.allowed ? decision.scope : 'denied');

const sampleText = `
# a comment, and rows with and without spaces
p, service:orders, stock.reserve, any
p,service:orders,orders.publish,any
p, service:reports, orders.read, on-behalf
p, workload:edge, catalog.read, any
p, role:edge, orders.read, on-behalf
p, role:edge, orders.cancel, on-behalf
p, role:edge, orders.refund, on-behalf
p, role:edge, stock.reserve, on-behalf
p, role:customer, catalog.read, any
p, role:customer, orders.read, own
p, role:staff, orders.read, any
p, role:admin, orders.refund, any
p, user:eve, orders.cancel, own
g, workload:edge, role:edge
g, role:admin, role:staff
g, user:bo, role:staff
g, user:root, role:admin
g, client:reports, role:staff
p, client:shipper, orders.cancel, any
g, user:gone, role:admin
d, user:gone
g, client:gone, role:admin
d, client:gone
d, user:not-in-policy
`;
const sample = policyOf(sampleText);

t.test('tells a caller without a token from one without a permission', async (t) => {
  for (const { who, permission, lacks } of [
    { who: by('workload:edge'), permission: 'orders.read', lacks: 'token' },
    { who: by('service:reports'), permission: 'orders.read', lacks: 'token' },
    { who: by('service:orders'), permission: 'orders.read', lacks: 'permission' },
    { who: by('workload:edge', 'ada'), permission: 'orders.refund', lacks: 'permission' },
  ]) {
    t.match(sample.decide(who, permission), { allowed: false, lacks }, `${who.workload} ${permission}`);
  }
});

t.test('decides', async (t) => {
  for (const row of [
    { name: 'a workload alone, by any', who: by('service:orders'), permission: 'stock.reserve', is: 'any' },
    { name: 'a workload alone, by on-behalf', who: by('service:reports'), permission: 'orders.read', is: 'denied' },
    {
      name: 'a workload alone, by the on-behalf of its role',
      who: by('workload:edge'),
      permission: 'orders.read',
      is: 'denied',
    },
    { name: 'a workload alone, by no rule', who: by('service:orders'), permission: 'orders.read', is: 'denied' },
    { name: 'an unknown workload', who: by('service:unknown'), permission: 'catalog.read', is: 'denied' },
    { name: 'a permission without a rule', who: by('service:orders'), permission: 'orders.delete', is: 'denied' },
    { name: 'a customer through the edge: own', who: by('workload:edge', 'ada'), permission: 'orders.read', is: 'own' },
    { name: 'any of both', who: by('workload:edge', 'ada'), permission: 'catalog.read', is: 'any' },
    { name: 'staff through the edge: any', who: by('workload:edge', 'bo'), permission: 'orders.read', is: 'any' },
    { name: 'a role of a role', who: by('workload:edge', 'root'), permission: 'orders.read', is: 'any' },
    { name: 'a role itself', who: by('workload:edge', 'root'), permission: 'orders.refund', is: 'any' },
    {
      name: 'a role that one does not have',
      who: by('workload:edge', 'bo'),
      permission: 'orders.refund',
      is: 'denied',
    },
    { name: 'a rule for one user', who: by('workload:edge', 'eve'), permission: 'orders.cancel', is: 'own' },
    {
      name: 'the same rule and another user',
      who: by('workload:edge', 'ada'),
      permission: 'orders.cancel',
      is: 'denied',
    },
    {
      name: 'a user rule beside the role of all',
      who: by('workload:edge', 'eve'),
      permission: 'orders.read',
      is: 'own',
    },
    { name: 'a direct on-behalf rule', who: by('service:reports', 'bo'), permission: 'orders.read', is: 'any' },
    {
      name: 'the user may, the workload may not',
      who: by('service:orders', 'bo'),
      permission: 'orders.read',
      is: 'denied',
    },
    {
      name: 'the workload may, the user may not',
      who: by('service:orders', 'bo'),
      permission: 'stock.reserve',
      is: 'denied',
    },
    {
      name: 'on-behalf where no user may',
      who: by('workload:edge', 'root'),
      permission: 'stock.reserve',
      is: 'denied',
    },
    { name: 'a client by its role', who: client('workload:edge', 'reports'), permission: 'orders.read', is: 'any' },
    { name: 'a client by its rule', who: client('workload:edge', 'shipper'), permission: 'orders.cancel', is: 'any' },
    {
      name: 'a client and what every user may',
      who: client('workload:edge', 'reports'),
      permission: 'catalog.read',
      is: 'denied',
    },
    {
      name: 'an unknown client',
      who: client('workload:edge', 'unknown'),
      permission: 'catalog.read',
      is: 'denied',
    },
    {
      name: 'a client with the name of a user',
      who: client('workload:edge', 'bo'),
      permission: 'orders.read',
      is: 'denied',
    },
    {
      name: 'a user with the name of a client',
      who: by('workload:edge', 'reports'),
      permission: 'orders.read',
      is: 'own',
    },
    {
      name: 'a client through a workload that may not',
      who: client('service:orders', 'reports'),
      permission: 'orders.read',
      is: 'denied',
    },
    { name: 'a denied user', who: by('workload:edge', 'gone'), permission: 'orders.refund', is: 'denied' },
    {
      name: 'a denied user and what every user may',
      who: by('workload:edge', 'gone'),
      permission: 'catalog.read',
      is: 'denied',
    },
    {
      name: 'a denied user whom no other row names',
      who: by('workload:edge', 'not-in-policy'),
      permission: 'catalog.read',
      is: 'denied',
    },
    { name: 'a denied client', who: client('workload:edge', 'gone'), permission: 'orders.refund', is: 'denied' },
    { name: 'a client without a subject', who: client('workload:edge', ''), permission: 'orders.read', is: 'denied' },
    { name: 'an anonymous caller', who: by(null), permission: 'catalog.read', is: 'denied' },
    { name: 'a user without a workload', who: by(null, 'root'), permission: 'catalog.read', is: 'denied' },
    { name: 'an empty workload', who: by('', 'root'), permission: 'catalog.read', is: 'denied' },
    { name: 'an empty subject', who: by('workload:edge', ''), permission: 'catalog.read', is: 'denied' },
    { name: 'an empty permission', who: by('workload:edge', 'root'), permission: '', is: 'denied' },
    { name: 'a workload that is a role', who: by('role:edge', 'root'), permission: 'orders.read', is: 'denied' },
    { name: 'a workload that is a user', who: by('user:root', 'root'), permission: 'orders.read', is: 'denied' },
    {
      name: 'a subject that tries to be a role',
      who: by('workload:edge', 'x:role:admin'),
      permission: 'orders.read',
      is: 'denied',
    },
    { name: 'a subject with a space', who: by('workload:edge', 'bo x'), permission: 'orders.read', is: 'denied' },
    { name: 'a subject that ends a line', who: by('workload:edge', 'bo\n'), permission: 'orders.read', is: 'denied' },
    { name: 'the stand-in for unnamed users', who: by('workload:edge', '-'), permission: 'orders.read', is: 'denied' },
    {
      name: 'names that every object has',
      who: by('workload:edge', '__proto__'),
      permission: 'constructor',
      is: 'denied',
    },
    { name: 'a permission with a wildcard', who: by('workload:edge', 'root'), permission: 'orders.*', is: 'denied' },
    { name: 'a permission in upper case', who: by('workload:edge', 'root'), permission: 'ORDERS.READ', is: 'denied' },
  ]) {
    t.test(row.name, async (t) => {
      for (const time of ['first', 'remembered']) {
        const decision = sample.decide(row.who, row.permission);
        t.equal(outcome(decision), row.is, time);
        t.equal(decision.policyVersion, sample.version);
        if (!decision.allowed) t.not(decision.reason, '');
      }
    });
  }
});

t.test('a cached decision belongs to one principal and one permission', async (t) => {
  const asked = ['catalog.read', 'orders.read', 'orders.cancel', 'orders.refund', 'stock.reserve'];
  const subjects = ['ada', 'bo', 'eve', 'root', 'zoe'];
  const used = policyOf(sampleText);
  for (const round of [1, 2]) {
    for (const subject of subjects) {
      for (const permission of asked) {
        const caller = by('workload:edge', subject);
        const unused = policyOf(sampleText).decide(caller, permission);
        t.same(used.decide(caller, permission), unused, `${subject} ${permission}, round ${round}`);
      }
    }
  }
});

t.test('who may publish', async (t) => {
  t.equal(outcome(sample.mayPublish('service:orders', 'orders.publish')), 'any');
  t.equal(outcome(sample.mayPublish('service:reports', 'orders.publish')), 'denied');
  t.equal(outcome(sample.mayPublish('service:reports', 'orders.read')), 'denied', 'on-behalf is not enough');
  t.equal(outcome(sample.mayPublish('', 'orders.publish')), 'denied');
});

t.test('refuses a policy, naming the line', async (t) => {
  const good = 'p, service:orders, orders.publish, any';
  for (const row of [
    { name: 'an empty one', text: '', problem: /policy has no rule/ },
    { name: 'one of comments', text: '# nothing\n\n', problem: /policy has no rule/ },
    { name: 'one of grants only', text: 'g, user:bo, role:staff', problem: /policy has no rule/ },
    { name: 'an unknown kind of row', text: `${good}\np2, role:a, a.b, any`, problem: /^policy:2: begins with "p2"/ },
    { name: 'a truncated row', text: `${good}\np, role:a, a.b`, problem: /^policy:2: a p row is/ },
    { name: 'a row with too much', text: `${good}\np, role:a, a.b, any, deny`, problem: /^policy:2: a p row is/ },
    { name: 'a comment behind a row', text: `${good} # fine`, problem: /^policy:1: scope "any # fine"/ },
    { name: 'an unknown scope', text: `${good}\n\np, role:a, a.b, all`, problem: /^policy:3: scope "all"/ },
    { name: 'an empty scope', text: `${good}\np, role:a, a.b,`, problem: /^policy:2: scope ""/ },
    { name: 'a scope in upper case', text: 'p, role:a, a.b, Any', problem: /^policy:1: scope "Any"/ },
    { name: 'an empty subject', text: 'p, , a.b, any', problem: /^policy:1: subject ""/ },
    { name: 'a subject of no kind', text: 'p, ada, a.b, any', problem: /^policy:1: subject "ada"/ },
    { name: 'a subject of an unknown kind', text: 'p, group:a, a.b, any', problem: /^policy:1: subject "group:a"/ },
    { name: 'a subject in quotes', text: 'p, "role:a", a.b, any', problem: /^policy:1: subject/ },
    { name: 'all subjects', text: 'p, *, a.b, any', problem: /^policy:1: subject "\*"/ },
    { name: 'a pattern of subjects', text: 'p, user:*, a.b, any', problem: /^policy:1: subject "user:\*"/ },
    { name: 'every permission', text: 'p, role:a, *, any', problem: /^policy:1: permission "\*"/ },
    { name: 'a pattern of permissions', text: 'p, role:a, orders.*, any', problem: /^policy:1: permission "orders/ },
    { name: 'an expression', text: 'p, role:a, eval(r.sub), any', problem: /^policy:1: permission "eval/ },
    { name: 'an empty permission', text: 'p, role:a, , any', problem: /^policy:1: permission ""/ },
    { name: 'a permission of one word', text: 'p, role:a, orders, any', problem: /^policy:1: permission "orders"/ },
    { name: 'the same rule twice', text: `${good}\n${good}`, problem: /^policy:2: .* before, on line 1/ },
    {
      name: 'two scopes for one subject and permission',
      text: 'p, role:a, a.b, any\np, role:a, a.b, own',
      problem: /^policy:2: role:a was given a.b before, on line 1/,
    },
    { name: 'own for a service', text: 'p, service:orders, a.b, own', problem: /^policy:1: service:orders is a work/ },
    { name: 'own for a workload', text: 'p, workload:edge, a.b, own', problem: /^policy:1: workload:edge is a work/ },
    { name: 'own for a client', text: 'p, client:a, a.b, own', problem: /^policy:1: client:a is a client .* not own/ },
    { name: 'on-behalf for a client', text: 'p, client:a, a.b, on-behalf', problem: /^policy:1: client:a is a client/ },
    {
      name: 'own for a role that a client has',
      text: 'p, role:a, a.b, own\ng, role:b, role:a\ng, client:x, role:b',
      problem: /^policy:1: scope own is not for client:x/,
    },
    {
      name: 'on-behalf for a role that a client has',
      text: 'p, role:a, a.b, on-behalf\ng, client:x, role:a',
      problem: /^policy:1: scope on-behalf is not for client:x/,
    },
    { name: 'a denial without a subject', text: `${good}\nd,`, problem: /^policy:2: subject "" is not/ },
    { name: 'a denial of a role', text: `${good}\nd, role:a`, problem: /^policy:2: subject "role:a" is not/ },
    { name: 'a denial of a workload', text: `${good}\nd, service:a`, problem: /^policy:2: subject "service:a" is not/ },
    { name: 'a denial of one permission', text: `${good}\nd, user:a, a.b`, problem: /^policy:2: a d row is/ },
    { name: 'the same denial twice', text: `${good}\nd, user:a\nd,user:a`, problem: /^policy:3: .*on line 2/ },
    { name: 'on-behalf for a user', text: 'p, user:bo, a.b, on-behalf', problem: /^policy:1: user:bo is a user/ },
    {
      name: 'on-behalf for the role of every user',
      text: 'p, role:customer, a.b, on-behalf',
      problem: /^policy:1: scope on-behalf is not for every user, which has role:customer/,
    },
    {
      name: 'on-behalf for a role that a user has',
      text: 'p, role:a, a.b, on-behalf\ng, user:bo, role:a',
      problem: /^policy:1: scope on-behalf is not for user:bo/,
    },
    {
      name: 'on-behalf for a role that a user has through another',
      text: 'p, role:a, a.b, on-behalf\ng, role:b, role:a\ng, user:bo, role:b',
      problem: /^policy:1: scope on-behalf is not for user:bo/,
    },
    {
      name: 'own for a role that a workload has',
      text: 'p, role:a, a.b, own\ng, workload:edge, role:a',
      problem: /^policy:1: scope own is not for workload:edge/,
    },
    {
      name: 'a workload that has the role of every user, which may only own',
      text: 'p, role:customer, a.b, own\ng, service:orders, role:customer',
      problem: /^policy:1: scope own is not for service:orders/,
    },
    { name: 'a grant of too little', text: `${good}\ng, user:bo`, problem: /^policy:2: a g row is/ },
    { name: 'a grant of too much', text: `${good}\ng, user:bo, role:a, role:b`, problem: /^policy:2: a g row is/ },
    { name: 'a grant of a user', text: `${good}\ng, user:bo, user:root`, problem: /^policy:2: role "user:root"/ },
    { name: 'a grant without a member', text: `${good}\ng, , role:a`, problem: /^policy:2: member ""/ },
    {
      name: 'the same grant twice',
      text: `${good}\ng, user:bo, role:a\ng,user:bo,role:a`,
      problem: /^policy:3: .*on line 2/,
    },
    {
      name: 'a role that has itself',
      text: `${good}\ng, role:a, role:a`,
      problem: /^policy:2: role:a would have itself/,
    },
    {
      name: 'a circle of roles',
      text: `${good}\ng, role:a, role:b\ng, role:b, role:c\ng, role:c, role:a`,
      problem: /^policy:4: role:a would have itself through role:c/,
    },
    {
      name: 'a chain of 11 grants',
      text: [
        good,
        'g, user:bo, role:r0',
        ...Array.from({ length: 10 }, (_, i) => `g, role:r${i}, role:r${i + 1}`),
      ].join('\n'),
      problem: /chain of more than 10/,
    },
    {
      name: 'a very long chain',
      text: [good, ...Array.from({ length: 50_000 }, (_, i) => `g, role:r${i}, role:r${i + 1}`)].join('\n'),
      problem: /chain of more than 10[\s\S]*and \d+ more/,
    },
    { name: 'a very long row', text: `p, role:${'a'.repeat(600)}, a.b, any`, problem: /^policy:1: is longer than 512/ },
    { name: 'all that is wrong, at once', text: 'x\ny\nz', problem: /^policy:1: .*\npolicy:2: .*\npolicy:3: / },
    { name: 'only the first twenty', text: 'x\n'.repeat(25), problem: /policy:20: [^\n]*\n… and 5 more$/ },
  ]) {
    t.test(row.name, async (t) => {
      t.throws(() => policyOf(row.text), { name: 'PolicyError', message: row.problem });
    });
  }
});

t.test('a chain of ten grants counts to its end', async (t) => {
  const chain = Array.from({ length: 9 }, (_, index) => `g, role:r${index}, role:r${index + 1}`);
  const policy = policyOf(
    ['p, workload:edge, a.b, on-behalf', 'p, role:r9, a.b, own', 'g, user:bo, role:r0', ...chain].join('\r\n'),
  );
  t.equal(outcome(policy.decide(by('workload:edge', 'bo'), 'a.b')), 'own');
});

t.test('loading a file', async (t) => {
  const folder = t.testdir({});
  const file = join(folder, 'policy.csv');
  await t.rejects(loadPolicy(file), { code: 'ENOENT' }, 'a missing file');
  await t.rejects(loadPolicy(folder), { code: 'EISDIR' }, 'a folder');
  writeFileSync(file, '');
  await t.rejects(loadPolicy(file), { message: /policy\.csv has no rule/ }, 'an empty file');
  writeFileSync(file, Buffer.from([0x70, 0x2c, 0xff, 0xfe]));
  await t.rejects(loadPolicy(file), { message: /is not UTF-8/ }, 'bytes that are no text');
  writeFileSync(file, 'p, role:a, a.b, any\np, role:a');
  await t.rejects(loadPolicy(file), { message: /policy\.csv:2: / }, 'a file cut off in a row');
  writeFileSync(file, 'p, service:a, a.b, any\n');
  const first = await loadPolicy(file);
  const same = await loadPolicy(file);
  writeFileSync(file, 'p, service:b, a.b, any\n');
  const second = await loadPolicy(file);
  t.match(first.version, /^[0-9a-f]{16}$/);
  t.equal(first.version, same.version, 'the version follows from the text');
  t.not(first.version, second.version);
});

t.test('the policy in use', async (t) => {
  const holder = policyHolder();
  const asks = () => holder.decide(by('service:a'), 'a.b');
  t.equal(holder.current(), null);
  t.same(
    asks(),
    { allowed: false, reason: 'no policy', lacks: 'permission', policyVersion: '' },
    'without a policy nothing is allowed',
  );
  const allows = policyOf('p, service:a, a.b, any');
  const denies = policyOf('p, service:b, a.b, any');
  holder.swap(allows);
  t.same(asks(), { allowed: true, scope: 'any', policyVersion: allows.version });
  holder.swap(denies);
  t.equal(holder.current(), denies);
  t.match(asks(), { allowed: false, policyVersion: denies.version }, 'nothing is remembered from the one before');
  holder.swap(null);
  t.match(asks(), { allowed: false, reason: 'no policy' });
  t.throws(() => Object.assign(allows, { decide: () => ({ allowed: true }) }), 'a policy cannot be changed');
  const decision = allows.decide(by('service:a'), 'a.b');
  t.throws(() => Object.assign(decision, { scope: 'own' }), 'nor can a decision that is remembered');
});

t.test('a policy of which only the denials changed', async (t) => {
  const rules = Array.from(
    { length: 20_000 },
    (_, index) => `p, role:r${index % 500}, things.do_${'abcdefghij'[index % 10]}${Math.floor(index / 500)}, any`,
  );
  const head = `${[...new Set(rules)].join('\n')}\np, workload:edge, things.do_a0, on-behalf\ng, user:ada, role:r0\n`;
  const ada = { workload: 'workload:edge', user: { kind: 'user', subject: 'ada', token: '', scope: 'all' } } as const;
  const first = policyOf(`${head}d, user:bo\n`);

  await t.test('decides as one that was read as a whole', async (t) => {
    const denied = policyOf(`${head}d, user:ada\nd, user:bo\n`, 'policy', first);
    t.match(first.decide(ada, 'things.do_a0'), { allowed: true });
    t.match(denied.decide(ada, 'things.do_a0'), { allowed: false, reason: /user:ada is denied everything/ });
    t.equal(denied.version, policyOf(`${head}d, user:ada\nd, user:bo\n`).version);
    const again = policyOf(head, 'policy', denied);
    t.match(again.decide(ada, 'things.do_a0'), { allowed: true });
    t.match(policyOf(`${head}p, role:r0, more.things, any\n`, 'policy', again).decide(ada, 'things.do_a0'), {
      allowed: true,
    });
  });

  await t.test('is not compiled again', async (t) => {
    const took = (before: ReturnType<typeof policyOf> | null) => {
      const times = Array.from({ length: 3 }, (_, index) => {
        const since = performance.now();
        policyOf(`${head}d, user:u${index}\n`, 'policy', before);
        return performance.now() - since;
      });
      return Math.min(...times);
    };
    const [whole, again] = [took(null), took(first)];
    t.comment(`${whole.toFixed(1)} ms as a whole, ${again.toFixed(2)} ms with other denials`);
    t.ok(again * 3 < whole);
  });

  await t.test('is refused for a denial that is none, with its line', async (t) => {
    const lines = head.split('\n').length;
    t.throws(() => policyOf(`${head}d, user:bo\nd, stranger\n`, 'policy', first), {
      message: new RegExp(`^policy:${lines + 1}: `),
    });
    t.throws(() => policyOf(`${head}d, user:bo\nd, user:bo\n`, 'policy', first), { message: /was denied before/ });
    t.throws(() => policyOf(`${head}d, user:bo\nx, y\n`, 'policy', first), { message: /begins with "x"/ });
  });
});
