import { randomUUID } from 'node:crypto';
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
const [first = '', second = ''] = ports.map((port) => `127.0.0.1:${port}`);
const stays = await startService(t, 'inventory', { grpc: first });
const shared = { database: stays.database, vhost: stays.vhost, grpc: second };
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
  t.equal(back.grpc, second);
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
