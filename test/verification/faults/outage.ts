import { setTimeout as sleep } from 'node:timers/promises';
import type { Test as Tap } from 'tap';
import { lawsOf, worldOf, wrongAtRest } from '../../e2e/laws.ts';
import type { Shop } from '../../e2e/shop.ts';
import type { World } from '../invariants/world.ts';
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

/** Something that takes the database away from a shop, or makes it useless, for a while. */
export interface Outage {
  /** Resolves once it has begun, as the shoppers' answers may show. */
  begin(shoppers: Shoppers): unknown;
  /** How long it lasts once it has begun. */
  lastsMs: number;
  heal(): unknown;
  /** What /readyz says meanwhile; undefined where either is right. */
  readiness: 200 | 503 | undefined;
  /** Whether nobody's order is accepted while it lasts; undefined where some may be. */
  refuses?: true;
}

/** Enough of several things that shoppers do not wait for each other. */
export async function stockSkus({ stock }: Pick<Shop, 'stock'>): Promise<string[]> {
  const skus: string[] = [];
  while (skus.length < 8) skus.push(await stock(100_000n));
  return skus;
}

/** What may be answered instead of OK: all of it says that the same may be asked again. */
const retryable = /^(OK|UNAVAILABLE|DEADLINE_EXCEEDED|RESOURCE_EXHAUSTED|ABORTED)/;
/** The deadline of PlaceOrder, and what this machine may need to notice it. */
const answeredWithinMs = 3_000 + 2_000;
const pageWithinMs = 4_000;
const cleanWithinMs = 60_000;
/** What a service may have of the machine's memory. It grows with the first outage, and hardly with those that follow. */
const residentMaxMib = 512;

/**
 * People shop before, through and after an outage. Holds to it that whoever is refused is told so in time and may come
 * back, that the pages for operators answer, that pools and memory stay bounded, and that afterwards every order is
 * accepted once and ends, with every law kept, within a minute.
 */
export async function shopThrough(t: Tap, shop: Shop, skus: readonly string[], outage: Outage): Promise<void> {
  const services = Object.values(shop.mesh).filter(({ admin }) => admin !== '');
  const ordersBefore = await ordersOf(t, shop);
  const shoppers = letShop(shop.customer, skus);
  // A process that has just started has not yet the memory that serving takes.
  await shoppers.accepted(100, 60_000);
  const memory = services.map(residentMib);

  await outage.begin(shoppers);
  const first = shoppers.answers.length;
  const over = sleep(outage.lastsMs);
  // After the calls of before have ended one way or the other.
  await sleep(Math.min(1_000, outage.lastsMs / 4));
  const shown = await Promise.all(
    services.flatMap((service) => [page(service, '/readyz'), page(service, '/metrics'), page(service, '/healthz')]),
  );
  for (const { tookMs } of shown) if (tookMs > pageWithinMs) t.fail(`a page took ${tookMs} ms`);
  const [readyz, metrics] = shown.slice(3 * services.findIndex(({ name }) => name === 'orders'));
  if (outage.readiness) t.equal(readyz!.status, outage.readiness, `/readyz: ${readyz!.text.trim()}`);
  t.equal(metrics!.status, 200, '/metrics answers');
  await over;
  const inUse = await Promise.all(services.map((service) => metric(service, 'armature_db_connections_in_use')));
  t.ok(Math.max(...inUse.map(Number)) <= 20, `no pool has more than its twenty connections: ${inUse.join(', ')}`);
  const during = shoppers.answers.slice(first);

  await outage.heal();
  const since = performance.now();
  const acceptedMs = await shoppers.accepted(8, cleanWithinMs);
  const answers = await shoppers.stop(cleanWithinMs);
  t.strictSame(
    answers.filter(({ code }) => !retryable.test(code)),
    [],
    'whoever was refused may come back',
  );
  const { max } = percentiles(answers);
  t.ok(max <= answeredWithinMs, `everybody was answered within ${max} ms`);
  const refused = during.filter(({ code }) => code !== 'OK');
  if (outage.refuses) t.ok(refused.length > 0 && refused.length >= during.length - 8, 'nobody was served meanwhile');

  const wishes = new Set(answers.map(({ requestId }) => requestId)).size;
  const accepted = new Set(answers.flatMap(({ code, orderId }) => (code === 'OK' ? [orderId] : [])));
  t.equal(accepted.size, wishes, 'every order was accepted in the end, once');
  const world = await worldOf(t, shop);
  await eventually('every order ends', cleanWithinMs, async () => (await unended(world)).length === 0).catch(
    async (error: Error) => t.fail(error.message, { orders: await unended(world) }),
  );
  // Events that could not be handled come again after up to half a minute, which is longer than rest takes otherwise.
  while (performance.now() - since < cleanWithinMs && (await wrongAtRest(world)).length > 0);
  await (await lawsOf(t, shop))();
  const cleanMs = Math.round(performance.now() - since);
  t.ok(cleanMs <= cleanWithinMs, `clean after ${cleanMs} ms`);
  t.strictSame(await missing(world, [...accepted]), [], 'every accepted order is there');
  t.equal((await ordersOf(t, shop)) - ordersBefore, wishes, 'and no other');
  const resident = services.map(residentMib);
  t.ok(Math.max(...resident) < residentMaxMib, `memory stays bounded: ${mebibytes(resident)}`);
  t.comment(`grown by ${mebibytes(resident.map((mib, index) => mib - memory[index]!))}`);
  for (const service of services) {
    t.ok(service.process.exitCode === null && service.process.signalCode === null, `${service.name} has lived on`);
    t.equal((await page(service, '/readyz')).status, 200, `${service.name} is ready`);
  }
  t.comment(`meanwhile ${JSON.stringify(tallyOf(during))}; refused within p50 and max`, percentiles(refused));
  t.comment(`accepted again after ${acceptedMs} ms, clean after ${cleanMs} ms; ${wishes} orders`);
}

const mebibytes = (of: readonly number[]) => `${of.map((mib) => mib.toFixed(0)).join(', ')} MiB`;

/** Orders on their way, and how far their sagas are. */
function unended(world: World): Promise<object[]> {
  return world.query(
    `select o.order_id, o.state as order_state, s.status, s.state, s.lease_holder, s.due_at, utc_timestamp(6) as now
     from {orders}.orders as o left join {orders}.saga as s on s.subject_id = o.order_id
     where o.state in ('PENDING', 'CONFIRMED')`,
  );
}

async function ordersOf(t: Tap, shop: Shop): Promise<number> {
  const [row] = await (await worldOf(t, shop)).query<{ n: number }>('select count(*) as n from {orders}.orders');
  return Number(row?.n);
}
