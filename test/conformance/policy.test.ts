// Access policy in the services that follow it, over the wire: revoked, withdrawn, changed under load.
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { accessClient } from '@armature/clients';
import { CatalogServiceContract } from '@armature/proto/catalog/v1/contract.ts';
import type { MethodContract } from '@armature/proto/contract.ts';
import { InventoryServiceContract } from '@armature/proto/inventory/v1/contract.ts';
import { scriptedAccess, until } from '@armature/runtime/testing';
import t, { type Test } from 'tap';
import { type RunningService, startMesh, startService, token, workloadCertificate } from '../support/service.ts';
import { amount } from '../support/tier.ts';
import { openWire, type Wire } from './wire.ts';

t.setTimeout(300_000);
const tls = await workloadCertificate('developer');
const bearers = new Map<string, string>();
for (const subject of ['ada', 'bo', 'eve', 'admin', 'mallory']) bearers.set(subject, await token(subject));

const { listProducts, createCategory } = CatalogServiceContract.methods;
const { batchGetStock, adjustStock, getReservation } = InventoryServiceContract.methods;
const unknownId = '00000000-0000-4000-8000-000000000000';
const bytesOf = <Req>(method: MethodContract<Req>, message: object) =>
  method.request.encode(method.request.fromPartial(message)).finish();

/** The verdict on a call: OK and business errors count as allowed. */
async function verdict(wire: Wire, subject: string, method: MethodContract, message: object): Promise<string> {
  const headers = { authorization: `Bearer ${bearers.get(subject)}`, 'grpc-timeout': '10S' };
  const { code, error } = await wire.call(method.path, { message: bytesOf(method, message), headers });
  if (code === 'PERMISSION_DENIED') return 'denied';
  if (error?.reason === 'POLICY_UNAVAILABLE') return code === 'UNAVAILABLE' ? 'no policy' : `no policy as ${code}`;
  return ['OK', 'NOT_FOUND', 'INVALID_ARGUMENT', 'ALREADY_EXISTS'].includes(code) ? 'allowed' : code;
}

/** Calls that staff may make and customers may not, at each of the two services. */
const asStaff = {
  catalog: (wire: Wire, who: string) =>
    verdict(wire, who, createCategory, { requestId: unknownId, slug: 'x', title: 'x' }),
  inventory: (wire: Wire, who: string) => verdict(wire, who, getReservation, { reservationId: unknownId }),
};
const asCustomer = (wire: Wire) => verdict(wire, 'ada', batchGetStock, { skus: ['NONE'] });

async function wireTo(t: Test, { grpc }: RunningService): Promise<Wire> {
  const wire = await openWire(grpc, tls);
  t.teardown(() => wire.close());
  return wire;
}

const ready = async ({ admin }: RunningService) => (await fetch(`http://${admin}/readyz`)).ok;

t.test('with the real access', async (t) => {
  const policyAgeMs = amount(5_000, 8_000);
  const copyDir = mkdtempSync(join(tmpdir(), 'armature-copies-'));
  t.teardown(() => rmSync(copyDir, { recursive: true, force: true }));
  const env = { ARMATURE_POLICY_AGE_MAX_MS: String(policyAgeMs) };
  const mesh = await startMesh(t, ['access', 'catalog', 'inventory'], (name) => ({
    env: name === 'inventory' ? { ...env, ARMATURE_COPY_DIR: copyDir } : env,
  }));
  const [access, catalog, inventory] = [mesh.access!, mesh.catalog!, mesh.inventory!];
  const wires = { catalog: await wireTo(t, catalog), inventory: await wireTo(t, inventory) };

  await t.test('a revoked grant has no effect after 5 s', async (t) => {
    const bearer = bearers.get('admin')!;
    const administrator = accessClient({ addresses: [access.grpc], tls, token: () => bearer });
    t.teardown(() => administrator.close());
    const worst = { catalog: 0, inventory: 0 };
    for (let round = 0; round < amount(2, 5); round += 1) {
      const { grantId } = await administrator.grantRole({ member: 'user:mallory', role: 'role:staff' });
      const services = ['catalog', 'inventory'] as const;
      const probe = (name: (typeof services)[number]) => asStaff[name](wires[name], 'mallory');
      for (const name of services) await until('the grant counts', async () => (await probe(name)) === 'allowed');
      await administrator.revokeRole({ grantId });
      const revokedAt = performance.now();
      await Promise.all(
        services.map(async (name) => {
          // A call is decided after it begins, so the last allowed call began no later than its decision.
          for (let denials = 0; denials < 20; ) {
            const began = performance.now() - revokedAt;
            if ((await probe(name)) === 'denied') denials += 1;
            else [denials, worst[name]] = [0, Math.max(worst[name], began)];
            if (began > 30_000) throw new Error(`${name} still allows a former member of staff after 30 s`);
          }
        }),
      );
    }
    for (const [name, ms] of Object.entries(worst)) {
      t.ok(ms < 5_000, `${name}: the last call that was let through began ${ms.toFixed(0)} ms after the response`);
    }
  });

  await t.test('without access the policy stays in force for a time, and then every call is refused', async (t) => {
    await access.kill();
    const killedAt = performance.now();
    t.equal(await asCustomer(wires.inventory), 'allowed', 'by the last good copy');
    let lastAllowed = 0;
    await until('nothing is allowed', async () => {
      const began = performance.now() - killedAt;
      const said = await asCustomer(wires.inventory);
      if (said === 'allowed') lastAllowed = began;
      else t.equal(said, 'no policy');
      await sleep(50);
      return said !== 'allowed';
    });
    t.ok(lastAllowed < policyAgeMs + 500, `the last call was let through ${lastAllowed.toFixed(0)} ms after the end`);
    await until('neither is anything else', async () => (await asStaff.catalog(wires.catalog, 'bo')) === 'no policy');
    t.equal(await verdict(wires.catalog, 'admin', listProducts, {}), 'no policy', 'to an administrator either');
    await until('it says that it is not ready', async () => !(await ready(inventory)));
  });

  await t.test('and recovers with it', async (t) => {
    const { database, vhost, grpc } = access;
    await startService(t, 'access', { database, vhost, grpc, peers: {}, env });
    await until('customers are served', async () => (await asCustomer(wires.inventory)) === 'allowed');
    await until('so is staff', async () => (await asStaff.catalog(wires.catalog, 'bo')) === 'allowed');
    await until('and it says so', async () => ready(inventory));
    t.equal(await asStaff.inventory(wires.inventory, 'ada'), 'denied');
  });
});

