// Places the orders of the crash test, one way for each story.
import type { Order } from '@armature/proto/orders/v1/orders.ts';
import { RpcError } from '@armature/runtime';
import { type Shop, wish } from '../../e2e/shop.ts';
import type { Random } from '../../support/random.ts';
import type { Customer } from './customer.ts';
import type { MovingPrice } from './moving-price.ts';
import type { OrderNote, ResponseLog, Story } from './responses.ts';
import { type Product, plots } from './stories.ts';
import { callTimeoutMs } from './until-clear.ts';

/** Two quantities that are allowed alone, but not in sum: the limit is 1,000 units of a SKU in an order. */
const overLimit = [600n, 500n];

type Lines = OrderNote['lines'];

/** A request that returned OK, and its response. */
interface Placing {
  request: ReturnType<typeof wish>;
  placed: Order;
}

export interface PlacingParts {
  shop: Pick<Shop, 'customer'>;
  skus: Readonly<Record<Product, readonly string[]>>;
  moving: MovingPrice;
  responses: ResponseLog;
  customer: Customer;
  random: Random;
}

export function openPlacing({ shop, skus, moving, responses, customer, random }: PlacingParts) {
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

  return { linesOf, place, placeStory };
}
