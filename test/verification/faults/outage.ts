import { setTimeout as sleep } from 'node:timers/promises';
import type { Test as Tap } from 'tap';
import { openInvariantCheck, shopDataOf, wrongAtRest } from '../../e2e/invariant-check.ts';
import type { Shop } from '../../e2e/shop.ts';
import type { ShopData } from '../invariants/shop-data.ts';
import {
  eventually,
  letShop,
  metric,
  missing,
  page,
  percentiles,
  residentMib,
  type Shoppers,
  tallyOf,
} from './shoppers.ts';

/** A temporary fault of the database: unreachable or unusable. */
export interface Outage {
  /** Resolves once the outage has begun, as the responses to the shoppers may show. */
  begin(shoppers: Shoppers): unknown;
  /** How long the outage lasts after it has begun. */
  lastsMs: number;
  end(): unknown;
  /** Status of /readyz during the outage; undefined if either is right. */
  readiness: 200 | 503 | undefined;
  /** Whether every order is refused during the outage; undefined if some may be accepted. */
  refuses?: true;
}

/** Enough SKUs that shoppers do not wait for each other. */
export async function stockSkus({ stock }: Pick<Shop, 'stock'>): Promise<string[]> {
  const skus: string[] = [];
  while (skus.length < 8) skus.push(await stock(100_000n));
  return skus;
}

/** Codes that may be returned instead of OK: each allows the client to retry. */
const retryable = /^(OK|UNAVAILABLE|DEADLINE_EXCEEDED|RESOURCE_EXHAUSTED|ABORTED)/;
/** The deadline of PlaceOrder, and what a slow machine may need to notice it. */
const respondsWithinMs = 3_000 + 2_000;
const pageWithinMs = 4_000;
const cleanWithinMs = 60_000;
/** Maximum resident memory of a service. It grows with the first outage, and hardly with later ones. */
const residentMaxMib = 512;

/**
 * Orders are placed before, during and after an outage. Checks that refusals are timely and retryable, that the
 * operator pages respond, and that pools and memory stay bounded. Afterwards every order must be accepted once and end
 * within a minute, with every invariant intact.
 */
export async function shopThrough(t: Tap, shop: Shop, skus: readonly string[], outage: Outage): Promise<void> {
  const services = Object.values(shop.mesh).filter(({ admin }) => admin !== '');
  const ordersBefore = await ordersOf(t, shop);
  const shoppers = letShop(shop.customer, skus);
  // A process that has just started has not yet allocated the memory for serving.
  await shoppers.accepted(100, 60_000);
  const memory = services.map(residentMib);

  await outage.begin(shoppers);
  const first = shoppers.results.length;
  const over = sleep(outage.lastsMs);
  // After the calls from before the outage have ended.
  await sleep(Math.min(1_000, outage.lastsMs / 4));
  const shown = await Promise.all(
    services.flatMap((service) => [page(service, '/readyz'), page(service, '/metrics'), page(service, '/healthz')]),
  );
  for (const { tookMs } of shown) if (tookMs > pageWithinMs) t.fail(`a page took ${tookMs} ms`);
  const [readyz, metrics] = shown.slice(3 * services.findIndex(({ name }) => name === 'orders'));
  if (outage.readiness) t.equal(readyz!.status, outage.readiness, `/readyz: ${readyz!.text.trim()}`);
  t.equal(metrics!.status, 200, '/metrics responds');
  await over;
  const inUse = await Promise.all(services.map((service) => metric(service, 'armature_db_connections_in_use')));
  t.ok(Math.max(...inUse.map(Number)) <= 20, `no pool has more than its twenty connections: ${inUse.join(', ')}`);
  const during = shoppers.results.slice(first);

  await outage.end();
  const since = performance.now();
  const acceptedMs = await shoppers.accepted(8, cleanWithinMs);
  const results = await shoppers.stop(cleanWithinMs);
  t.strictSame(
    results.filter(({ code }) => !retryable.test(code)),
    [],
    'every refusal can be retried',
  );
  const { max } = percentiles(results);
  t.ok(max <= respondsWithinMs, `every call got a response within ${max} ms`);
  const refused = during.filter(({ code }) => code !== 'OK');
  if (outage.refuses)
    t.ok(refused.length > 0 && refused.length >= during.length - 8, 'no order was accepted meanwhile');

  const requests = new Set(results.map(({ requestId }) => requestId)).size;
  const accepted = new Set(results.flatMap(({ code, orderId }) => (code === 'OK' ? [orderId] : [])));
  t.equal(accepted.size, requests, 'every order was accepted in the end, once');
  const shopData = await shopDataOf(t, shop);
  await eventually('every order ends', cleanWithinMs, async () => (await unended(shopData)).length === 0).catch(
    async (error: Error) => t.fail(error.message, { orders: await unended(shopData) }),
  );
  // Events that could not be handled are delivered again after up to 30 s, longer than everything else takes.
  while (performance.now() - since < cleanWithinMs && (await wrongAtRest(shopData)).length > 0);
  await (await openInvariantCheck(t, shop))();
  const cleanMs = Math.round(performance.now() - since);
  t.ok(cleanMs <= cleanWithinMs, `clean after ${cleanMs} ms`);
  t.strictSame(await missing(shopData, [...accepted]), [], 'every accepted order exists');
  t.equal((await ordersOf(t, shop)) - ordersBefore, requests, 'and no other');
  const resident = services.map(residentMib);
  t.ok(Math.max(...resident) < residentMaxMib, `memory stays bounded: ${mebibytes(resident)}`);
  t.comment(`grown by ${mebibytes(resident.map((mib, index) => mib - memory[index]!))}`);
  for (const service of services) {
    t.ok(service.process.exitCode === null && service.process.signalCode === null, `${service.name} still runs`);
    t.equal((await page(service, '/readyz')).status, 200, `${service.name} is ready`);
  }
  t.comment(`meanwhile ${JSON.stringify(tallyOf(during))}; refused within p50 and max`, percentiles(refused));
  t.comment(`accepted again after ${acceptedMs} ms, clean after ${cleanMs} ms; ${requests} orders`);
}

const mebibytes = (of: readonly number[]) => `${of.map((mib) => mib.toFixed(0)).join(', ')} MiB`;

/** Orders that have not ended, and the state of their sagas. */
function unended(shopData: ShopData): Promise<object[]> {
  return shopData.query(
    `select o.order_id, o.state as order_state, s.status, s.state, s.lease_holder, s.due_at, utc_timestamp(6) as now
     from {orders}.orders as o left join {orders}.saga as s on s.subject_id = o.order_id
     where o.state in ('PENDING', 'CONFIRMED')`,
  );
}

async function ordersOf(t: Tap, shop: Shop): Promise<number> {
  const [row] = await (await shopDataOf(t, shop)).query<{ n: number }>('select count(*) as n from {orders}.orders');
  return Number(row?.n);
}
