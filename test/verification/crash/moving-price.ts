// A product whose price staff change while customers order it.
import { randomUUID } from 'node:crypto';
import type { Order } from '@armature/proto/orders/v1/orders.ts';
import type { Shop } from '../../e2e/shop.ts';
import type { Random } from '../../support/random.ts';
import { callTimeoutMs } from './until-clear.ts';

/** Retries until the outcome is known. */
export type RetryUntilClear = <T>(what: string, act: () => Promise<T>) => Promise<T>;

export interface MovingPrice {
  readonly sku: string;
  readonly units: bigint;
  /** Sets a new price and returns it. */
  move(random: Random, retryUntilClear: RetryUntilClear): Promise<bigint>;
  /** Whether an order of one line costs a price that the product had at some time. */
  asked(order: Order): boolean;
}

export async function openMovingPrice({ staff }: Pick<Shop, 'staff'>, units: bigint): Promise<MovingPrice> {
  const sku = `M-${randomUUID().slice(0, 13).toUpperCase()}`;
  const variants = (amountMinor: bigint) => [
    { sku, title: 'One size', prices: [{ currencyCode: 'EUR', amountMinor }] },
  ];
  const first = 1_000n;
  const { categoryId } = await staff.catalog.createCategory({ slug: 'moving', title: 'Moving' });
  const product = { categoryId, title: `Moving ${sku}`, variants: variants(first) };
  const { productId } = await staff.catalog.createProduct(product);
  await staff.inventory.receiveStock({ locationId: 'main', lines: [{ sku, quantity: units }] });
  const prices = new Set([first]);
  return {
    sku,
    units,
    async move(random, retryUntilClear) {
      const price = BigInt(random.between(1_000, 2_000));
      prices.add(price);
      const request = { requestId: randomUUID(), productId, updateMask: ['variants'], variants: variants(price) };
      await retryUntilClear('UpdateProduct', () => staff.catalog.updateProduct(request, { timeoutMs: callTimeoutMs }));
      return price;
    },
    asked({ lines, total }) {
      const cost = total?.amountMinor ?? 0n;
      return lines.length === 1 && [...prices].some((price) => price * lines[0]!.quantity === cost);
    },
  };
}
