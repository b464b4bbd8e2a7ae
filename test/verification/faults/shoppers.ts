import { setTimeout as sleep } from 'node:timers/promises';
import { RpcError } from '@armature/runtime/errors';
import { type ClientSet, wish } from '../../e2e/shop.ts';
import { residentMebibytes } from '../../support/resident-memory.ts';
import type { RunningService } from '../../support/service.ts';
import type { ShopData } from '../invariants/shop-data.ts';

/** Services without which no order can be placed; access and identity are started only by tests about them. */
export const shopServices = ['acquirer', 'catalog', 'inventory', 'notifications', 'orders', 'payments'];

/** The response to one PlaceOrder call. `code` is OK or the code of the error. */
export interface PlacingResult {
  code: string;
  reason: string;
  /** After which time the caller was told to retry; 0 if it was not told. */
  retryDelayMs: number;
  tookMs: number;
  requestId: string;
  orderId: string;
}

/** Calls PlaceOrder once. Never throws. */
export async function placeOnce(
  who: Pick<ClientSet, 'orders'>,
  sku: string,
  { requestId, timeoutMs }: { requestId?: string; timeoutMs?: number } = {},
): Promise<PlacingResult> {
  const request = wish(sku, requestId ? { requestId } : {});
  const since = performance.now();
  const result = (code: string, more: Partial<PlacingResult>): PlacingResult => ({
    ...{ code, reason: '', retryDelayMs: 0, orderId: '', requestId: request.requestId ?? '' },
    tookMs: Math.round(performance.now() - since),
    ...more,
  });
  try {
    const { orderId } = await who.orders.placeOrder(request, timeoutMs ? { timeoutMs } : {});
    return result('OK', { orderId });
  } catch (error) {
    if (!(error instanceof RpcError)) throw error;
    return result(error.code, { reason: error.reason, retryDelayMs: error.details.retryDelayMs ?? 0 });
  }
}

/** Places this number of orders, some concurrently, each once. */
export async function placeMany(
  who: Pick<ClientSet, 'orders'>,
  sku: string,
  { orders, atOnce = 10 }: { orders: number; atOnce?: number },
): Promise<PlacingResult[]> {
  const results: PlacingResult[] = [];
  let begun = 0;
  const shopper = async () => {
    while (begun++ < orders) results.push(await placeOnce(who, sku));
  };
  await Promise.all(Array.from({ length: atOnce }, shopper));
  return results;
}

/**
 * Concurrent customers that place orders until they are stopped. A refused customer retries with the same request id.
 */
export interface Shoppers {
  /** Every response so far. */
  readonly results: readonly PlacingResult[];
  /** Waits until this many more orders are accepted, and returns after how long. */
  accepted(more: number, withinMs: number): Promise<number>;
  /** Starts no new order. Resolves when every started order is accepted; rejects if one is not within the limit. */
  stop(withinMs: number): Promise<readonly PlacingResult[]>;
}

/** Customers take the SKUs in turn, because orders of one SKU wait for each other. */
export function letShop(who: Pick<ClientSet, 'orders'>, skus: readonly string[], atOnce = 8): Shoppers {
  const results: PlacingResult[] = [];
  let begun = 0;
  let stopping = false;
  let giveUp = false;
  const shopper = async () => {
    while (!stopping) {
      let requestId: string | undefined;
      const sku = skus[begun++ % skus.length]!;
      for (;;) {
        const result = await placeOnce(who, sku, requestId ? { requestId } : {});
        results.push(result);
        if (result.code === 'OK') break;
        if (giveUp) throw new Error(`an order was not accepted before the limit: ${JSON.stringify(result)}`);
        ({ requestId } = result);
        await sleep(100);
      }
    }
  };
  const running = Promise.all(Array.from({ length: atOnce }, shopper));
  // `stop` reports the error. Until then it must not count as an unhandled rejection.
  running.catch(() => undefined);
  const count = () => results.filter(({ code }) => code === 'OK').length;
  return {
    results,
    async accepted(more, withinMs) {
      const before = count();
      return eventually(`${more} more orders accepted`, withinMs, () => count() >= before + more);
    },
    async stop(withinMs) {
      stopping = true;
      const timer = setTimeout(() => {
        giveUp = true;
      }, withinMs);
      await running.finally(() => clearTimeout(timer));
      return results;
    },
  };
}

/**
 * Waits until a condition holds, and returns after how many milliseconds it did. Throws if it does not within the
 * limit.
 */
export async function eventually(
  what: string,
  withinMs: number,
  isSo: () => boolean | Promise<boolean>,
): Promise<number> {
  const since = performance.now();
  while (!(await isSo())) {
    if (performance.now() - since > withinMs) throw new Error(`not within ${withinMs} ms: ${what}`);
    await sleep(50);
  }
  return Math.round(performance.now() - since);
}

/** How many of these orders have completed, and how many events wait in all outboxes. */
export async function progressOf(shopData: ShopData, orderIds: readonly string[]) {
  const [orders] = await shopData.query<{ n: number }>(
    "select count(*) as n from {orders}.orders where state = 'COMPLETED' and order_id in (?)",
    [orderIds.length > 0 ? orderIds : ['']],
  );
  let waiting = 0;
  for (const service of shopData.services) {
    const [row] = await shopData.query<{ n: number }>(
      `select count(*) as n from {${service}}.outbox where pending = 1`,
    );
    waiting += Number(row?.n);
  }
  return { completed: Number(orders?.n), waiting };
}

/** The order ids among these that do not exist. */
export async function missing(shopData: ShopData, orderIds: readonly string[]): Promise<string[]> {
  const rows = await shopData.query<{ order_id: string }>('select order_id from {orders}.orders');
  const known = new Set(rows.map((row) => row.order_id));
  return orderIds.filter((id) => !known.has(id));
}

/** The median, the 99th percentile and the maximum of the response times. */
export function percentiles(results: readonly Pick<PlacingResult, 'tookMs'>[]): {
  p50: number;
  p99: number;
  max: number;
} {
  const sorted = results.map(({ tookMs }) => tookMs).sort((a, b) => a - b);
  const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
  return { p50: at(0.5), p99: at(0.99), max: sorted.at(-1) ?? 0 };
}

/** Number of responses by code and reason. */
export function tallyOf(results: readonly PlacingResult[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { code, reason } of results) {
    const name = reason ? `${code} ${reason}` : code;
    counts[name] = (counts[name] ?? 0) + 1;
  }
  return counts;
}

/** Requests a page of the loopback port of a service, and measures the time. */
export async function page(service: RunningService, path: '/readyz' | '/metrics' | '/healthz') {
  const since = performance.now();
  const response = await fetch(`http://${service.admin}${path}`, { signal: AbortSignal.timeout(20_000) });
  const text = await response.text();
  return { status: response.status, text, tookMs: Math.round(performance.now() - since) };
}

/** One value of a metrics page; undefined if it is not there. */
export async function metric(service: RunningService, name: string, labels = ''): Promise<number | undefined> {
  const { text } = await page(service, '/metrics');
  const line = text.split('\n').find((one) => one.startsWith(`${name}{`) && one.includes(labels));
  const bare = line ?? text.split('\n').find((one) => one.startsWith(`${name} `));
  return bare === undefined ? undefined : Number(bare.slice(bare.lastIndexOf(' ') + 1));
}

/** Resident memory of a service, MiB. */
export const residentMib = ({ pid }: RunningService): number => residentMebibytes(pid!);
