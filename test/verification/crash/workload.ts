import { setTimeout as sleep } from 'node:timers/promises';
import { inventoryClient } from '@armature/clients';
import type { Order } from '@armature/proto/orders/v1/orders.ts';
import { RpcError } from '@armature/runtime';
import { type Shop, wish } from '../../e2e/shop.ts';
import type { Teardown } from '../../support/infra.ts';
import type { Random } from '../../support/random.ts';
import { workloadCertificate } from '../../support/service.ts';
import { callTimeoutMs } from './asking.ts';
import { type Customer, openCustomer } from './customer.ts';
import type { CrashMesh } from './mesh.ts';
import { type MovingPrice, openMovingPrice } from './moving-price.ts';
import { openOutsider } from './outsider.ts';
import { type OrderNote, openResponseLog, type ResponseLog, type Story } from './responses.ts';
import { type Product, plots, weights } from './stories.ts';

export interface Workload {
  readonly responses: ResponseLog;
  /** Places one order of a kind, and does what its customer does afterwards. */
  tell(story: Story, until: AbortSignal): Promise<void>;
  /**
   * Places orders with this number of concurrent customers until `until` aborts. Resolves when every request has its
   * response.
   */
  run(customers: number, until: AbortSignal): Promise<void>;
}

/** Addresses of the services and of the acquirer. */
export type Reach = Pick<CrashMesh, 'grpcOf' | 'acquirerUrl'>;

const plentyOfUnits = 1_000_000n;
const hotUnits = 40n;
/** Two quantities that are allowed alone, but not in sum: the limit is 1,000 units of a SKU in an order. */
const overLimit = [600n, 500n];

/** A shop with its customers and staff. */
type Staffed = Pick<Shop, 'as' | 'customer' | 'staff' | 'stock'>;
type Lines = OrderNote['lines'];

/** A request that returned OK, and its response. */
interface Placing {
  request: ReturnType<typeof wish>;
  placed: Order;
}

/** Puts the products of all stories on sale. */
export async function openWorkload(t: Teardown, shop: Staffed, mesh: Reach, random: Random): Promise<Workload> {
  const { skus, moving, responses } = await stockProducts(shop);
  const asOrders = inventoryClient({
    addresses: [mesh.grpcOf('inventory')],
    tls: await workloadCertificate('orders'),
  });
  t.teardown(() => asOrders.close());
  const customer = openCustomer({
    ...{ customer: shop.customer, admin: await shop.as('admin'), asOrders, responses, random },
    ...{ outsider: openOutsider(mesh.acquirerUrl), plenty: skus.plenty[0]! },
  });
  const place = (request: ReturnType<typeof wish>) =>
    customer.retryUntilClear('PlaceOrder', () =>
      shop.customer.orders.placeOrder(request, { timeoutMs: callTimeoutMs }),
    );

  function linesOf(story: Story): Lines {
    const { lines: products = ['plenty'], merged = false } = plots[story];
    const left = new Map(Object.entries(skus).map(([product, all]) => [product, [...all]]));
    const quantity = (product: Product) => BigInt(random.between(1, product === 'hot' ? 1 : 3));
    return products.map((product) => {
      const choice = left.get(product)!;
      const sku = merged ? choice[0]! : random.pick(choice);
      if (!merged) choice.splice(choice.indexOf(sku), 1);
      return { sku, quantity: quantity(product) };
    });
  }

  /** Orders more of one SKU than the limit; the request must be refused at once. */
  async function askForTooMuch(): Promise<void> {
    const [sku] = skus.plenty;
    const request = wish(sku!, { lines: overLimit.map((quantity) => ({ sku, quantity })) });
    responses.asked(request.requestId!);
    const accepted = await place(request).catch((error: unknown) => {
      if (!(error instanceof RpcError) || error.code !== 'INVALID_ARGUMENT') throw error;
      return null;
    });
    if (accepted) responses.problem(`order ${accepted.orderId} of ${overLimit.join(' + ')} units was accepted`);
    else responses.refused(request.requestId!);
  }

  /** Orders at the price that the customer was shown. If it has changed, orders again at the new one. */
  async function placeAsShown(lines: Lines): Promise<Placing> {
    let shown = await moving.move(random, customer.retryUntilClear);
    for (;;) {
      const expectedUnitPrice = { currencyCode: 'EUR', amountMinor: shown };
      const request = wish(moving.sku, { lines: lines.map((line) => ({ ...line, expectedUnitPrice })) });
      responses.asked(request.requestId!);
      try {
        const placed = await place(request);
        if (placed.total?.amountMinor !== shown * lines[0]!.quantity)
          responses.problem(
            `order ${placed.orderId} costs ${placed.total?.amountMinor}, and the price shown was ${shown}`,
          );
        return { request, placed };
      } catch (error) {
        if (!(error instanceof RpcError) || error.reason !== 'PRICE_CHANGED') throw error;
        responses.refused(request.requestId!);
        shown = BigInt(error.metadata.unit_prices_minor!);
      }
    }
  }

  async function placeStory(story: Story, lines: Lines): Promise<Placing> {
    if (story === 'price expected') return placeAsShown(lines);
    if (story === 'price moved') await moving.move(random, customer.retryUntilClear);
    if (story === 'merged lines') await askForTooMuch();
    const request = wish(lines[0]!.sku, { lines: [...lines], paymentMethod: plots[story].card ?? 'card_ok' });
    responses.asked(request.requestId!);
    const placed = await place(request);
    if (story === 'price moved' && !moving.asked(placed))
      responses.problem(`order ${placed.orderId} costs ${placed.total?.amountMinor}, which was never its price`);
    return { request, placed };
  }

  async function tell(story: Story, until: AbortSignal): Promise<void> {
    const lines = linesOf(story);
    const { request, placed } = await placeStory(story, lines);
    const note = responses.accepted({ requestId: request.requestId!, story, lines, placed });
    // A customer whose connection broke sends the request again, and once more much later.
    if (random.next() < 0.2) responses.repeated(note, await place(request));
    await afterwards(customer, note, until);
    if (random.next() < 0.1) responses.repeated(note, await place(request));
  }

  return {
    responses,
    tell,
    async run(customers, until) {
      const one = async () => {
        while (!until.aborted) {
          await tell(random.weighted(weights), until).catch((error: unknown) =>
            responses.problem(`a request failed: ${String(error)}`),
          );
          await sleep(random.between(0, 100));
        }
      };
      await Promise.all(Array.from({ length: customers }, one));
      await customer.allDone();
    },
  };
}

async function afterwards(customer: Customer, note: OrderNote, until: AbortSignal): Promise<void> {
  const plot = plots[note.story];
  if (plot.afterwards) await plot.afterwards(customer, note, until);
  else if (customer.random.next() < 0.3) await customer.ended(note);
}

async function stockProducts(
  shop: Pick<Shop, 'stock' | 'staff'>,
): Promise<{ skus: Readonly<Record<Product, readonly string[]>>; moving: MovingPrice; responses: ResponseLog }> {
  const plenty = [];
  while (plenty.length < 3) plenty.push({ sku: await shop.stock(plentyOfUnits), units: plentyOfUnits });
  const hot = { sku: await shop.stock(hotUnits), units: hotUnits };
  const free = { sku: await shop.stock(plentyOfUnits, { EUR: 0n }), units: plentyOfUnits };
  const moving = await openMovingPrice(shop, plentyOfUnits);
  return {
    skus: { plenty: plenty.map(({ sku }) => sku), hot: [hot.sku], free: [free.sku], moving: [moving.sku] },
    moving,
    responses: openResponseLog([...plenty, hot, free, moving]),
  };
}
