import { randomUUID } from 'node:crypto';
import { RpcError } from '@armature/clients';
import { Scope } from '@armature/proto/access/v1/access.ts';
import t from 'tap';
import { refusal } from '../../test/support/refusal.ts';
import { startService } from '../../test/support/service.ts';
import { any, clientOf, eventually, serviceClient } from './testbed.ts';

t.setTimeout(120_000);
const service = await startService(t, 'access', { env: { ARMATURE_GRANT_SWEEP_MS: '50' } });
const admin = await clientOf(service, 'admin');
const staff = await clientOf(service, 'bo');
const orders = await serviceClient(service, 'orders');
t.teardown(() => {
  for (const client of [admin, staff, orders]) client.close();
});

let named = 0;
/** A name that is unique in this file. */
const fresh = (kind: string) => `${kind}:t${++named}`;
/** A role without members, which may read orders. */
async function newRole(): Promise<string> {
  const name = fresh('role');
  await admin.putRole({ name, rules: [any('orders.read')] });
  return name;
}
const check = async (subject: string, permission: string) => {
  const { allowed, scope } = await admin.checkAccess({ workload: 'workload:developer', subject, permission });
  return allowed ? scope : null;
};
const later = (ms: number) => new Date(Date.now() + ms);

t.test('the first version comes from the seed file', async (t) => {
  const { versions } = await admin.listPolicyVersions({});
  t.match(versions.at(-1), { version: 1n, changedBy: 'service:access', change: /begins with/ });
  t.match(versions.at(-1)?.digest, /^[0-9a-f]{16}$/);
  const { roles } = await admin.listRoles({});
  t.ok(roles.some(({ name }) => name === 'service:orders'));
  t.match(
    roles.find(({ name }) => name === 'role:service'),
    { rules: [any('access.record'), any('access.watch')] },
  );
  t.equal(await check('user:admin', 'access.write'), Scope.SCOPE_ANY);
});

t.test('lists the permissions of the contracts', async (t) => {
  const { permissions } = await admin.listPermissions({});
  t.match(
    permissions.find(({ name }) => name === 'orders.place'),
    { methods: ['/armature.orders.v1.OrderService/PlaceOrder'] },
  );
});

t.test('only administrators may call', async (t) => {
  await t.rejects(staff.listRoles({}), refusal({ code: 'PERMISSION_DENIED' }));
  await t.rejects(
    orders.grantRole({ member: 'service:orders', role: 'role:admin' }),
    refusal({ reason: 'PERMISSION_DENIED' }),
  );
});

