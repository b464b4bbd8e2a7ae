// Who may give which roles: reserved permissions, and roles that the caller does not administer.
import t, { type Test } from 'tap';
import { refusal } from '../../test/support/refusal.ts';
import { startService } from '../../test/support/service.ts';
import { type AccessClient, any, clientOf, eventually } from './testbed.ts';

t.setTimeout(120_000);
const service = await startService(t, 'access');
const admin = await connect(t, 'admin');
const later = (ms: number) => new Date(Date.now() + ms);
const reserved = refusal({ code: 'PERMISSION_DENIED', reason: 'PERMISSION_RESERVED' });
const notAdministered = (role: string, permissions: string) =>
  refusal({ code: 'PERMISSION_DENIED', reason: 'ROLE_NOT_ADMINISTERED', metadata: { role, permissions } });

async function connect(t: Test, user: string, to = service): Promise<AccessClient> {
  const client = await clientOf(to, user);
  t.teardown(() => client.close());
  return client;
}

const rulesOf = async (name: string) => {
  const { roles } = await admin.listRoles({ pageSize: 200 });
  return roles.find((role) => role.name === name)?.rules ?? [];
};
const versionOf = async () => (await admin.listPolicyVersions({ pageSize: 1 })).versions[0]!.version;

t.test('an administrator cannot become an operator', async (t) => {
  const before = await versionOf();
  const cases: Record<string, () => Promise<unknown>> = {
    'by a grant': () => admin.grantRole({ member: 'user:admin', role: 'role:operator' }),
    'by a grant that begins later': () =>
      admin.grantRole({ member: 'user:admin', role: 'role:operator', startTime: later(60_000) }),
    'by a role': () => admin.grantRole({ member: 'role:staff', role: 'role:operator' }),
    'through a program': () => admin.grantRole({ member: 'client:reports', role: 'role:operator' }),
    'through a workload': () => admin.grantRole({ member: 'workload:developer', role: 'role:operator' }),
    'by rules of a new role': () => admin.putRole({ name: 'role:mine', rules: [any('ops.sagas.compensate')] }),
    'by rules of its own role': async () =>
      admin.putRole({ name: 'role:admin', rules: [...(await rulesOf('role:admin')), any('ops.sagas.read')] }),
    'by rules of a workload': () =>
      admin.putRole({ name: 'workload:developer', rules: [any('payments.operations.resolve')] }),
  };
  for (const [name, change] of Object.entries(cases)) await t.rejects(change(), reserved, name);
  const one = admin.putRole({ name: 'role:mine', rules: [any('ops.sagas.read'), any('orders.read')] });
  await t.rejects(one, refusal({ metadata: { permissions: 'ops.sagas.read' } }), 'the refusal names the permissions');
  t.equal(await versionOf(), before, 'and nothing has changed');
});

t.test('nor prolong the time for which a person is one', async (t) => {
  const granting = await startService(t, 'access', { env: { ARMATURE_RESERVED_PERMISSIONS: 'grantable' } });
  const deployer = await connect(t, 'admin', granting);
  const endTime = later(60_000);
  await deployer.grantRole({ member: 'user:nia', role: 'role:operator', endTime });
  await deployer.putRole({ name: 'role:mine', rules: [any('ops.sagas.read')] });
  t.pass('where the deployment allows it, reserved permissions are given');
  const { database, vhost } = granting;
  await granting.stop();
  const again = await startService(t, 'access', { database, vhost });
  const without = await connect(t, 'admin', again);
  const more = without.grantRole({ member: 'user:nia', role: 'role:operator', startTime: endTime });
  await t.rejects(more, reserved);
  await t.rejects(without.grantRole({ member: 'user:admin', role: 'role:mine' }), reserved, 'a role that has one');
});

t.test('roles with reserved permissions can be changed otherwise, and taken', async (t) => {
  const gateway = await rulesOf('role:gateway');
  await admin.putRole({
    name: 'role:gateway',
    rules: gateway.filter(({ permission }) => permission !== 'ledger.read'),
  });
  await admin.putRole({ name: 'role:gateway', rules: gateway });
  const { grants } = await admin.listGrants({ member: 'user:olga', liveOnly: true });
  t.match(await admin.revokeRole({ grantId: grants[0]!.grantId }), { revokedBy: 'user:admin' });
});

t.test('who may only grant gives and takes what it has itself', async (t) => {
  await admin.putRole({ name: 'role:helpdesk', rules: [any('access.grant'), any('access.read'), any('orders.read')] });
  await admin.putRole({ name: 'role:reader', rules: [any('orders.read')] });
  await admin.grantRole({ member: 'user:hana', role: 'role:helpdesk' });
  const hana = await connect(t, 'hana');
  await eventually('the grant counts', () => hana.listRoles({}).catch(() => false as const));
  const given = await hana.grantRole({ member: 'user:ada', role: 'role:reader' });
  t.match(await hana.revokeRole({ grantId: given.grantId }), { revokedBy: 'user:hana' });
  const lacks = notAdministered(
    'role:staff',
    'catalog.write,identity.list,identity.read,inventory.adjust,inventory.receive,inventory.reservations.read,ledger.read,notifications.read,notifications.resend,orders.cancel,payments.read',
  );
  await t.rejects(hana.grantRole({ member: 'user:hana', role: 'role:staff' }), lacks);
  await t.rejects(
    hana.grantRole({ member: 'user:hana', role: 'role:admin' }),
    refusal({ reason: 'ROLE_NOT_ADMINISTERED' }),
    'to become an administrator',
  );
  await t.rejects(hana.grantRole({ member: 'role:helpdesk', role: 'role:staff' }), lacks, 'by its own role');
  const { grants } = await admin.listGrants({ member: 'user:bo', liveOnly: true });
  await t.rejects(hana.revokeRole({ grantId: grants[0]!.grantId }), lacks, 'nor takes');
});

t.test('who may only write roles gives no permission that it has not', async (t) => {
  await admin.putRole({ name: 'role:writer', rules: [any('access.write'), any('access.read'), any('catalog.write')] });
  await admin.grantRole({ member: 'user:wim', role: 'role:writer' });
  const wim = await connect(t, 'wim');
  await eventually('the grant counts', () => wim.listRoles({}).catch(() => false as const));
  await wim.putRole({ name: 'role:editor', rules: [any('catalog.write'), any('catalog.read')] });
  const more = [any('access.write'), any('access.read'), any('catalog.write'), any('access.grant')];
  await t.rejects(
    wim.putRole({ name: 'role:writer', rules: more }),
    notAdministered('role:writer', 'access.grant'),
    'to its own role',
  );
  await t.rejects(
    wim.putRole({ name: 'role:reader', rules: [any('catalog.read')] }),
    notAdministered('role:reader', 'orders.read'),
    'nor takes one',
  );
  await t.rejects(wim.deleteRole({ name: 'role:reader' }), notAdministered('role:reader', 'orders.read'));
  t.match(await wim.deleteRole({ name: 'role:editor' }), { policyVersion: await versionOf() });
});
