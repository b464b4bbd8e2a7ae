import { OrderCancelledEvent, OrderConfirmedEvent } from '@armature/proto/orders/v1/contract.ts';
import { type Consumer, consume } from '@armature/runtime';
import type { DeliveryStore } from './store.ts';

const options = { orderIndependent: true } as const;

/**
 * Queues an e-mail to the customer for each event; a job sends it. An e-mail does not depend on the order of events,
 * because it changes nothing that another event has written.
 */
export const consumers = (store: DeliveryStore): Consumer[] => [
  consume(
    OrderConfirmedEvent,
    async (event, _call, tx) => {
      await store.enqueue(tx, {
        orderId: event.orderId,
        customerId: event.customerId,
        recipient: event.contactEmail,
        template: 'order_confirmed',
        data: {
          orderId: event.orderId,
          currencyCode: event.total?.currencyCode ?? '',
          totalMinor: String(event.total?.amountMinor ?? 0n),
          lines: event.lines.map(({ sku, title, quantity, unitPrice }) => ({
            sku,
            title,
            quantity: String(quantity),
            unitPriceMinor: String(unitPrice?.amountMinor ?? 0n),
          })),
          reason: '',
          refundedMinor: '0',
        },
      });
    },
    options,
  ),

  consume(
    OrderCancelledEvent,
    async (event, _call, tx) => {
      await store.enqueue(tx, {
        orderId: event.orderId,
        customerId: event.customerId,
        recipient: event.contactEmail,
        template: 'order_cancelled',
        data: {
          orderId: event.orderId,
          currencyCode: event.refunded?.currencyCode ?? '',
          totalMinor: '0',
          lines: [],
          reason: event.reason,
          refundedMinor: String(event.refunded?.amountMinor ?? 0n),
          refundedTotalMinor: String((event.refundedTotal ?? event.refunded)?.amountMinor ?? 0n),
        },
      });
    },
    options,
  ),
];