t.test('roles', async (t) => {
  t.test('are made and replaced as a whole', async (t) => {
    const name = fresh('role');
    const made = await admin.putRole({ name, rules: [any('orders.read'), any('catalog.read')] });
    t.match(made, { name, rules: [any('catalog.read'), any('orders.read')] });
    await admin.putRole({ name, rules: [{ permission: 'orders.read', scope: Scope.SCOPE_OWN }] });
    const { roles } = await admin.listRoles({ pageSize: 200 });
    t.strictSame(roles.find((role) => role.name === name)?.rules, [
      { permission: 'orders.read', scope: Scope.SCOPE_OWN },
    ]);
    const { versions } = await admin.listPolicyVersions({ pageSize: 1 });
    t.match(versions, [{ changedBy: 'user:admin', change: /may orders.read with scope own, no longer any/ }]);
  });

  t.test('a workload may have rules of its own', async (t) => {
    await admin.putRole({ name: 'workload:robot', rules: [any('catalog.read')] });
    const ask = { workload: 'workload:robot', subject: '', permission: 'catalog.read' };
    t.match(await admin.checkAccess(ask), { allowed: true });
    await admin.deleteRole({ name: 'workload:robot' });
    t.match(await admin.checkAccess(ask), { allowed: false });
  });

  t.test('rejects a change of a version that is not the current one', async (t) => {
    const name = await newRole();
    const { versions } = await admin.listPolicyVersions({ pageSize: 1 });
    const current = versions[0]!.version;
    await admin.putRole({ name, rules: [any('catalog.read')], expectedVersion: current });
    const stale = admin.putRole({ name, rules: [any('catalog.read')], expectedVersion: current });
    await t.rejects(stale, refusal({ code: 'ABORTED', reason: 'POLICY_CHANGED' }));
  });

  for (const row of [
    { name: 'a permission of no contract', rules: [any('moon.land')], reason: 'PERMISSION_UNKNOWN' },
    { name: 'a permission twice', rules: [any('orders.read'), any('orders.read')], reason: 'RULE_CONFLICT' },
    { name: 'no rule', rules: [], reason: 'FIELDS_INVALID' },
    {
      name: 'no scope',
      rules: [{ permission: 'orders.read', scope: Scope.SCOPE_UNSPECIFIED }],
      reason: 'FIELDS_INVALID',
    },
    {
      name: 'scope own for a workload',
      subject: 'service:orders',
      rules: [{ permission: 'orders.read', scope: Scope.SCOPE_OWN }],
      reason: 'RULE_CONFLICT',
    },
    {
      name: 'scope on-behalf for every user',
      subject: 'role:customer',
      rules: [{ permission: 'orders.read', scope: Scope.SCOPE_ON_BEHALF }],
      reason: 'RULE_CONFLICT',
    },
    {
      name: 'a change that leaves no administrator',
      subject: 'role:admin',
      rules: [any('access.read')],
      reason: 'LAST_ADMINISTRATOR',
    },
    {
      name: 'a change that leaves no workload to carry administration',
      subject: 'role:gateway',
      rules: [any('catalog.read')],
      reason: 'LAST_ADMINISTRATOR',
    },
  ]) {
    t.test(`refused: ${row.name}`, async (t) => {
      const put = admin.putRole({ name: row.subject ?? fresh('role'), rules: row.rules });
      await t.rejects(put, refusal({ reason: row.reason }));
    });
  }

  t.test('are deleted when they have no members', async (t) => {
    const name = await newRole();
    const { grantId } = await admin.grantRole({ member: 'user:bo', role: name });
    await t.rejects(
      admin.deleteRole({ name }),
      refusal({ code: 'FAILED_PRECONDITION', reason: 'ROLE_IN_USE', metadata: { role: name, member: 'user:bo' } }),
    );
    await t.rejects(admin.deleteRole({ name: 'role:customer' }), refusal({ reason: 'ROLE_IN_USE' }));
    await admin.revokeRole({ grantId });
    const own = await admin.grantRole({ member: name, role: 'role:staff' });
    const { policyVersion } = await admin.deleteRole({ name });
    t.ok(policyVersion > own.policyVersion);
    await t.rejects(admin.deleteRole({ name }), refusal({ code: 'NOT_FOUND', reason: 'ROLE_NOT_FOUND' }));
    const { grants } = await admin.listGrants({ member: name });
    t.match(grants, [{ revokedBy: 'user:admin', policyVersion }], 'the grants of the role ended');
  });
});

