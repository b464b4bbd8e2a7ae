// People sign in to the mesh's own identity, and access decides what they may do: changes apply soon.
import { setTimeout as sleep } from 'node:timers/promises';
import { accessClient, identityClient, inventoryClient, RpcError } from '@armature/clients';
import t from 'tap';
import { identityTrust } from '../../scripts/devmesh/environment.ts';
import { reservePorts } from '../../scripts/devmesh/ports.ts';
import { createVhost, testServers } from '../support/infra.ts';
import { refusal } from '../support/refusal.ts';
import { developerCredentials, startMesh, startService, token } from '../support/service.ts';
import { signIn } from '../support/sign-in.ts';

/** Time limit by the contract of RevokeRole after which a revoked permission must be refused. */
const promisedMs = 5_000;

// All start at once; no service depends on the order. Events of identity wait until all their consumers have queues.
const away = { catalog: '127.0.0.1:1', payments: '127.0.0.1:1' };
const mesh = await startMesh(
  t,
  ['inventory', 'identity', 'access', 'orders', 'notifications'],
  { peers: away },
  { realIdentity: true },
);
const tls = await developerCredentials();

function clientsOf(bearer: string) {
  const to = (name: string) => ({ addresses: [mesh[name]!.grpc], tls, token: () => bearer });
  const clients = {
    access: accessClient(to('access')),
    identity: identityClient(to('identity')),
    inventory: inventoryClient(to('inventory')),
  };
  t.teardown(() => {
    for (const client of Object.values(clients)) client.close();
  });
  return clients;
}

const delivery = { locationId: 'main', lines: [{ sku: 'TRUST-1', quantity: 1n }] };
const tokens = await Promise.all(['admin', 'bo', 'eve'].map((id) => signIn(mesh, id)));
const [admin, bo, eve] = tokens.map(clientsOf);

/** Retries until the result is as expected, and returns how long that took. */
async function untilDelivering(as: typeof eve, allowed: boolean): Promise<number> {
  const start = performance.now();
  for (;;) {
    const outcome = await as!.inventory.receiveStock(delivery).then(
      () => true,
      (error: unknown) => {
        if (error instanceof RpcError && error.code === 'PERMISSION_DENIED') return false;
        throw error;
      },
    );
    const tookMs = performance.now() - start;
    if (outcome === allowed) return tookMs;
    if (tookMs > 4 * promisedMs) throw new Error(`still ${outcome ? 'allowed' : 'denied'} after ${tookMs} ms`);
    await sleep(20);
  }
}

t.test('a signed-in user is known to every service, and has the permissions of the policy', async (t) => {
  t.match(await bo!.inventory.receiveStock(delivery), { levels: [{ sku: 'TRUST-1' }] });
  await t.rejects(eve!.inventory.receiveStock(delivery), refusal({ code: 'PERMISSION_DENIED' }));
  t.match(await eve!.identity.getUser({ userId: 'eve' }), { email: 'eve@example.org' });
});

t.test("tokens signed with the tests' key are refused", async (t) => {
  const forged = clientsOf(await token('admin'));
  await t.rejects(forged.inventory.receiveStock(delivery), refusal({ code: 'UNAUTHENTICATED' }));
});

t.test('a role applies without a new token, and is gone within 5 s after its revocation', async (t) => {
  const { grantId } = await admin!.access.grantRole({ member: 'user:eve', role: 'role:staff' });
  const granted = await untilDelivering(eve, true);
  await admin!.access.revokeRole({ grantId });
  const revoked = await untilDelivering(eve, false);
  t.comment(`granted after ${granted.toFixed(0)} ms, revoked after ${revoked.toFixed(0)} ms`);
  t.ok(revoked < promisedMs, `revoked after ${revoked} ms`);
});

t.test('a deactivated account is refused with the token that it still has', async (t) => {
  await admin!.identity.deactivateUser({ userId: 'bo' });
  const closed = await untilDelivering(bo, false);
  t.comment(`refused after ${closed.toFixed(0)} ms`);
  await t.rejects(signIn(mesh, 'bo'), { message: /does not let bo@example\.org in \(401\)/ });
  await admin!.identity.reactivateUser({ userId: 'bo' });
  await untilDelivering(bo, true);
});

t.test('while access and identity are away, their last data stay in force', async (t) => {
  const codes = await Promise.all([mesh.access!.stop(), mesh.identity!.stop()]);
  t.same(codes, [0, 0]);
  t.match(await bo!.inventory.receiveStock(delivery), { levels: [{ sku: 'TRUST-1' }] });
  await t.rejects(eve!.inventory.receiveStock(delivery), refusal({ code: 'PERMISSION_DENIED' }));
});

t.test('a service that starts before access and identity denies every call until they are there', async (t) => {
  const { state } = await testServers();
  const vhost = await createVhost(t);
  const [access, identity, identityHttps] = (await reservePorts(state, 3)).map((port) => `127.0.0.1:${port}`);
  const shared = { vhost, peers: { access, identity }, tokens: identityTrust(identityHttps!) };
  const inventory = await startService(t, 'inventory', shared);
  const bearer = { value: '' };
  const client = inventoryClient({ addresses: [inventory.grpc], tls, token: () => bearer.value || undefined });
  t.teardown(() => client.close());
  await t.rejects(client.receiveStock(delivery), refusal({ code: 'UNAVAILABLE' }));
  const readiness = async () => (await fetch(`http://${inventory.admin}/readyz`)).text();
  t.match(await readiness(), /^waiting for policy: .*, token keys: https:.*ECONNREFUSED/);
  t.match(inventory.logs(), /"msg":"started, but not ready"/);
  const late = await startService(t, 'identity', { ...shared, grpc: identity, http: identityHttps });
  await startService(t, 'access', { ...shared, grpc: access });
  bearer.value = await signIn({ identity: late }, 'bo');
  const deadline = Date.now() + 60_000;
  for (;;) {
    const outcome = await client.receiveStock(delivery).catch((error: unknown) => error);
    if (!(outcome instanceof Error)) break;
    if (!(outcome instanceof RpcError && outcome.code === 'UNAVAILABLE') || Date.now() > deadline) throw outcome;
    await sleep(50);
  }
  t.equal(await readiness(), 'ready\n', 'it trusts them now');
});
