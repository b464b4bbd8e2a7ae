import type { CatalogServiceContract } from '@armature/proto/catalog/v1/contract.ts';
import { OrderServiceContract } from '@armature/proto/orders/v1/contract.ts';
import { type Order as OrderMessage, OrderState, type PlaceOrderRequest } from '@armature/proto/orders/v1/orders.ts';
import {
  type CallContext,
  type Client,
  closePage,
  type Database,
  implement,
  newId,
  openPage,
  ownsOrCanAccessAny,
  principalOf,
  type RpcError,
  runIdempotent,
} from '@armature/runtime';
import { fieldsInvalid } from '@armature/runtime/errors';
import type { ErasureStore } from './erasure-store.ts';
import {
  orderClosed,
  orderNotFound,
  priceChanged,
  priceUnavailable,
  skuNotOrderable,
  skuUnknown,
  totalTooLarge,
} from './errors.ts';
import { apply, cancellation, hasEnded, money, type Order, placed, type State } from './order.ts';
import { type Pricing, price, shapeViolations, totalMaxMinor } from './pricing.ts';
import type { OrderSagas } from './saga.ts';
import type { OrderStore } from './store.ts';

/** Also limited by the caller's deadline. */
const pricingTimeoutMs = 10_000;
/** The same limit as for the violations of the contract's field rules. */
const violationsMax = 20;
/** The number of events that watchOrder reads at a time. */
const watchBatch = 100;

export function orderService(input: {
  db: Database;
  store: OrderStore;
  catalog: Client<typeof CatalogServiceContract>;
  sagas: OrderSagas;
  erasures: ErasureStore;
}) {
  const { db, store, catalog, sagas, erasures } = input;
  return implement(OrderServiceContract, {
    async placeOrder(message, call) {
      const order = await priced(catalog, message, call);
      return runIdempotent(db, call, async (tx) => {
        const accepted = await store.append(tx, order, [placed(order)]);
        await sagas.startCheckout(tx, accepted, message.paymentMethod);
        return toMessage(accepted);
      });
    },

    async getOrder({ orderId }, call) {
      return toMessage(await readable(orderId, call));
    },

    async getOrderContact({ orderId }, call) {
      return { contactEmail: await db.read(call, (sql) => erasures.contactOf(sql, orderId)) };
    },

    async listOrders(message, call) {
      const state = stateOf(message.state);
      const page = openPage<[string]>(message, 50, [message.customerId, state]);
      const rows = await db.read(call, (sql) => store.list(sql, { customerId: message.customerId, state }, page));
      const { items, nextPageToken } = closePage(rows, page, (order): [string] => [order.orderId]);
      return { orders: items.map(toMessage), nextPageToken };
    },

    async cancelOrder({ orderId }, call) {
      return runIdempotent(db, call, async (tx) => {
        const order = await store.find(tx, orderId, 'for update');
        if (!ownsOrCanAccessAny(call, order.customerId)) throw orderNotFound(orderId);
        const effect = cancellation(order);
        if (effect === 'refuse') throw orderClosed(orderId);
        if (effect === 'same') return toMessage(order);
        const requestedBy = principalOf(call.caller);
        const cancelling = await store.append(tx, order, [
          { $case: 'cancelRequested', value: { orderId, requestedBy } },
        ]);
        if (effect === 'stop_checkout') await sagas.cancelCheckout(tx, cancelling);
        if (effect === 'undo') await sagas.startCancellation(tx, cancelling);
        return toMessage(cancelling);
      });
    },

    async *watchOrder({ orderId, afterSequence }, call) {
      let order = await readable(orderId, call);
      let sequence = afterSequence;
      for await (const _ of store.changes(orderId, call.signal)) {
        for (let full = true; full; ) {
          const events = await db.read(call, (sql) => store.events(sql, orderId, sequence, watchBatch));
          for (const event of events) {
            yield event;
            sequence = event.sequence;
            // Events after the read of the order bring it up to date.
            const { event: fact, occurTime = order.updatedAt } = event;
            if (fact && sequence > order.sequence) order = apply(order, fact, occurTime);
          }
          full = events.length === watchBatch;
        }
        if (hasEnded(order) && sequence >= order.sequence) return;
      }
    },

    async listOrderEvents({ orderId, afterSequence, pageSize }, call) {
      await readable(orderId, call);
      const limit = pageSize || 100;
      const events = await db.read(call, (sql) => store.events(sql, orderId, afterSequence, limit + 1));
      return { events: events.slice(0, limit), more: events.length > limit };
    },
  });

  /** The order. Throws ORDER_NOT_FOUND also where the caller may not read it. */
  async function readable(orderId: string, call: CallContext): Promise<Order> {
    const order = await db.read(call, (sql) => store.find(sql, orderId));
    if (!ownsOrCanAccessAny(call, order.customerId)) throw orderNotFound(orderId);
    return order;
  }
}

