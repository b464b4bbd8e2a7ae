import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { RpcError } from '@armature/runtime/errors';
import { type Counter, wish } from '../../e2e/shop.ts';
import type { RunningService } from '../../support/service.ts';
import type { World } from '../invariants/world.ts';

/** Those without which nobody can shop; access and identity only where a test is about them. */
export const shopServices = ['acquirer', 'catalog', 'inventory', 'notifications', 'orders', 'payments'];

/** What one call of PlaceOrder was answered with. `code` is OK or that of a refusal. */
export interface Answer {
  code: string;
  reason: string;
  /** When the caller was told to come back; 0 when it was not told. */
  retryDelayMs: number;
  tookMs: number;
  requestId: string;
  orderId: string;
}

/** Calls PlaceOrder once, and never throws. */
export async function placeOnce(
  who: Pick<Counter, 'orders'>,
  sku: string,
  { requestId, timeoutMs }: { requestId?: string; timeoutMs?: number } = {},
): Promise<Answer> {
  const request = wish(sku, requestId ? { requestId } : {});
  const since = performance.now();
  const answer = (code: string, more: Partial<Answer>): Answer => ({
    ...{ code, reason: '', retryDelayMs: 0, orderId: '', requestId: request.requestId ?? '' },
    tookMs: Math.round(performance.now() - since),
    ...more,
  });
  try {
    const { orderId } = await who.orders.placeOrder(request, timeoutMs ? { timeoutMs } : {});
    return answer('OK', { orderId });
  } catch (error) {
    if (!(error instanceof RpcError)) throw error;
    return answer(error.code, { reason: error.reason, retryDelayMs: error.details.retryDelayMs ?? 0 });
  }
}

/** Places so many orders, some at a time, each once. */
export async function placeMany(
  who: Pick<Counter, 'orders'>,
  sku: string,
  { orders, atOnce = 10 }: { orders: number; atOnce?: number },
): Promise<Answer[]> {
  const answers: Answer[] = [];
  let begun = 0;
  const shopper = async () => {
    while (begun++ < orders) answers.push(await placeOnce(who, sku));
  };
  await Promise.all(Array.from({ length: atOnce }, shopper));
  return answers;
}

/** People who go on buying until they are told to stop; who is refused asks again under the same request id. */
export interface Shoppers {
  /** Every answer so far. */
  readonly answers: readonly Answer[];
  /** Waits until so many more orders are accepted, and answers after how long. */
  accepted(more: number, withinMs: number): Promise<number>;
  /** Nobody begins anew; who has begun asks until the order is accepted, and this fails when one is not in time. */
  stop(withinMs: number): Promise<readonly Answer[]>;
}

/** They take the SKUs by turns: what all want at once makes them wait for each other. */
export function letShop(who: Pick<Counter, 'orders'>, skus: readonly string[], atOnce = 8): Shoppers {
  const answers: Answer[] = [];
  let begun = 0;
  let stopping = false;
  let giveUp = false;
  const shopper = async () => {
    while (!stopping) {
      let requestId: string | undefined;
      const sku = skus[begun++ % skus.length]!;
      for (;;) {
        const answer = await placeOnce(who, sku, requestId ? { requestId } : {});
        answers.push(answer);
        if (answer.code === 'OK') break;
        if (giveUp) throw new Error(`an order was not accepted in the end: ${JSON.stringify(answer)}`);
        ({ requestId } = answer);
        await sleep(100);
      }
    }
  };
  const running = Promise.all(Array.from({ length: atOnce }, shopper));
  // Whoever stops them learns of it; until then a failure is nobody's.
  running.catch(() => undefined);
  const count = () => answers.filter(({ code }) => code === 'OK').length;
  return {
    answers,
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
      return answers;
    },
  };
}

/** Waits until something is so, and answers after how many milliseconds it was. Throws when it is not in time. */
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
export async function progressOf(world: World, orderIds: readonly string[]) {
  const [orders] = await world.query<{ n: number }>(
    "select count(*) as n from {orders}.orders where state = 'COMPLETED' and order_id in (?)",
    [orderIds.length > 0 ? orderIds : ['']],
  );
  let waiting = 0;
  for (const service of world.services) {
    const [row] = await world.query<{ n: number }>(`select count(*) as n from {${service}}.outbox where pending = 1`);
    waiting += Number(row?.n);
  }
  return { completed: Number(orders?.n), waiting };
}

/** The ids among these of which there is no order. */
export async function missing(world: World, orderIds: readonly string[]): Promise<string[]> {
  const rows = await world.query<{ order_id: string }>('select order_id from {orders}.orders');
  const known = new Set(rows.map((row) => row.order_id));
  return orderIds.filter((id) => !known.has(id));
}

/** The times below which half of them and ninety-nine of a hundred lie. */
export function percentiles(answers: readonly Pick<Answer, 'tookMs'>[]): { p50: number; p99: number; max: number } {
  const sorted = answers.map(({ tookMs }) => tookMs).sort((a, b) => a - b);
  const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
  return { p50: at(0.5), p99: at(0.99), max: sorted.at(-1) ?? 0 };
}

/** Codes and how often each was answered. */
export function tallyOf(answers: readonly Answer[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { code, reason } of answers) {
    const name = reason ? `${code} ${reason}` : code;
    counts[name] = (counts[name] ?? 0) + 1;
  }
  return counts;
}

/** Asks a page of the loopback port of a service, and says how long that took. */
export async function page(service: RunningService, path: '/readyz' | '/metrics' | '/healthz') {
  const since = performance.now();
  const response = await fetch(`http://${service.admin}${path}`, { signal: AbortSignal.timeout(20_000) });
  const text = await response.text();
  return { status: response.status, text, tookMs: Math.round(performance.now() - since) };
}

/** One value of a metrics page; undefined where it is not there. */
export async function metric(service: RunningService, name: string, labels = ''): Promise<number | undefined> {
  const { text } = await page(service, '/metrics');
  const line = text.split('\n').find((one) => one.startsWith(`${name}{`) && one.includes(labels));
  const bare = line ?? text.split('\n').find((one) => one.startsWith(`${name} `));
  return bare === undefined ? undefined : Number(bare.slice(bare.lastIndexOf(' ') + 1));
}

/** Memory that a service has of the machine's, MiB. */
export const residentMib = ({ pid }: RunningService): number =>
  Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024;