t.test('grants', async (t) => {
  t.test('give a role until they are revoked', async (t) => {
    const [member, role] = [fresh('user'), await newRole()];
    t.equal(await check(member, 'orders.read'), Scope.SCOPE_OWN, 'as every user');
    const grant = await admin.grantRole({ member, role });
    t.match(grant, { member, role, grantedBy: 'user:admin', revokeTime: undefined, startTime: undefined });
    t.equal(await check(member, 'orders.read'), Scope.SCOPE_ANY);
    const revoked = await admin.revokeRole({ grantId: grant.grantId });
    t.match(revoked, { revokedBy: 'user:admin', policyVersion: grant.policyVersion + 1n });
    t.ok(revoked.revokeTime);
    t.equal(await check(member, 'orders.read'), Scope.SCOPE_OWN);
    await t.rejects(admin.revokeRole({ grantId: grant.grantId }), refusal({ reason: 'GRANT_ENDED' }));
    await t.rejects(admin.revokeRole({ grantId: randomUUID() }), refusal({ reason: 'GRANT_NOT_FOUND' }));
  });

  t.test('of a client give it no role of every user', async (t) => {
    const role = await newRole();
    await admin.grantRole({ member: 'client:reports', role });
    t.equal(await check('client:reports', 'orders.read'), Scope.SCOPE_ANY);
    t.equal(await check('client:reports', 'catalog.read'), null);
  });

  t.test('are refused', async (t) => {
    const [a, b] = [await newRole(), await newRole()];
    await admin.grantRole({ member: a, role: b });
    await admin.grantRole({ member: 'user:bo', role: a });
    for (const row of [
      { name: 'of no role', member: 'user:bo', role: 'role:nothing', reason: 'ROLE_NOT_FOUND' },
      { name: 'to no role', member: 'role:nothing', role: a, reason: 'ROLE_NOT_FOUND' },
      { name: 'twice', member: 'user:bo', role: a, reason: 'GRANT_EXISTS' },
      { name: 'in a circle', member: b, role: a, reason: 'ROLE_CYCLE' },
      {
        name: 'of a role whose rules the member cannot use',
        member: 'user:bo',
        role: 'role:gateway',
        reason: 'RULE_CONFLICT',
      },
      {
        name: 'with a start that is past',
        member: 'user:x',
        role: a,
        startTime: later(-1),
        reason: 'GRANT_TIMES_INVALID',
      },
      {
        name: 'with an end that is past',
        member: 'user:x',
        role: a,
        endTime: later(-1),
        reason: 'GRANT_TIMES_INVALID',
      },
      {
        name: 'with an end before the start',
        member: 'user:x',
        role: a,
        startTime: later(20_000),
        endTime: later(10_000),
        reason: 'GRANT_TIMES_INVALID',
      },
      { name: 'to an invalid member', member: 'unprefixed', role: a, reason: 'FIELDS_INVALID' },
    ]) {
      const { name, reason, ...request } = row;
      await t.rejects(admin.grantRole(request), refusal({ reason }), name);
    }
  });

  t.test('begin and end by the clock, each as a new version', async (t) => {
    const [member, role] = [fresh('user'), await newRole()];
    const [startTime, endTime] = [later(1_500), later(3_000)];
    const grant = await admin.grantRole({ member, role, startTime, endTime });
    t.strictSame([grant.startTime, grant.endTime], [startTime, endTime]);
    t.equal(await check(member, 'orders.read'), Scope.SCOPE_OWN, 'not yet');
    await t.rejects(admin.grantRole({ member, role, startTime: later(2_000) }), refusal({ reason: 'GRANT_EXISTS' }));
    const next = await admin.grantRole({ member, role, startTime: endTime, endTime: later(60_000) });
    await eventually('it begins', async () => (await check(member, 'orders.read')) === Scope.SCOPE_ANY);
    t.ok(Date.now() >= startTime.getTime());
    await eventually('it ends', async () => {
      const { grants } = await admin.listGrants({ member, liveOnly: true });
      return grants.length === 1 && grants[0]?.grantId === next.grantId;
    });
    t.equal(await check(member, 'orders.read'), Scope.SCOPE_ANY, 'the next one has begun with the end of the first');
    const { grants } = await admin.listGrants({ member });
    t.strictSame(
      grants.map(({ grantId }) => grantId),
      [next.grantId, grant.grantId],
    );
    const { versions } = await admin.listPolicyVersions({ pageSize: 3 });
    t.ok(versions.some(({ changedBy, change }) => changedBy === 'service:access' && /has ended/.test(change)));
  });

  t.test('are listed by member and role, page by page', async (t) => {
    const role = await newRole();
    const members = Array.from({ length: 5 }, () => fresh('user'));
    for (const member of members) await admin.grantRole({ member, role });
    const seen: string[] = [];
    let pageToken = '';
    do {
      const page = await admin.listGrants({ role, pageSize: 2, pageToken });
      seen.push(...page.grants.map(({ member }) => member));
      pageToken = page.nextPageToken;
    } while (pageToken);
    t.strictSame(seen, members.toReversed(), 'newest first');
    const foreign = (await admin.listGrants({ role, pageSize: 2 })).nextPageToken;
    await t.rejects(admin.listGrants({ pageToken: foreign }), refusal({ reason: 'PAGE_TOKEN_INVALID' }));
  });
});

t.test('a keyed method acts once', async (t) => {
  const [requestId, member, role] = [randomUUID(), fresh('user'), await newRole()];
  const first = await admin.grantRole({ requestId, member, role });
  t.strictSame(await admin.grantRole({ requestId, member, role }), first);
  await t.rejects(
    admin.grantRole({ requestId, member: fresh('user'), role }),
    refusal({ reason: 'REQUEST_ID_REUSED' }),
  );
  const together = randomUUID();
  const many = await Promise.all(
    Array.from({ length: 5 }, () => admin.revokeRole({ requestId: together, grantId: first.grantId })),
  );
  t.equal(new Set(many.map(({ policyVersion }) => policyVersion)).size, 1);
});

