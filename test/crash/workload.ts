import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { inventoryClient } from '@armature/clients';
import type { Order } from '@armature/proto/orders/v1/orders.ts';
import { RpcError } from '@armature/runtime';
import { openCounters, stateName, wish } from '../e2e/shop.ts';
import type { Teardown } from '../support/infra.ts';
import type { Random } from '../support/random.ts';
import { workloadCertificate } from '../support/service.ts';
import { type AnswerLog, type OrderNote, openAnswerLog, type Story } from './answers.ts';
import { callTimeoutMs, untilClear } from './asking.ts';
import type { CrashMesh } from './mesh.ts';

/** How often each kind of order is placed, out of their sum. */
const stories: Readonly<Record<Story, number>> = {
  approved: 26,
  'two lines': 8,
  'hot item': 12,
  declined: 12,
  slow: 4,
  'timed out after authorizing': 5,
  'timed out before authorizing': 4,
  'timed out after capturing': 5,
  'failed once': 4,
  'capture refused': 4,
  'pending until later': 6,
  'webhook late': 4,
  'webhook twice': 6,
  'webhook before the answer': 12,
  'cancelled while running': 10,
  refunded: 6,
  abandoned: 12,
};

const cards: Partial<Record<Story, string>> = {
  declined: 'card_declined',
  slow: 'card_slow',
  'timed out after authorizing': 'card_timeout_after_auth',
  'timed out before authorizing': 'card_timeout_before_auth',
  'timed out after capturing': 'card_timeout_after_capture',
  'failed once': 'card_error_once',
  'capture refused': 'card_capture_declined',
  'pending until later': 'card_webhook',
  'webhook late': 'card_webhook_late',
  'webhook twice': 'card_webhook_twice',
  'webhook before the answer': 'card_webhook_before_answer',
};

export interface Workload {
  readonly answers: AnswerLog;
  /** Places orders, so many customers at once, until `until` is over; resolves when every customer has every answer. */
  run(customers: number, until: AbortSignal): Promise<void>;
}

const plentyOfUnits = 1_000_000n;
const hotUnits = 40n;

export async function openWorkload(t: Teardown, mesh: CrashMesh, random: Random): Promise<Workload> {
  const shop = await openCounters(t, mesh.grpcOf);
  const stock = async (units: bigint) => ({ sku: await shop.stock(units), units });
  const plenty = [await stock(plentyOfUnits), await stock(plentyOfUnits), await stock(plentyOfUnits)];
  const hot = await stock(hotUnits);
  const answers = openAnswerLog([...plenty, hot]);
  const { orders } = shop.customer;
  // Nobody but orders may reserve, so what nobody will ever commit is reserved in its name.
  const asOrders = inventoryClient({
    addresses: [mesh.grpcOf('inventory')],
    tls: await workloadCertificate('orders'),
  });
  t.teardown(() => asOrders.close());

  /** Asks until there is a clear answer, and writes down what it was. */
  async function insist<T>(what: string, act: () => Promise<T>): Promise<T> {
    const answered = (error: unknown) => answers.answered(what, error instanceof RpcError ? error.code : String(error));
    try {
      const answer = await untilClear(random, 100, act, answered);
      answers.answered(what, 'OK');
      return answer;
    } catch (error) {
      answered(error);
      throw error;
    }
  }

  const current = (orderId: string) =>
    insist('GetOrder', () => orders.getOrder({ orderId }, { timeoutMs: callTimeoutMs }));

  async function ended(note: OrderNote): Promise<Order> {
    for (;;) {
      const order = await current(note.orderId);
      answers.saw(note, stateName(order));
      if (['COMPLETED', 'REJECTED', 'CANCELLED'].includes(stateName(order))) return order;
      await sleep(random.between(200, 800));
    }
  }

  async function cancel(note: OrderNote): Promise<void> {
    const request = { requestId: randomUUID(), orderId: note.orderId };
    try {
      await insist('CancelOrder', () => orders.cancelOrder(request, { timeoutMs: callTimeoutMs }));
      note.cancel = 'accepted';
    } catch (error) {
      if (!(error instanceof RpcError) || error.reason !== 'ORDER_CLOSED') throw error;
      note.cancel = 'refused';
    }
  }

  /** Takes units that nobody comes for; their reservation has to run out by itself. */
  async function abandon({ orderId }: OrderNote): Promise<void> {
    const request = {
      requestId: randomUUID(),
      reservationId: randomUUID(),
      orderId,
      lines: [{ sku: random.pick(plenty).sku, quantity: 1n }],
    };
    await insist('ReserveStock', () => asOrders.reserveStock(request, { timeoutMs: callTimeoutMs }));
    answers.abandoned += 1;
  }

  async function one(): Promise<void> {
    const story = random.weighted(stories);
    const skus = story === 'hot item' ? [hot.sku] : [random.pick(plenty).sku];
    if (story === 'two lines') skus.push(plenty.find(({ sku }) => sku !== skus[0])!.sku);
    const lines = skus.map((sku) => ({ sku, quantity: BigInt(random.between(1, story === 'hot item' ? 1 : 3)) }));
    const request = wish(skus[0]!, { lines, paymentMethod: cards[story] ?? 'card_ok' });
    const place = () => insist('PlaceOrder', () => orders.placeOrder(request, { timeoutMs: callTimeoutMs }));
    const requestId = request.requestId!;
    answers.asked(requestId);
    const placed = await place();
    const note = answers.accepted({ requestId, story, lines, placed });
    // A customer whose connection broke sends it again, and again much later.
    if (random.next() < 0.2) answers.repeated(note, await place());
    if (story === 'cancelled while running') {
      await sleep(random.between(0, 400));
      await cancel(note);
    } else if (story === 'abandoned') {
      await abandon(note);
    } else if (story === 'refunded') {
      if (stateName(await ended(note)) === 'COMPLETED') await cancel(note);
    } else if (random.next() < 0.3) {
      await ended(note);
    }
    if (random.next() < 0.1) answers.repeated(note, await place());
  }

  return {
    answers,
    async run(customers, until) {
      const customer = async () => {
        while (!until.aborted) {
          await one().catch((error: unknown) => answers.problem(`a request came to nothing: ${String(error)}`));
          await sleep(random.between(0, 100));
        }
      };
      await Promise.all(Array.from({ length: customers }, customer));
    },
  };
}
