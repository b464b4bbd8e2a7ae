import { randomUUID } from 'node:crypto';
import { networkInterfaces } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { reservePorts } from '../scripts/devmesh/ports.ts';
import { testServers } from '../test/support/infra.ts';
import { refusal } from '../test/support/refusal.ts';
import { developerCredentials, startService, token } from '../test/support/service.ts';
import { inventoryClient, type RpcError } from './index.ts';
import { started } from './testbed.ts';

const { state } = await testServers();
const ports = await reservePorts(state, 2);
const ipv6 = Object.values(networkInterfaces()).some((all) => all?.some(({ address }) => address === '::1'));
const [first, second] = [`127.0.0.1:${ports[0]}`, `${ipv6 ? '[::1]' : '127.0.0.1'}:${ports[1]}`];
/** With IPv6 the second instance listens on both kinds of addresses. */
const listening = ipv6 ? `[::]:${ports[1]}` : second;
const stays = await startService(t, 'inventory', { grpc: first });
const shared = { database: stays.database, vhost: stays.vhost, grpc: listening };
const dies = await startService(t, 'inventory', shared);

const [tls, bo] = await Promise.all([developerCredentials(), token('bo')]);
const clientOf = (addresses: string[]) => {
  const client = inventoryClient({ addresses, tls, token: () => bo });
  t.teardown(() => client.close());
  return client;
};
const both = clientOf([first, second]);
const onlySecond = clientOf([second]);

t.test('calls go round the instances', async (t) => {
  for (let call = 0; call < 40; call++) await both.batchGetStock({ skus: ['A'] });
  for (const instance of [stays, dies]) {
    const calls = await started(instance, 'BatchGetStock');
    t.ok(calls >= 10, `${calls} of 40 calls went to ${instance.grpc}`);
  }
});

t.test('addresses of several kinds', async (t) => {
  const names = ports.map((port) => `localhost:${port}`);
  for (const [name, addresses] of Object.entries({
    'two host names': names,
    'a host name and an address': [names[0]!, second],
    'an address twice, and one that does not resolve': [first, first, second, 'nowhere.invalid:1'],
  })) {
    const client = clientOf(addresses);
    await bothServe(client);
    t.pass(name);
  }
  if (ipv6) t.same(await clientOf([second]).batchGetStock({ skus: ['A'] }), { levels: [], unknownSkus: ['A'] });
  await t.rejects(clientOf(['nowhere.invalid:1', 'nowhere.invalid:2']).batchGetStock({ skus: ['A'] }), {
    code: 'UNAVAILABLE',
    message: /nowhere\.invalid/,
  });
});

t.test('an instance that dies costs no call and has no effect twice', async (t) => {
  const sku = `SKU-${randomUUID().slice(0, 8).toUpperCase()}`;
  const [calls, inFlight] = [300, 20];
  let begun = 0;
  let killed: Promise<unknown> | undefined;
  const work = async () => {
    while (begun < calls) {
      begun += 1;
      if (begun === 100) killed = dies.kill();
      await both.receiveStock({ locationId: 'main', lines: [{ sku, quantity: 1n }] });
    }
  };
  await Promise.all(Array.from({ length: inFlight }, work));
  await killed;
  const { levels } = await both.batchGetStock({ skus: [sku] });
  t.match(levels, [{ sku, onHand: BigInt(calls) }]);
  t.ok((await started(stays, 'ReceiveStock')) > 200, 'the other instance has done its work');
});

t.test('without any instance a call fails soon', async (t) => {
  const since = performance.now();
  await t.rejects(onlySecond.batchGetStock({ skus: ['A'] }), refusal({ code: 'UNAVAILABLE' }));
  t.ok(performance.now() - since < 1_000);
});

t.test('an instance that comes back gets calls again, from clients that were there before', async (t) => {
  const back = await startService(t, 'inventory', shared);
  t.equal(back.grpc, listening);
  const deadline = Date.now() + 10_000;
  while ((await started(back, 'BatchGetStock')) === 0 && Date.now() < deadline) {
    await both.batchGetStock({ skus: ['A'] });
  }
  t.ok((await started(back, 'BatchGetStock')) > 0, 'of the client that has both addresses');
  const { ok, failures } = await firstResponse(() => onlySecond.batchGetStock({ skus: ['A'] }), deadline);
  t.ok(ok, 'of the client that has this one only');
  t.ok(
    failures.every(({ code }) => code === 'UNAVAILABLE'),
    `after ${failures.length} failures while it reconnects`,
  );
});

/** Repeats the call until it succeeds or the deadline has passed. */
async function firstResponse(call: () => Promise<unknown>, deadline: number) {
  const failures: RpcError[] = [];
  while (Date.now() < deadline) {
    try {
      await call();
      return { ok: true, failures };
    } catch (error) {
      failures.push(error as RpcError);
      await sleep(20);
    }
  }
  return { ok: false, failures };
}

/** Calls until both instances have served a call of this client. */
async function bothServe(client: typeof both): Promise<void> {
  const served = () => Promise.all([stays, dies].map((instance) => started(instance, 'BatchGetStock')));
  const before = await served();
  const deadline = Date.now() + 10_000;
  while (Date.now() < deadline) {
    await client.batchGetStock({ skus: ['A'] });
    const now = await served();
    if (now.every((count, index) => count > before[index]!)) return;
  }
  throw new Error('only one instance has served calls');
}