t.test('of two administrators who revoke each other concurrently, one stays', async (t) => {
  for (let round = 0; round < 5; round += 1) {
    const [a, b] = [fresh('user'), fresh('user')];
    const clients = await Promise.all([a, b].map((user) => clientOf(service, user.slice('user:'.length))));
    const ids: string[] = [];
    for (const member of [a, b]) ids.push((await admin.grantRole({ member, role: 'role:admin' })).grantId);
    const { grants } = await admin.listGrants({ member: 'user:admin', role: 'role:admin', liveOnly: true });
    for (const client of clients) {
      await eventually('may administer', () => client.listPermissions({}).catch(() => false as const));
    }
    // From here on these two are the only administrators.
    await clients[0]!.revokeRole({ grantId: grants[0]!.grantId });
    const outcomes = await Promise.allSettled([
      clients[0]!.revokeRole({ grantId: ids[1]! }),
      clients[1]!.revokeRole({ grantId: ids[0]! }),
    ]);
    const refused = outcomes.filter((outcome) => outcome.status === 'rejected');
    t.equal(refused.length, 1, 'one is refused');
    const reason: unknown = refused[0]?.reason;
    t.ok(
      reason instanceof RpcError &&
        ['LAST_ADMINISTRATOR', 'PERMISSION_DENIED', 'ROLE_NOT_ADMINISTERED'].includes(reason.reason),
      String(reason),
    );
    const winner = outcomes[0]?.status === 'fulfilled' ? 0 : 1;
    await t.rejects(clients[winner]!.revokeRole({ grantId: ids[winner]! }), refusal({ reason: 'LAST_ADMINISTRATOR' }));
    await clients[winner]!.grantRole({ member: 'user:admin', role: 'role:admin' });
    await eventually('may administer again', () => admin.listPermissions({}).catch(() => false as const));
    await admin.revokeRole({ grantId: ids[winner]! });
    for (const client of clients) client.close();
  }
});

t.test('ExplainAccess', async (t) => {
  const ask = { workload: 'workload:developer', subject: 'user:bo', permission: 'orders.cancel' };
  const explained = await admin.explainAccess(ask);
  t.match(explained, { allowed: true, scope: Scope.SCOPE_ANY });
  t.match(explained.reasons.at(-1), /user:bo through workload:developer is allowed orders.cancel/);
  t.match(
    explained.grants.map(({ member, role }) => [member, role]),
    [
      ['workload:developer', 'role:gateway'],
      ['user:bo', 'role:staff'],
    ],
  );
  await t.rejects(admin.explainAccess({ ...ask, subject: 'role:staff' }), refusal({ reason: 'FIELDS_INVALID' }));
  await t.rejects(admin.checkAccess({ ...ask, subject: 'bo' }), refusal({ reason: 'FIELDS_INVALID' }));
});

t.test('decisions are recorded once, under the name of the certificate', async (t) => {
  const decisions = Array.from({ length: 5 }, (_, index) => ({
    decisionId: randomUUID(),
    service: 'service:payments',
    workload: 'workload:developer',
    subject: 'user:ada',
    permission: 'orders.read',
    target: `/armature.orders.v1.OrderService/Method${index}`,
    allowed: index % 2 === 0,
    reason: index % 2 === 0 ? '' : 'user:ada may not orders.read',
    policyVersion: '0123456789abcdef',
    callId: randomUUID(),
    count: index + 1,
    decideTime: new Date(1_700_000_000_000 + index),
  }));
  await orders.recordDecisions({ decisions: decisions.slice(0, 3) });
  await orders.recordDecisions({ decisions: [{ ...decisions[0]!, reason: 'changed' }, ...decisions] });
  const { decisions: found } = await admin.listDecisions({ service: 'service:orders' });
  t.strictSame(
    found.toReversed(),
    decisions.map((one) => ({ ...one, service: 'service:orders' })),
  );
  const pages = await admin.listDecisions({
    subject: 'user:ada',
    permission: 'orders.read',
    deniedOnly: true,
    pageSize: 1,
  });
  t.equal(pages.decisions[0]?.decisionId, decisions[3]!.decisionId, 'newest first');
  const rest = await admin.listDecisions({
    subject: 'user:ada',
    permission: 'orders.read',
    deniedOnly: true,
    pageToken: pages.nextPageToken,
  });
  t.strictSame(
    rest.decisions.map(({ decisionId }) => decisionId),
    [decisions[1]!.decisionId],
  );
  await t.rejects(staff.listDecisions({}), refusal({ code: 'PERMISSION_DENIED' }));
  await t.rejects(orders.recordDecisions({ decisions: [] }), refusal({ reason: 'FIELDS_INVALID' }));
  const many = Array.from({ length: 501 }, () => ({ ...decisions[0]!, decisionId: randomUUID() }));
  await t.rejects(orders.recordDecisions({ decisions: many }), refusal({ reason: 'FIELDS_INVALID' }));
  t.equal((await orders.recordDecisions({ decisions: many.slice(1) })) !== undefined, true, '500 at once');
});
