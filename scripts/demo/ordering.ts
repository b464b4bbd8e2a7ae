import { type Order, type OrderEvent, OrderState } from '@armature/proto/orders/v1/orders.ts';
import { formatMoney } from '@armature/runtime/money';
import type { AcquirerOperation } from './acquirer-log.ts';
import type { Screen } from './screen.ts';
import type { Shop } from './shop.ts';

export interface Wish {
  customer: string;
  card: string;
  currency: string;
  lines: readonly { sku: string; title: string; quantity: bigint }[];
}

/** Where orders go to; every customer of the demo lives there. */
export const address = {
  street: '12 St James Square',
  city: 'London',
  postalCode: 'SW1Y 4JH',
  countryCode: 'GB',
};

/** Places an order, shows every step as it happens, and returns the order as it ended. */
export async function buy(shop: Shop, screen: Screen, wish: Wish): Promise<Order> {
  const { customer, card, currency, lines } = wish;
  screen.line(`${customer} pays in ${currency} with ${card} for`);
  for (const { quantity, title, sku } of lines) screen.line(`  ${quantity} × ${title} (${sku})`);
  const as = await shop.as(customer);
  const start = performance.now();
  const { orderId } = await shop.orders.placeOrder(
    {
      customerId: customer,
      lines: lines.map(({ sku, quantity }) => ({ sku, quantity })),
      currencyCode: currency,
      paymentMethod: card,
      contactEmail: `${customer}@example.com`,
      shippingAddress: { recipient: customer, ...address },
    },
    as,
  );
  screen.line(`order ${orderId}`);
  return follow(shop, screen, { customer, orderId, start, after: 0n });
}

/** Asks for a finished order to be undone, and follows it to its end. */
export async function cancel(shop: Shop, screen: Screen, customer: string, order: Order): Promise<Order> {
  const start = performance.now();
  const { orderId, sequence } = order;
  screen.line(`${customer} cancels`);
  await shop.orders.cancelOrder({ orderId }, await shop.as(customer));
  return follow(shop, screen, { customer, orderId, start, after: sequence });
}

interface Following {
  customer: string;
  orderId: string;
  start: number;
  after: bigint;
}

async function follow(shop: Shop, screen: Screen, { customer, orderId, start, after }: Following): Promise<Order> {
  const as = await shop.as(customer);
  for await (const event of shop.orders.watchOrder({ orderId, afterSequence: after }, as)) {
    const [name, detail] = describe(event);
    screen.step(performance.now() - start, name, detail);
  }
  return shop.orders.getOrder({ orderId }, as);
}

function describe({ event }: OrderEvent): [name: string, detail: string] {
  switch (event?.$case) {
    case 'placed':
      return ['placed', formatMoney(event.value.total!)];
    case 'paymentCaptured':
      return ['payment captured', formatMoney(event.value.amount!)];
    case 'paymentRefunded':
      return ['payment refunded', formatMoney(event.value.amount!)];
    case 'rejected':
      return ['rejected', because(event.value)];
    case 'cancelled':
      return ['cancelled', because(event.value)];
    case 'cancelRequested':
      return ['cancellation asked for', ''];
    default:
      return [(event?.$case ?? 'something new').replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`), ''];
  }
}

const because = ({ reason, reasonDetail }: { reason: string; reasonDetail: string }) =>
  reasonDetail ? `${reason} (${reasonDetail})` : reason;

/** COMPLETED, CANCELLED and so on. */
export function stateName({ state }: Order): string {
  return (OrderState[state] ?? `state ${state}`).replace('ORDER_STATE_', '');
}

/** Shows what the acquirer wrote down. */
export function showOperations(screen: Screen, operations: readonly AcquirerOperation[]): void {
  screen.line("the acquirer's own log has of this order");
  screen.table(
    operations.map((one) => [
      `  #${one.position}`,
      one.kind,
      one.status,
      one.currency_code
        ? formatMoney({ currencyCode: one.currency_code, amountMinor: BigInt(one.amount_minor ?? 0) })
        : '',
      one.charge_id ?? '',
    ]),
  );
}

/** The units of some SKUs, all locations together. */
export interface Units {
  onHand: bigint;
  reserved: bigint;
  available: bigint;
}

export async function unitsOf(shop: Shop, skus: readonly string[]): Promise<Units> {
  const { levels } = await shop.inventory.batchGetStock({ skus: [...skus] }, await shop.as('bo'));
  const total = (read: (level: (typeof levels)[number]) => bigint) =>
    levels.reduce((sum, level) => sum + read(level), 0n);
  return {
    onHand: total((level) => level.onHand),
    reserved: total((level) => level.reserved),
    available: total((level) => level.available),
  };
}

export function showUnits(screen: Screen, before: Units, after: Units): void {
  const row = (name: string, units: Units) => [name, `${units.onHand}`, `${units.reserved}`, `${units.available}`];
  screen.table([['stock', 'on hand', 'reserved', 'available'], row('before', before), row('after', after)]);
}
