import type { OrderEvent } from '@armature/proto/orders/v1/orders.ts';
import type { Reason } from './reason.ts';

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

/** What came back to the customer. */
export interface Refund {
  /** By the cancellation. */
  refundedMinor: bigint;
  /** By every refund of the payment, the cancellation's included. */
  refundedTotalMinor: bigint;
}

const customerRequest: { reason: Reason; reasonDetail: string } = { reason: 'CUSTOMER_REQUEST', reasonDetail: '' };

export const noRefund: Refund = { refundedMinor: 0n, refundedTotalMinor: 0n };

/**
 * The end of an order that was undone. The reason is the customer's wherever a cancellation was asked for, and has no
 * detail then: the detail belongs to the reason that it replaces.
 */
export function cancelledBecause(
  order: Order,
  why: { reason: Reason; reasonDetail: string },
  { refundedMinor, refundedTotalMinor }: Refund,
): Fact {
  const { orderId, customerId, contactEmail, currencyCode } = order;
  const { reason, reasonDetail } = order.cancelRequested ? customerRequest : why;
  const refunded = money(currencyCode, refundedMinor);
  const refundedTotal = money(currencyCode, refundedTotalMinor);
  const value = { orderId, customerId, contactEmail, reason, reasonDetail, refunded, refundedTotal };
  return { $case: 'cancelled', value };
}

const purchased = ({ lines, currencyCode }: Order) =>
  lines.map(({ sku, title, quantity, unitPriceMinor }) => ({
    sku,
    title,
    quantity,
    unitPrice: money(currencyCode, unitPriceMinor),
  }));
