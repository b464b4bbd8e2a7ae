// People sign in to the mesh's own identity, and may what access says: now, and soon after it has said otherwise.
import { setTimeout as sleep } from 'node:timers/promises';
import { accessClient, identityClient, inventoryClient, RpcError } from '@armature/clients';
import t from 'tap';
import { refusal } from '../support/refusal.ts';
import { developerCredentials, startMesh, token } from '../support/service.ts';
import { signIn } from '../support/sign-in.ts';

/** How soon what was taken away is refused, by the contract of RevokeRole. */
const promisedMs = 5_000;

// All at once, and in no order that anything depends on.
const mesh = await startMesh(t, ['inventory', 'identity', 'access'], {}, { realIdentity: true });
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

/** Tries until it is as expected, and answers how long that took. */
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

t.test('who signed in is known to every service, and may what policy says', async (t) => {
  t.match(await bo!.inventory.receiveStock(delivery), { levels: [{ sku: 'TRUST-1' }] });
  await t.rejects(eve!.inventory.receiveStock(delivery), refusal({ code: 'PERMISSION_DENIED' }));
  t.match(await eve!.identity.getUser({ userId: 'eve' }), { email: 'eve@example.org' });
});

t.test("tokens of the tests' key are nobody's here", async (t) => {
  const forged = clientsOf(await token('admin'));
  await t.rejects(forged.inventory.receiveStock(delivery), refusal({ code: 'UNAUTHENTICATED' }));
});

t.test('a role counts without a new token, and is gone within 5 s once it is taken away', async (t) => {
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

t.test('services that start anew know whom to trust', async (t) => {
  const { database, vhost } = mesh.inventory!;
  t.ok(database && vhost);
  t.equal(await mesh.access!.stop(), 0);
  // Access is away: the policy that was confirmed last stays in force.
  t.match(await bo!.inventory.receiveStock(delivery), { levels: [{ sku: 'TRUST-1' }] });
});
