// What customers and administrators do to orders while processes are killed: each asks until there is a clear answer.
import { randomUUID } from 'node:crypto';
import type { inventoryClient } from '@armature/clients';
import type { Order } from '@armature/proto/orders/v1/orders.ts';
import { RpcError } from '@armature/runtime';
import { sleep } from '@armature/runtime/time';
import { type Counter, stateName } from '../../e2e/shop.ts';
import type { Random } from '../../support/random.ts';
import type { AnswerLog, OrderNote } from './answers.ts';
import { callTimeoutMs, untilClear } from './asking.ts';
import type { Outsider } from './outsider.ts';

export interface CustomerParts {
  customer: Counter;
  admin: Counter;
  /** Inventory, as orders calls it: only orders may reserve. */
  asOrders: ReturnType<typeof inventoryClient>;
  outsider: Outsider;
  answers: AnswerLog;
  random: Random;
  /** A SKU of which there is enough. */
  plenty: string;
}

export type Customer = ReturnType<typeof openCustomer>;

const options = { timeoutMs: callTimeoutMs };
const hasEnded = (order: Order) => ['COMPLETED', 'REJECTED', 'CANCELLED'].includes(stateName(order));
/**
 * Keeps a story from waiting for ever. While everything is killed, an order may need any number of tries; it must have
 * ended within a minute of everything running again, and the invariants hold it to that.
 */
const endsWithinMs = 600_000;
/** When a customer comes back to cancel: processes live for less, so that it may be any process's business. */
const lateMs = { low: 4_000, high: 40_000 };

export function openCustomer(parts: CustomerParts) {
  const { customer, admin, asOrders, outsider, answers, random } = parts;
  const { orders } = customer;
  /** What customers come back for much later, while they shop on. */
  const later: Promise<void>[] = [];

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

  const current = (orderId: string) => insist('GetOrder', () => orders.getOrder({ orderId }, options));

  /** Waits for the end, but not for ever: an order that comes to none is a fault, which the invariants explain. */
  async function ended(note: OrderNote): Promise<Order> {
    for (const end = performance.now() + endsWithinMs; ; ) {
      const order = await current(note.orderId);
      answers.saw(note, stateName(order));
      if (hasEnded(order)) return order;
      if (performance.now() > end)
        throw new Error(`order ${note.orderId} (${note.story}) is still ${stateName(order)}`);
      await sleep(random.between(200, 800));
    }
  }

  async function cancel(note: OrderNote): Promise<void> {
    const request = { requestId: randomUUID(), orderId: note.orderId };
    try {
      await insist('CancelOrder', () => orders.cancelOrder(request, options));
      note.cancel = 'accepted';
    } catch (error) {
      if (!(error instanceof RpcError) || error.reason !== 'ORDER_CLOSED') throw error;
      note.cancel = 'refused';
    }
  }

  return {
    random,
    insist,
    ended,
    cancel,

    /** Waits for the end, and answers the order if it completed. */
    async completed(note: OrderNote): Promise<Order | null> {
      const order = await ended(note);
      return stateName(order) === 'COMPLETED' ? order : null;
    },

    /** Cancels after a long time, or at the end of the run; the customer does other things meanwhile. */
    cancelLate(note: OrderNote, until: AbortSignal): void {
      later.push(sleep(random.between(lateMs.low, lateMs.high), until).then(() => cancel(note)));
    },

    /** Resolves when everybody has come back for what was to be done later. */
    async allDone(): Promise<void> {
      for (const ending of await Promise.allSettled(later)) {
        if (ending.status === 'rejected') answers.problem(`a late cancellation failed: ${String(ending.reason)}`);
      }
    },

    /** An administrator gives back some of what a completed order has cost, sometimes all of it. */
    async refundPart(note: OrderNote, { paymentId, total }: Order): Promise<void> {
      const most = Number(total!.amountMinor);
      const amountMinor = BigInt(random.next() < 0.2 ? most : random.between(1, most));
      const request = {
        ...{ requestId: randomUUID(), paymentId },
        amount: { currencyCode: total!.currencyCode, amountMinor },
      };
      try {
        await insist('RefundPayment', () => admin.payments.refundPayment(request, options));
        note.refundedMinor += amountMinor;
      } catch (error) {
        // Only a cancellation that was faster leaves less than that to give back.
        if (!(error instanceof RpcError) || error.reason !== 'REFUND_EXCEEDS_CAPTURE') throw error;
      }
    },

    /** Another party has the acquirer release the hold, if there is one before the order ends. */
    async voidOutside(note: OrderNote): Promise<void> {
      const over = async () => hasEnded(await current(note.orderId));
      note.voidedOutside = await outsider.voidHold(note.orderId, over);
    },

    /** Takes units that no order commits; their reservation has to expire. */
    async abandon({ orderId }: OrderNote): Promise<void> {
      const lines = [{ sku: parts.plenty, quantity: 1n }];
      const request = { requestId: randomUUID(), reservationId: randomUUID(), orderId, lines };
      await insist('ReserveStock', () => asOrders.reserveStock(request, options));
      answers.abandoned += 1;
    },
  };
}
