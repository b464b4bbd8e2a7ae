// Operations of customers and administrators on orders while processes are killed. Each retries until the outcome is
// known.
import { randomUUID } from 'node:crypto';
import type { inventoryClient } from '@armature/clients';
import type { Order } from '@armature/proto/orders/v1/orders.ts';
import { RpcError } from '@armature/runtime';
import { sleep } from '@armature/runtime/time';
import { type ClientSet, stateName } from '../../e2e/shop.ts';
import type { Random } from '../../support/random.ts';
import type { Outsider } from './outsider.ts';
import type { OrderNote, ResponseLog } from './responses.ts';
import { callTimeoutMs, untilClear } from './until-clear.ts';

export interface CustomerParts {
  customer: ClientSet;
  admin: ClientSet;
  /** Client of inventory with the certificate of orders: only orders may reserve. */
  asOrders: ReturnType<typeof inventoryClient>;
  outsider: Outsider;
  responses: ResponseLog;
  random: Random;
  /** A SKU that never runs out. */
  plenty: string;
}

export type Customer = ReturnType<typeof openCustomer>;

const options = { timeoutMs: callTimeoutMs };
const hasEnded = (order: Order) => ['COMPLETED', 'REJECTED', 'CANCELLED'].includes(stateName(order));
/**
 * Limit for one story, so that it cannot wait for ever. While processes are killed, an order may need any number of
 * attempts. The invariants require that it ends within a minute after everything runs again.
 */
const endsWithinMs = 600_000;
/** When a customer cancels late. Processes live for less, so that any process may have to handle it. */
const lateMs = { low: 4_000, high: 40_000 };

export function openCustomer(parts: CustomerParts) {
  const { customer, responses, random } = parts;
  const retryUntilClear: RetryUntilClear = (what, act) => retried(parts, what, act);
  /** Late cancellations that are not done yet, while the customer places other orders. */
  const later: Promise<void>[] = [];
  const current = (orderId: string) => currentOrder(parts, orderId);

  /** Waits up to `endsWithinMs` for the end. An order that does not end is a fault; the invariants explain it. */
  async function ended(note: OrderNote): Promise<Order> {
    for (const end = performance.now() + endsWithinMs; ; ) {
      const order = await current(note.orderId);
      responses.saw(note, stateName(order));
      if (hasEnded(order)) return order;
      if (performance.now() > end)
        throw new Error(`order ${note.orderId} (${note.story}) is still ${stateName(order)}`);
      await sleep(random.between(200, 800));
    }
  }

  async function cancel(note: OrderNote): Promise<void> {
    const request = { requestId: randomUUID(), orderId: note.orderId };
    try {
      await retryUntilClear('CancelOrder', () => customer.orders.cancelOrder(request, options));
      note.cancel = 'accepted';
    } catch (error) {
      if (!(error instanceof RpcError) || error.reason !== 'ORDER_CLOSED') throw error;
      note.cancel = 'refused';
    }
  }

  return {
    random,
    retryUntilClear,
    ended,
    cancel,

    /** Waits for the end. Returns the order if it completed. */
    async completed(note: OrderNote): Promise<Order | null> {
      const order = await ended(note);
      return stateName(order) === 'COMPLETED' ? order : null;
    },

    /** Cancels after a long time, or at the end of the run. Does not block the customer. */
    cancelLate(note: OrderNote, until: AbortSignal): void {
      later.push(sleep(random.between(lateMs.low, lateMs.high), until).then(() => cancel(note)));
    },

    /** Resolves when all late cancellations are done. */
    async allDone(): Promise<void> {
      for (const ending of await Promise.allSettled(later)) {
        if (ending.status === 'rejected') responses.problem(`a late cancellation failed: ${String(ending.reason)}`);
      }
    },
    ...sideEffects(parts),
  };
}

type RetryUntilClear = <T>(what: string, act: () => Promise<T>) => Promise<T>;

/** Retries until the outcome is known, and counts it. */
async function retried<T>({ responses, random }: CustomerParts, what: string, act: () => Promise<T>): Promise<T> {
  const noteError = (error: unknown) =>
    responses.noteResponse(what, error instanceof RpcError ? error.code : String(error));
  try {
    const response = await untilClear(random, 100, act, noteError);
    responses.noteResponse(what, 'OK');
    return response;
  } catch (error) {
    noteError(error);
    throw error;
  }
}

const currentOrder = (parts: CustomerParts, orderId: string) =>
  retried(parts, 'GetOrder', () => parts.customer.orders.getOrder({ orderId }, options));

/** What others do to an order: an administrator, a party at the acquirer, a service that reserves and stops. */
function sideEffects(parts: CustomerParts) {
  const { admin, asOrders, outsider, responses, random } = parts;
  return {
    /** An administrator refunds part of a completed order, sometimes all of it. */
    async refundPart(note: OrderNote, { paymentId, total }: Order): Promise<void> {
      const most = Number(total!.amountMinor);
      const amountMinor = BigInt(random.next() < 0.2 ? most : random.between(1, most));
      const request = {
        ...{ requestId: randomUUID(), paymentId },
        amount: { currencyCode: total!.currencyCode, amountMinor },
      };
      try {
        await retried(parts, 'RefundPayment', () => admin.payments.refundPayment(request, options));
        note.refundedMinor += amountMinor;
      } catch (error) {
        // Less than that is left to refund only if a cancellation was faster.
        if (!(error instanceof RpcError) || error.reason !== 'REFUND_EXCEEDS_CAPTURE') throw error;
      }
    },

    /** Another party asks the acquirer to void the hold, if there is one before the order ends. */
    async voidOutside(note: OrderNote): Promise<void> {
      const over = async () => hasEnded(await currentOrder(parts, note.orderId));
      note.voidedOutside = await outsider.voidHold(note.orderId, over);
    },

    /** Reserves units that no order commits; the reservation has to expire. */
    async abandon({ orderId }: OrderNote): Promise<void> {
      const lines = [{ sku: parts.plenty, quantity: 1n }];
      const request = { requestId: randomUUID(), reservationId: randomUUID(), orderId, lines };
      await retried(parts, 'ReserveStock', () => asOrders.reserveStock(request, options));
      responses.abandoned += 1;
    },
  };
}
