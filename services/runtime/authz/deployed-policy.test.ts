// Compares deploy/policy.csv with a table of permissions and with the contracts, exhaustively in both directions.
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { Caller } from '../context/call-context.ts';
import { reservedPermissions } from './administration.ts';
import { loadPolicy } from './policy.ts';

const root = join(import.meta.dirname, '../../..');
const policy = await loadPolicy(join(root, 'deploy/policy.csv'));

const withUser = (subject: string): Caller => ({
  workload: 'workload:developer',
  user: { kind: 'user', subject, token: '', scope: 'all' },
});
const alone = (workload: string): Caller => ({ workload, user: null });

const customer: Record<string, string> = {
  'catalog.read': 'any',
  'inventory.read': 'any',
  'orders.place': 'own',
  'orders.read': 'own',
  'orders.cancel': 'own',
  'payments.read': 'own',
  'notifications.read': 'own',
  'identity.register': 'any',
  'identity.recover': 'any',
  'identity.read': 'own',
  'identity.update': 'own',
  'identity.change_password': 'own',
  'identity.deactivate': 'own',
  'identity.export': 'own',
  'identity.erase': 'own',
  'identity.sessions.read': 'own',
  'identity.sessions.revoke': 'own',
};
const staff: Record<string, string> = {
  ...customer,
  'catalog.write': 'any',
  'inventory.receive': 'any',
  'inventory.adjust': 'any',
  'inventory.reservations.read': 'any',
  'orders.read': 'any',
  'orders.cancel': 'any',
  'payments.read': 'any',
  'ledger.read': 'any',
  'notifications.read': 'any',
  'notifications.resend': 'any',
  'identity.read': 'any',
  'identity.list': 'any',
};
const admin: Record<string, string> = {
  ...staff,
  'payments.refund': 'any',
  'ledger.reconcile': 'any',
  'ops.channelz': 'any',
  'identity.update': 'any',
  'identity.deactivate': 'any',
  'identity.reactivate': 'any',
  'identity.export': 'any',
  'identity.erase': 'any',
  'identity.sessions.read': 'any',
  'identity.sessions.revoke': 'any',
  'identity.service_accounts': 'any',
  'access.read': 'any',
  'access.write': 'any',
  'access.grant': 'any',
  'access.check': 'any',
  'access.audit': 'any',
};
const operator: Record<string, string> = {
  ...customer,
  'ops.dead_letters.read': 'any',
  'ops.dead_letters.redrive': 'any',
  'ops.dead_letters.drop': 'any',
  'ops.baselines.publish': 'any',
  'ops.sagas.read': 'any',
  'ops.sagas.resume': 'any',
  'ops.sagas.compensate': 'any',
  'payments.operations.read': 'any',
  'payments.operations.resolve': 'any',
  'identity.signing_keys.read': 'any',
  'identity.signing_keys.revoke': 'any',
};
/** Permissions of every service: follow the policy and report its decisions. */
const service: Record<string, string> = { 'access.watch': 'any', 'access.record': 'any' };

/** Everything that is allowed; what a row does not name must be denied. */
const rows: { name: string; who: Caller; may: Record<string, string> }[] = [
  { name: 'a customer', who: withUser('ada'), may: customer },
  { name: 'staff', who: withUser('bo'), may: staff },
  { name: 'an administrator', who: withUser('admin'), may: admin },
  { name: 'an operator', who: withUser('olga'), may: operator },
  {
    name: 'the developer certificate alone',
    who: alone('workload:developer'),
    may: { 'catalog.read': 'any', 'identity.register': 'any', 'identity.recover': 'any' },
  },
  {
    name: 'orders',
    who: alone('service:orders'),
    may: {
      ...service,
      'catalog.read': 'any',
      'inventory.reserve': 'any',
      'inventory.reservations.read': 'any',
      'payments.authorize': 'any',
      'payments.capture': 'any',
      'payments.refund': 'any',
      'payments.read': 'any',
      'orders.publish': 'any',
    },
  },
  { name: 'catalog', who: alone('service:catalog'), may: { ...service, 'catalog.publish': 'any' } },
  { name: 'inventory', who: alone('service:inventory'), may: { ...service, 'inventory.publish': 'any' } },
  { name: 'payments', who: alone('service:payments'), may: { ...service, 'payments.publish': 'any' } },
  { name: 'notifications', who: alone('service:notifications'), may: { ...service, 'orders.contact': 'any' } },
  { name: 'identity', who: alone('service:identity'), may: { ...service, 'identity.publish': 'any' } },
  { name: 'access', who: alone('service:access'), may: service },
  { name: 'acquirer, an external system', who: alone('service:acquirer'), may: {} },
  { name: 'an unknown workload', who: alone('service:unknown'), may: {} },
  {
    name: 'an administrator without a certificate',
    who: { workload: null, user: { kind: 'user', subject: 'admin', token: '', scope: 'all' } },
    may: {},
  },
  {
    name: 'an administrator through notifications',
    who: { ...withUser('admin'), workload: 'service:notifications' },
    may: {},
  },
  {
    name: 'an administrator through orders: what both may',
    who: { ...withUser('admin'), workload: 'service:orders' },
    may: {
      'catalog.read': 'any',
      'inventory.reservations.read': 'any',
      'payments.read': 'any',
      'payments.refund': 'any',
    },
  },
];

const contracted = new Set<string>(['ops.channelz']);
for (const file of globSync(join(root, 'proto/armature/*/v1/*.proto'))) {
  for (const match of readFileSync(file, 'utf8').matchAll(/^\s*permission: "([^"]+)"/gm)) contracted.add(match[1]!);
}

t.test('who may what', async (t) => {
  for (const row of rows) {
    t.test(row.name, async (t) => {
      const allowed: Record<string, string> = {};
      for (const permission of contracted) {
        const decision = policy.decide(row.who, permission);
        if (decision.allowed) allowed[permission] = decision.scope;
      }
      t.strictSame(allowed, row.may);
    });
  }
});

t.test('the contracts reserve what only operators may, and nothing else', async (t) => {
  const of = (who: string) =>
    [...contracted].filter((permission) => policy.decide(withUser(who), permission).allowed).sort();
  const others = new Set(['ada', 'bo', 'admin'].flatMap(of));
  t.strictSame(
    of('olga').filter((permission) => !others.has(permission)),
    [...reservedPermissions].sort(),
  );
});

t.test('policy and contracts name the same permissions', async (t) => {
  const granted = new Set<string>();
  for (const row of readFileSync(join(root, 'deploy/policy.csv'), 'utf8').split('\n')) {
    const [kind, , permission] = row.split(',').map((field) => field.trim());
    if (kind === 'p' && permission) granted.add(permission);
  }
  t.ok(contracted.size > 10, `${contracted.size} permissions in the contracts`);
  t.strictSame([...granted].sort(), [...contracted].sort());
});
