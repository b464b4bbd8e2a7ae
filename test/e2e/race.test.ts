import { setTimeout as sleep } from 'node:timers/promises';
import type { Order } from '@armature/proto/orders/v1/orders.ts';
import { RpcError } from '@armature/runtime';
import t from 'tap';
import { amount } from '../support/tier.ts';
import { acquirerLog } from '../verification/invariants/ledger-checks.ts';
import { grown, holdingsOf, leaksSince } from './bounds.ts';
import { openInvariantCheck } from './invariant-check.ts';
import { follow, openShop, stateName, wish } from './shop.ts';

const orderCount = amount(240, 1_000);
const inFlightMax = amount(120, 200);
const units = BigInt(amount(12, 50));

t.setTimeout(280_000);
const shop = await openShop(t);
const assertInvariants = await openInvariantCheck(t, shop);

/** Codes of an overloaded server; they leave the outcome of the request unknown. */
const unclear = ['UNAVAILABLE', 'DEADLINE_EXCEEDED', 'RESOURCE_EXHAUSTED', 'ABORTED'];
const maxAttempts = 20;
let repeats = 0;

/** Retries a call that is safe to repeat until its outcome is known, as a correct client does. */
async function retryUntilClear<T>(act: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await act();
    } catch (error) {
      if (!(error instanceof RpcError) || !unclear.includes(error.code) || attempt === maxAttempts) throw error;
      repeats += 1;
      await sleep(100 * attempt);
    }
  }
}

/** Places an order and waits for its end. The request id makes a repeated request the same order. */
async function buyWithRetries(request: ReturnType<typeof wish>): Promise<Order> {
  const { orders } = shop.customer;
  const { orderId } = await retryUntilClear(() => orders.placeOrder(request, { timeoutMs: 10_000 }));
  await retryUntilClear(() => follow(shop.customer, orderId));
  return retryUntilClear(() => orders.getOrder({ orderId }, { timeoutMs: 10_000 }));
}

/** Runs the work for every index, with limited concurrency. */
async function atOnce<T>(count: number, limit: number, work: (index: number) => Promise<T>): Promise<T[]> {
  const results: T[] = [];
  let next = 0;
  const runner = async () => {
    while (next < count) {
      const index = next++;
      results[index] = await work(index);
    }
  };
  await Promise.all(Array.from({ length: limit }, runner));
  return results;
}

t.test(`${orderCount} orders, ${inFlightMax} in flight, for ${units} units: as many complete`, async (t) => {
  const sku = await shop.stock(units);
  const since = performance.now();
  const orders = await atOnce(orderCount, inFlightMax, (index) =>
    buyWithRetries(wish(sku, { contactEmail: `ada+${index}@example.com` })),
  );
  const tookSeconds = (performance.now() - since) / 1000;
  t.comment(`${orderCount} orders in ${tookSeconds.toFixed(1)} s, ${repeats} requests repeated`);

  const ends = Map.groupBy(orders, (order) => `${stateName(order)} ${order.reason}`.trim());
  const counts = Object.fromEntries([...ends].map(([end, all]) => [end, all.length]));
  t.strictSame(counts, { COMPLETED: Number(units), 'REJECTED STOCK_INSUFFICIENT': orderCount - Number(units) });
  const unnamed = orders.filter((order) => stateName(order) === 'REJECTED' && order.reasonDetail !== sku);
  t.strictSame(unnamed, [], 'every refusal names the SKU');
  t.strictSame(await shop.shelf(sku), { onHand: 0n, reserved: 0n, available: 0n });

  const log = await acquirerLog(`http://${shop.service('acquirer').http}`);
  const captures = log.filter(({ kind, status }) => kind === 'capture' && status === 'captured');
  t.equal(captures.length, Number(units), 'each unit was paid for once');
  const balance = await shop.staff.ledger.getTrialBalance({});
  t.ok(balance.balanced);
  t.equal(balance.accounts.find(({ account }) => account === 'sales')?.postedMinor, units * -1_250n);
  await assertInvariants();
});

t.test('the resources of the services do not grow with their work', async (t) => {
  const plenty = await shop.stock(1_000n);
  const burst = async () => {
    await atOnce(amount(40, 100), amount(40, 50), () => buyWithRetries(wish(plenty)));
    await assertInvariants();
  };
  await burst();
  const before = await holdingsOf(shop);
  t.ok(Object.keys(before).length >= 7, 'every service was measured');
  t.ok((before.orders?.['file handles'] ?? 0) > 0 && (before.orders?.timers ?? 0) > 0, 'there is something to count');
  t.match(grown(before, { ...before, orders: { ...before.orders, timers: 10_000 } }), [
    /^orders: \d+ timers have become/,
  ]);
  await burst();
  t.strictSame(await leaksSince(before, shop), []);
});

t.test('the shop is open afterwards, and sold out', async (t) => {
  for (const { name, process, logs } of Object.values(shop.mesh)) {
    t.equal(process.exitCode, null, name);
    t.notMatch(logs(), /"level":60/, name);
  }
  const empty = await shop.stock(0n);
  await t.rejects(shop.customer.orders.placeOrder(wish('NOT-HERE')), RpcError);
  const { orderId } = await shop.customer.orders.placeOrder(wish(empty));
  t.ok((await follow(shop.customer, orderId)).length > 1);
});
