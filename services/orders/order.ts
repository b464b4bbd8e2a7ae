import type { OrderEvent } from '@armature/proto/orders/v1/orders.ts';

export type State = 'PENDING' | 'CONFIRMED' | 'COMPLETED' | 'REJECTED' | 'CANCELLED';

export interface OrderLine {
  sku: string;
  title: string;
  quantity: bigint;
  unitPriceMinor: bigint;
}

export interface Address {
  recipient: string;
  street: string;
  city: string;
  postalCode: string;
  countryCode: string;
}

export interface Order {
  orderId: string;
  customerId: string;
  state: State;
  lines: OrderLine[];
  currencyCode: string;
  totalMinor: bigint;
  contactEmail: string;
  shippingAddress: Address;
  reason: string;
  reasonDetail: string;
  cancelRequested: boolean;
  reservationId: string;
  paymentId: string;
  /** The sequence of the newest event. */
  sequence: bigint;
  createdAt: Date;
  updatedAt: Date;
}

/** One of the facts in orders/v1/events.proto, tagged as in OrderEvent. */
export type Fact = NonNullable<OrderEvent['event']>;

/** What a caller may order of one product, as the catalogue has it. */
export interface Offer {
  sku: string;
  title: string;
  orderable: boolean;
  prices: readonly { currencyCode: string; amountMinor: bigint }[];
}

/** No order is worth more than this. */
export const totalMaxMinor = 100_000_000_000n;

export type Pricing =
  | { kind: 'priced'; lines: OrderLine[]; totalMinor: bigint }
  | { kind: 'unknown' | 'not_orderable' | 'no_price'; skus: string[] }
  | { kind: 'too_large' };

/** Prices the lines in one currency; lines of one SKU add up. Nothing is priced when any line cannot be. */
export function price(
  wanted: readonly { sku: string; quantity: bigint }[],
  offers: readonly Offer[],
  currencyCode: string,
): Pricing {
  const quantities = new Map<string, bigint>();
  for (const { sku, quantity } of wanted) quantities.set(sku, (quantities.get(sku) ?? 0n) + quantity);
  const bySku = new Map(offers.map((offer) => [offer.sku, offer]));
  const priceOf = (sku: string) => bySku.get(sku)?.prices.find((money) => money.currencyCode === currencyCode);
  const skus = [...quantities.keys()];
  const unknown = skus.filter((sku) => !bySku.has(sku));
  if (unknown.length > 0) return { kind: 'unknown', skus: unknown };
  const retired = skus.filter((sku) => !bySku.get(sku)?.orderable);
  if (retired.length > 0) return { kind: 'not_orderable', skus: retired };
  const unpriced = skus.filter((sku) => !priceOf(sku));
  if (unpriced.length > 0) return { kind: 'no_price', skus: unpriced };
  const lines = [...quantities].map(([sku, quantity]) => ({
    sku,
    title: bySku.get(sku)?.title ?? '',
    quantity,
    unitPriceMinor: priceOf(sku)?.amountMinor ?? 0n,
  }));
  const totalMinor = lines.reduce((sum, line) => sum + line.unitPriceMinor * line.quantity, 0n);
  return totalMinor > totalMaxMinor ? { kind: 'too_large' } : { kind: 'priced', lines, totalMinor };
}

/** What each fact makes of the order's state; facts that are not listed leave it as it is. */
const stateAfter: Partial<Record<Fact['$case'], State>> = {
  placed: 'PENDING',
  confirmed: 'CONFIRMED',
  completed: 'COMPLETED',
  rejected: 'REJECTED',
  cancelled: 'CANCELLED',
};

/** The order after one more fact. Folding the whole history over the first order gives the read model. */
export function apply(order: Order, fact: Fact, at: Date): Order {
  const next = { ...order, sequence: order.sequence + 1n, updatedAt: at, state: stateAfter[fact.$case] ?? order.state };
  if (fact.$case === 'cancelRequested') next.cancelRequested = true;
  if (fact.$case === 'rejected' || fact.$case === 'cancelled') {
    next.reason = fact.value.reason;
    next.reasonDetail = fact.value.reasonDetail;
  }
  return next;
}

/** Nothing more will happen to it unless somebody cancels it. */
export function hasEnded({ state, cancelRequested }: Pick<Order, 'state' | 'cancelRequested'>): boolean {
  return state === 'REJECTED' || state === 'CANCELLED' || (state === 'COMPLETED' && !cancelRequested);
}

export type Cancellation = 'same' | 'stop_checkout' | 'undo' | 'after_checkout' | 'refuse';

/** What asking for a cancellation means for an order as it is. */
export function cancellation({ state, cancelRequested }: Pick<Order, 'state' | 'cancelRequested'>): Cancellation {
  if (state === 'REJECTED') return 'refuse';
  if (state === 'CANCELLED' || cancelRequested) return 'same';
  // Past the pivot the checkout only goes forward: it is undone once it is complete.
  return state === 'PENDING' ? 'stop_checkout' : state === 'CONFIRMED' ? 'after_checkout' : 'undo';
}

export const money = (currencyCode: string, amountMinor: bigint) => ({ currencyCode, amountMinor });

/** The facts that services hear of, from an order. */
export const placed = (order: Order): Fact => ({
  $case: 'placed',
  value: {
    orderId: order.orderId,
    customerId: order.customerId,
    lines: purchased(order),
    total: money(order.currencyCode, order.totalMinor),
  },
});

export const confirmed = (order: Order): Fact => ({
  $case: 'confirmed',
  value: {
    orderId: order.orderId,
    customerId: order.customerId,
    contactEmail: order.contactEmail,
    lines: purchased(order),
    total: money(order.currencyCode, order.totalMinor),
  },
});

export const cancelledBecause = (order: Order, reason: string, reasonDetail: string, refundedMinor: bigint): Fact => ({
  $case: 'cancelled',
  value: {
    orderId: order.orderId,
    customerId: order.customerId,
    contactEmail: order.contactEmail,
    reason,
    reasonDetail,
    refunded: money(order.currencyCode, refundedMinor),
  },
});

const purchased = ({ lines, currencyCode }: Order) =>
  lines.map(({ sku, title, quantity, unitPriceMinor }) => ({
    sku,
    title,
    quantity,
    unitPrice: money(currencyCode, unitPriceMinor),
  }));
