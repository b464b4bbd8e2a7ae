// What limits a caller that has the permission: the scope of its token, and the rights of the account that it changes.
import t from 'tap';
import type { Caller } from '../context/call-context.ts';
import { tokenScopeOf } from '../context/token-scope.ts';
import { policyOf } from './policy.ts';

const by = (workload: string, subject?: string): Caller => ({
  workload,
  user: subject === undefined ? null : { kind: 'user', subject, token: 'token', scope: 'all' },
});
const client = (workload: string, subject: string): Caller => ({
  workload,
  user: { kind: 'client', subject, token: 'token', scope: 'all' },
});

t.test('a token may do what its scope and its user both may', async (t) => {
  const policy = policyOf(`
p, service:reports, orders.read, on-behalf
p, workload:edge, catalog.read, any
p, role:edge, orders.read, on-behalf
p, role:edge, orders.refund, on-behalf
p, role:customer, orders.read, own
p, role:customer, catalog.read, any
p, role:staff, orders.read, any
p, role:admin, orders.refund, any
g, workload:edge, role:edge
g, role:admin, role:staff
g, user:root, role:admin
g, client:reports, role:staff
`);
  for (const [who, scope, permission, is] of [
    [by('workload:edge', 'ada'), 'all', 'orders.read', 'own'],
    [by('workload:edge', 'ada'), 'orders', 'orders.read', 'own'],
    [by('workload:edge', 'ada'), 'catalog.read orders.read', 'orders.read', 'own'],
    [by('workload:edge', 'ada'), 'catalog', 'orders.read', 'scope'],
    [by('workload:edge', 'ada'), '', 'orders.read', 'scope'],
    [by('workload:edge', 'ada'), 'openid email', 'orders.read', 'scope'],
    [by('workload:edge', 'root'), 'orders.cancel', 'orders.read', 'scope'],
    [by('workload:edge', 'ada'), 'all', 'orders.refund', 'permission'],
    [by('workload:edge', 'ada'), 'orders.refund', 'orders.refund', 'permission'],
    [by('workload:edge', 'ada'), 'orders', 'catalog.read', 'scope'],
    [client('workload:edge', 'reports'), 'orders', 'orders.read', 'any'],
    [client('workload:edge', 'reports'), 'ledger', 'orders.read', 'scope'],
    [by('service:reports', 'ada'), 'orders.read', 'orders.read', 'own'],
    [by('service:reports', 'ada'), 'catalog', 'orders.read', 'scope'],
  ] as const) {
    const caller = { ...who, user: { ...who.user!, scope: tokenScopeOf(scope) } };
    const decision = policy.decide(caller, permission);
    const name = `${who.workload}, ${who.user?.subject}, "${scope}", ${permission}`;
    t.equal(decision.allowed ? decision.scope : decision.lacks, is, name);
  }
  const shop = policyOf('p, service:orders, catalog.read, any\np, role:customer, catalog.read, any\n');
  const part = { kind: 'user', subject: 'ada', token: '', scope: tokenScopeOf('orders.place') } as const;
  const inner = shop.decide({ workload: 'service:orders', user: part }, 'catalog.read');
  t.match(inner, { allowed: true }, 'a service that may by itself serves a call that was in scope where it came in');
});

t.test('a change of an account needs the rights of that account', async (t) => {
  const text = `
p, role:edge, accounts.update, on-behalf
g, workload:edge, role:edge
p, service:janitor, accounts.update, any
p, role:customer, catalog.read, any
p, role:customer, accounts.update, own
p, role:staff, orders.read, any
p, role:helpdesk, accounts.update, any
p, role:admin, accounts.update, any
p, role:admin, access.grant, any
p, role:admin, access.write, any
p, role:auditor, ledger.read, any
p, role:operator, ops.sagas.read, any
p, role:both, accounts.update, any
g, role:both, role:operator
g, user:hana, role:helpdesk
g, user:bo, role:staff
g, user:root, role:admin
g, user:ria, role:admin
g, user:aud, role:auditor
g, user:olga, role:operator
g, user:max, role:both
g, client:reports, role:staff
g, client:jobs, role:operator
`;
  const policy = policyOf(text);
  for (const [who, target, is] of [
    ['ada', 'user:ada', 'own'],
    ['hana', 'user:ada', 'any'],
    ['hana', 'user:hana', 'any'],
    ['hana', 'client:unknown', 'any'],
    ['hana', 'user:bo', 'target'],
    ['hana', 'user:root', 'target'],
    ['hana', 'client:reports', 'target'],
    ['root', 'user:ada', 'any'],
    ['root', 'user:bo', 'any'],
    ['root', 'user:ria', 'any'],
    ['root', 'user:aud', 'any'],
    ['root', 'client:reports', 'any'],
    ['root', 'user:olga', 'target'],
    ['root', 'user:max', 'target'],
    ['root', 'client:jobs', 'target'],
    ['max', 'user:olga', 'any'],
    ['max', 'user:bo', 'target'],
  ] as const) {
    const decision = policy.decide(by('workload:edge', who), 'accounts.update', target);
    t.equal(decision.allowed ? decision.scope : decision.lacks, is, `${who} changes ${target}`);
  }
  const janitor = by('service:janitor');
  t.match(policy.decide(janitor, 'accounts.update', 'user:ada'), { allowed: true }, 'a workload by itself');
  t.match(policy.decide(janitor, 'accounts.update', 'user:bo'), { allowed: false, lacks: 'target' });
});
