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
  /** Null once it was erased; then there is no contact e-mail either. */
  shippingAddress: Address | null;
  reason: string;
  reasonDetail: string;
  cancelRequested: boolean;
  reservationId: string;
  paymentId: string;
  /** The sequence of the newest event. */
  sequence: bigint;
  createdAt: Date;
  updatedAt: Date;
  /** When the personal data was erased. */
  erasedAt?: Date;
}

/** An event of orders/v1/events.proto, tagged as in OrderEvent. */
export type Fact = NonNullable<OrderEvent['event']>;

/** The state of the order after each fact. Facts that are not listed do not change it. */
const stateAfter: Partial<Record<Fact['$case'], State>> = {
  placed: 'PENDING',
  confirmed: 'CONFIRMED',
  completed: 'COMPLETED',
  rejected: 'REJECTED',
  cancelled: 'CANCELLED',
};

/** The order after one more fact. The read model is the result of applying the whole history. */
export function apply(order: Order, fact: Fact, at: Date): Order {
  const next = { ...order, sequence: order.sequence + 1n, updatedAt: at, state: stateAfter[fact.$case] ?? order.state };
  if (fact.$case === 'cancelRequested') next.cancelRequested = true;
  if (fact.$case === 'rejected' || fact.$case === 'cancelled') {
    next.reason = fact.value.reason;
    next.reasonDetail = fact.value.reasonDetail;
  }
  return next;
}

/** True where no fact follows, unless the customer cancels a completed order. */
export function hasEnded({ state, cancelRequested }: Pick<Order, 'state' | 'cancelRequested'>): boolean {
  return state === 'REJECTED' || state === 'CANCELLED' || (state === 'COMPLETED' && !cancelRequested);
}

export type Cancellation = 'same' | 'stop_checkout' | 'undo' | 'after_checkout' | 'refuse';

/** The effect of a cancellation request, by the state of the order. */
export function cancellation({ state, cancelRequested }: Pick<Order, 'state' | 'cancelRequested'>): Cancellation {
  if (state === 'REJECTED') return 'refuse';
  if (state === 'CANCELLED' || cancelRequested) return 'same';
  // After its pivot the checkout only goes forward: the cancellation starts once the checkout is complete.
  return state === 'PENDING' ? 'stop_checkout' : state === 'CONFIRMED' ? 'after_checkout' : 'undo';
}

export const money = (currencyCode: string, amountMinor: bigint) => ({ currencyCode, amountMinor });

/** No event carries the address: the history is kept for good, and the row of the order has it until it is erased. */
const noContact = '';

/** The event that announces a new order. */
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
    contactEmail: noContact,
    lines: purchased(order),
    total: money(order.currencyCode, order.totalMinor),
  },
});

/** The refund to the customer of a cancelled order. */
export interface Refund {
  /** By the cancellation. */
  refundedMinor: bigint;
  /** By every refund of the payment, including the cancellation's. */
  refundedTotalMinor: bigint;
}

const customerRequest: { reason: Reason; reasonDetail: string } = { reason: 'CUSTOMER_REQUEST', reasonDetail: '' };

export const noRefund: Refund = { refundedMinor: 0n, refundedTotalMinor: 0n };

/**
 * The fact that ends a cancelled order. Where the customer requested the cancellation, the reason is CUSTOMER_REQUEST
 * without a detail, because the detail belongs to the reason that it replaces.
 */
export function cancelledBecause(
  order: Order,
  why: { reason: Reason; reasonDetail: string },
  { refundedMinor, refundedTotalMinor }: Refund,
): Fact {
  const { orderId, customerId, currencyCode } = order;
  const { reason, reasonDetail } = order.cancelRequested ? customerRequest : why;
  const refunded = money(currencyCode, refundedMinor);
  const refundedTotal = money(currencyCode, refundedTotalMinor);
  const value = { orderId, customerId, contactEmail: noContact, reason, reasonDetail, refunded, refundedTotal };
  return { $case: 'cancelled', value };
}

const purchased = ({ lines, currencyCode }: Order) =>
  lines.map(({ sku, title, quantity, unitPriceMinor }) => ({
    sku,
    title,
    quantity,
    unitPrice: money(currencyCode, unitPriceMinor),
  }));