/**
 * Requests the prices from the catalogue and returns the order at these prices. Throws where an item cannot be ordered.
 */
async function priced(
  catalog: Client<typeof CatalogServiceContract>,
  message: PlaceOrderRequest,
  call: CallContext,
): Promise<Order> {
  const { currencyCode, customerId, contactEmail, shippingAddress } = message;
  const violations = shapeViolations(message);
  if (violations.length > 0) throw fieldsInvalid(violations.slice(0, violationsMax));
  const skus = [...new Set(message.lines.map((line) => line.sku))];
  const { variants } = await catalog.batchGetVariants({ skus }, { parent: call, timeoutMs: pricingTimeoutMs });
  const result = price(message, variants);
  if (result.kind !== 'priced') throw refusal(result, currencyCode);
  if (!shippingAddress) throw new Error('shipping_address is required by its field rule');
  const now = new Date();
  return {
    orderId: newId(),
    customerId,
    state: 'PENDING',
    lines: result.lines,
    currencyCode,
    totalMinor: result.totalMinor,
    contactEmail,
    shippingAddress,
    reason: '',
    reasonDetail: '',
    cancelRequested: false,
    reservationId: newId(),
    paymentId: result.totalMinor > 0n ? newId() : '',
    sequence: 0n,
    createdAt: now,
    updatedAt: now,
  };
}

function refusal(why: Exclude<Pricing, { kind: 'priced' }>, currencyCode: string): RpcError {
  switch (why.kind) {
    case 'unknown':
      return skuUnknown(why.skus);
    case 'not_orderable':
      return skuNotOrderable(why.skus);
    case 'no_price':
      return priceUnavailable(why.skus, currencyCode);
    case 'price_changed':
      return priceChanged(why.changes, why.totalMinor, currencyCode);
    case 'too_large':
      return totalTooLarge(totalMaxMinor);
  }
}

function stateOf(value: OrderMessage['state']): State | null {
  return value === OrderState.ORDER_STATE_UNSPECIFIED ? null : (OrderState[value].replace('ORDER_STATE_', '') as State);
}

function toMessage(order: Order): OrderMessage {
  const { currencyCode } = order;
  return {
    orderId: order.orderId,
    customerId: order.customerId,
    state: OrderState[`ORDER_STATE_${order.state}`],
    lines: order.lines.map(({ sku, title, quantity, unitPriceMinor }) => ({
      sku,
      title,
      quantity,
      unitPrice: money(currencyCode, unitPriceMinor),
      lineTotal: money(currencyCode, unitPriceMinor * quantity),
    })),
    total: money(currencyCode, order.totalMinor),
    contactEmail: order.contactEmail,
    shippingAddress: order.shippingAddress ?? undefined,
    reason: order.reason,
    reasonDetail: order.reasonDetail,
    cancelRequested: order.cancelRequested,
    reservationId: order.reservationId,
    paymentId: order.paymentId,
    sequence: order.sequence,
    createTime: order.createdAt,
    updateTime: order.updatedAt,
    eraseTime: order.erasedAt,
  };
}
