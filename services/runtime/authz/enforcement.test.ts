// A real service that follows a scripted access: which calls it allows, its health and metrics, and what it records.
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type access, inventoryClient, RpcError } from '@armature/clients';
import t, { type Test } from 'tap';
import { startService, token, workloadCertificate } from '../../../test/support/service.ts';
import { network, type ScriptedAccess, scriptedAccess, until } from '../testing/policy.ts';

const policyText = readFileSync(join(import.meta.dirname, '../../../deploy/policy.csv'), 'utf8');
const withoutBo = policyText.replace('g, user:bo, role:staff', '');
const tls = await workloadCertificate('developer');
t.setTimeout(120_000);

async function startInventory(t: Test, wire: { address: string }, more: Parameters<typeof startService>[2] = {}) {
  const copies = more.env?.ARMATURE_COPY_DIR ?? t.testdir({});
  const service = await startService(t, 'inventory', {
    ...more,
    env: {
      ARMATURE_POLICY_FILE: undefined,
      ARMATURE_PEER_ACCESS: wire.address,
      ARMATURE_COPY_DIR: copies,
      ...more.env,
    },
  });
  const as = async (subject: string, clientId?: string) => {
    const bearer = await token(subject, clientId ? { clientId } : {});
    const client = inventoryClient({ addresses: [service.grpc], tls, token: () => bearer });
    t.teardown(() => client.close());
    return {
      receive: () =>
        outcome(
          client.receiveStock({
            locationId: 'main',
            lines: [{ sku: `S-${randomUUID().toUpperCase()}`, quantity: 1n }],
          }),
        ),
      read: () => outcome(client.batchGetStock({ skus: ['NONE'] })),
    };
  };
  const ready = async () => (await fetch(`http://${service.admin}/readyz`)).text();
  return { ...service, as, ready, copies };
}

async function outcome(call: Promise<unknown>): Promise<string> {
  try {
    await call;
    return 'ok';
  } catch (error) {
    if (!(error instanceof RpcError)) throw error;
    return error.reason;
  }
}

const records = (access: ScriptedAccess): access.Decision[] => access.recorded.flatMap(({ decisions }) => decisions);

t.test('follows, decides, records', async (t) => {
  const access = await scriptedAccess(t);
  access.publish(policyText);
  const service = await startInventory(t, access);
  const [bo, ada, ci] = [await service.as('bo'), await service.as('ada'), await service.as('ci', 'ci')];
  await until('it is ready', async () => (await service.ready()) === 'ready\n');
  t.equal(await bo.receive(), 'ok');
  t.equal(await ada.receive(), 'PERMISSION_DENIED');
  t.equal(await ci.receive(), 'PERMISSION_DENIED', 'a client has nothing that it was not granted');
  t.equal(await ci.read(), 'PERMISSION_DENIED', 'not even what every user has');

  access.publish(`${policyText}\ng, client:ci, role:staff\n`);
  await until('the client is granted', async () => (await ci.receive()) === 'ok');
  access.publish(withoutBo);
  const ms = await until('the revocation counts', async () => (await bo.receive()) === 'PERMISSION_DENIED');
  t.comment(`from the revocation to the first refusal over the wire: ${ms.toFixed(1)} ms`);
  t.ok(ms < 5_000);
  access.publish(`${policyText}\nd, user:ada\n`);
  await until('the account is denied', async () => (await ada.read()) === 'PERMISSION_DENIED');

  const has = (allowed: boolean, subject: string) =>
    records(access).some((one) => one.allowed === allowed && one.subject === subject);
  await until('all is recorded', () => has(true, 'user:bo') && has(true, 'client:ci') && has(false, 'client:ci'));
  await until('denials too', () => has(false, 'user:bo') && has(false, 'user:ada'));
  const allowed = records(access).filter((one) => one.allowed);
  t.ok(allowed.every((one) => one.target.endsWith('/ReceiveStock') && one.service === 'service:inventory'));
  t.ok(records(access).some((one) => !one.allowed && one.reason === 'user:ada is denied everything'));
  t.equal(await service.stop(), 0);
});

t.test('without a policy it is not ready; then it is; and then no longer', async (t) => {
  const access = await scriptedAccess(t);
  const wire = await network(t, access.address);
  wire.down = true;
  const first = await startInventory(t, wire, { env: { ARMATURE_POLICY_AGE_MAX_MS: '5000' } });
  const bo = await first.as('bo');
  t.match(await first.ready(), /^waiting for policy: .*\n$/);
  t.equal(await bo.read(), 'POLICY_UNAVAILABLE');
  access.publish(policyText);
  wire.down = false;
  await until('it is ready', async () => (await first.ready()) === 'ready\n');
  t.equal(await bo.read(), 'ok');
  access.silent = true;
  await until('its policy is too old', async () =>
    /^waiting for policy: access has not confirmed it for \d+ s: no message/.test(await first.ready()),
  );
  t.equal(await bo.read(), 'POLICY_UNAVAILABLE');
  access.silent = false;
  await until('it is ready again', async () => (await bo.read()) === 'ok');
});

t.test('starts from its copy when access is away', async (t) => {
  const access = await scriptedAccess(t);
  const wire = await network(t, access.address);
  access.publish(policyText);
  const first = await startInventory(t, wire);
  await first.stop();
  wire.down = true;
  const { database, vhost } = first;
  const second = await startInventory(t, wire, { database, vhost, env: { ARMATURE_COPY_DIR: first.copies } });
  await until('it is ready', async () => (await second.ready()) === 'ready\n');
  t.equal(await (await second.as('bo')).receive(), 'ok');
});

t.test('says what its configuration lacks', async (t) => {
  const env = { ARMATURE_POLICY_FILE: undefined, ARMATURE_PEER_ACCESS: undefined, ARMATURE_COPY_DIR: undefined };
  await t.rejects(startService(t, 'inventory', { env }), {
    message: /ended with 2 .*ARMATURE_PEER_ACCESS is not set.*ARMATURE_COPY_DIR is not set/s,
  });
});
