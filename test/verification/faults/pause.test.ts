// Processes are paused for thirty seconds while they hold a lease, as by a debugger, a paused virtual machine or a
// starved host, and then continue. Meanwhile other processes have taken over.
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { ordersClient } from '@armature/clients';
import t, { type Test as Tap } from 'tap';
import { openInvariantCheck, shopDataOf } from '../../e2e/invariant-check.ts';
import { follow, openShop } from '../../e2e/shop.ts';
import { developerCredentials, peersOf, type RunningService, startService, token } from '../../support/service.ts';
import { observeEvents, outOfOrder } from './observer.ts';
import { eventually, metric, placeOnce, shopServices } from './shoppers.ts';

t.setTimeout(240_000);
/** Twice the lease of a saga, three times that of a relay. */
const pausedMs = 30_000;
/** The first process of orders relays its events. It is paused after a batch is published and before it is marked. */
const shop = await openShop(t, { orders: { ARMATURE_CRASH_POINTS: 'relay.published=stop' } }, shopServices);
const relaying = shop.service('orders');
const shopData = await shopDataOf(t, shop);
const assertInvariants = await openInvariantCheck(t, shop);
const observed = await observeEvents(relaying.vhost!);
const sku = await shop.stock(100n);
const tls = await developerCredentials();
const bearer = await token('ada');

/** Starts another process of orders on the same schema; `points` is where it is paused. */
async function another(points: string) {
  const peers = peersOf(shop.mesh);
  const { database, vhost } = relaying;
  const env = { ARMATURE_CRASH_POINTS: points };
  const service = await startService(t, 'orders', { database: database!, vhost: vhost!, peers, env });
  const orders = ordersClient({ addresses: [service.grpc], tls, token: () => bearer });
  t.teardown(() => orders.close());
  return { service, orders };
}

const isStopped = ({ pid }: RunningService) => /^State:\s+T/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
const sagaOf = async (orderId: string) =>
  (await shopData.query<Record<string, unknown>>('select * from {orders}.saga where subject_id = ?', [orderId]))[0]!;
/** When each event was marked. Unequal values show that another process marked it again. */
const marks = () => shopData.query('select message_id, pending, published_at from {orders}.outbox order by position');

async function ends(t: Tap, who: Parameters<typeof placeOnce>[0], result: { orderId: string }): Promise<void> {
  const events = await follow(who, result.orderId);
  t.strictSame(
    events.map(({ sequence }) => sequence),
    events.map((_, index) => BigInt(index + 1)),
    'its history has no gap and no duplicate',
  );
  t.equal(String((await sagaOf(result.orderId)).status), 'COMPLETED');
}

t.test('processes are paused for thirty seconds while they hold leases', async (t) => {
  const heir = await another('');
  // The second call of a saga is the payment. One process is paused after the request, the other after the response.
  const victims = [await another('saga.sent:2=stop'), await another('saga.responded:2=stop')];
  const stopped = [relaying, ...victims.map(({ service }) => service)];
  const placed = [];
  for (const victim of victims) {
    const result = await placeOnce(victim, sku);
    t.equal(result.code, 'OK', 'accepted by a process that then stops');
    placed.push(result);
  }
  await eventually('all have stopped', 20_000, () => stopped.every(isStopped));
  const since = performance.now();
  const paused = await Promise.all(placed.map(({ orderId }) => sagaOf(orderId)));
  for (const { status, lease_holder } of paused)
    t.ok(status === 'RUNNING' && lease_holder, 'it holds the lease of a saga');

  for (const result of placed) await ends(t, heir, result);
  t.comment(`another process ended both orders ${Math.round(performance.now() - since)} ms after the stop`);
  await eventually('another relays', 20_000, async () => (await metric(heir.service, 'armature_relay_leading')) === 1);
  await assertInvariants();
  const before = { sagas: await Promise.all(placed.map(({ orderId }) => sagaOf(orderId))), marks: await marks() };
  for (const [index, saga] of before.sagas.entries()) {
    t.ok(Number(saga.lease_token) > Number(paused[index]!.lease_token), 'under a new lease');
  }
  t.ok(stopped.every(isStopped), 'while the first processes are still paused');
  await sleep(Math.max(0, pausedMs - (performance.now() - since)));
  for (const { process } of stopped) process.kill('SIGCONT');

  for (const { service } of victims) {
    await eventually('it has learned that its lease is lost', 20_000, async () => {
      return (await metric(service, 'armature_saga_leases_lost_total')) === 1;
    });
  }
  await eventually('it relays no more', 20_000, async () => (await metric(relaying, 'armature_relay_leading')) === 0);
  t.strictSame(
    await Promise.all(placed.map(({ orderId }) => sagaOf(orderId))),
    before.sagas,
    'the paused processes record nothing',
  );
  t.strictSame(await marks(), before.marks, 'and mark nothing');
  await assertInvariants();
  t.equal((await shop.shelf(sku)).onHand, 98n, 'one effect each');

  for (const who of [...victims, heir]) await ends(t, heir, await placeOnce(who, sku));
  await assertInvariants();
  const events = await observed();
  t.strictSame(outOfOrder(events), [], 'every event came after its predecessor');
  const copies = events.length - new Set(events.map(({ messageId }) => messageId)).size;
  t.comment(`${events.length} events published, ${copies} of them once more, by the relay that continued`);
});