t.test('started while access is away', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'armature-copies-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  const access = await scriptedAccess(t);
  access.publish(policyFor('ada'));
  const options = { peers: { access: access.address }, env: { ARMATURE_COPY_DIR: dir } };
  const first = await startService(t, 'inventory', options);
  await until('it is allowed', async () => (await asCustomer(await wireTo(t, first))) === 'allowed');
  t.equal(await first.stop(), 0);
  await access.stop();
  const again = { ...options, database: first.database, vhost: first.vhost };
  const copy = join(dir, readdirSync(dir).find((name) => /policy/.test(name)) ?? 'none');
  const whole = readFileSync(copy);

  for (const row of [
    { name: 'it uses the copy', change: () => {}, says: 'allowed', ready: true },
    {
      name: 'a copy with one changed bit is rejected',
      change: () => spoil(copy, whole),
      says: 'no policy',
      ready: false,
    },
    { name: 'without a copy nothing is allowed', change: () => rmSync(copy), says: 'no policy', ready: false },
  ]) {
    await t.test(row.name, async (t) => {
      row.change();
      const service = await startService(t, 'inventory', again);
      t.equal(await asCustomer(await wireTo(t, service)), row.says);
      t.equal(await ready(service), row.ready, 'ready');
      await service.stop();
    });
  }
});

function spoil(file: string, whole: Buffer): void {
  const spoiled = Buffer.from(whole);
  const at = spoiled.length - 10;
  spoiled[at] = spoiled[at]! ^ 1;
  writeFileSync(file, spoiled);
}

/** Eve may always read, and so may `reader`. No user may adjust. */
function policyFor(reader: string): string {
  const gateway = ['inventory.read', 'inventory.adjust'].map((name) => `p, workload:developer, ${name}, on-behalf`);
  return [...gateway, 'p, user:eve, inventory.read, any', `p, user:${reader}, inventory.read, any`, ''].join('\n');
}

t.test('200 changes a second under load', async (t) => {
  const access = await scriptedAccess(t);
  access.publish(policyFor('ada'));
  const service = await startService(t, 'inventory', { peers: { access: access.address } });
  const wire = await wireTo(t, service);
  await until('there is a policy', async () => (await asCustomer(wire)) === 'allowed');
  let changes = 0;
  const started = performance.now();
  const timer = setInterval(() => {
    // Makes all changes that are due: on a busy machine the timer is late.
    for (const due = (performance.now() - started) / 5; changes < due; changes += 1) {
      access.publish(policyFor(changes % 2 === 0 ? 'bo' : 'ada'));
    }
  }, 5);
  t.teardown(() => clearInterval(timer));
  const seen: Record<string, Record<string, number>> = {};
  const calls: [string, string, MethodContract, object][] = [
    ['always', 'eve', batchGetStock, { skus: ['NONE'] }],
    ['never', 'ada', adjustStock, { requestId: unknownId, sku: 'NONE', locationId: 'main', delta: 1n, note: 'x' }],
    ['never', 'mallory', batchGetStock, { skus: ['NONE'] }],
    ['now and then', 'ada', batchGetStock, { skus: ['NONE'] }],
    ['now and then', 'bo', batchGetStock, { skus: ['NONE'] }],
  ];
  await Promise.all(
    calls.flatMap(([when, who, method, message]) =>
      Array.from({ length: 3 }, async () => {
        while (performance.now() - started < 6_000) {
          const said = await verdict(wire, who, method, message);
          seen[when] = { ...seen[when], [said]: (seen[when]?.[said] ?? 0) + 1 };
        }
      }),
    ),
  );
  clearInterval(timer);
  const seconds = (performance.now() - started) / 1000;
  t.strictSame(Object.keys(seen.always ?? {}), ['allowed'], 'what every version allows was never denied');
  t.strictSame(Object.keys(seen.never ?? {}), ['denied'], 'what no version allows was never allowed');
  t.strictSame(Object.keys(seen['now and then'] ?? {}).sort(), ['allowed', 'denied'], 'and both versions were in use');
  t.ok(changes / seconds > 100, `${(changes / seconds).toFixed(0)} changes a second, ${JSON.stringify(seen)}`);
});
