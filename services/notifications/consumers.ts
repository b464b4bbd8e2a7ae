import { OrderCancelledEvent, OrderConfirmedEvent } from '@armature/proto/orders/v1/contract.ts';
import { type Consumer, consume } from '@armature/runtime';
import type { DeliveryStore } from './store.ts';

const mail = { orderIndependent: true } as const;

/**
 * What customers are told, and when. The mail itself is sent by a job: here it is only recorded. A mail says what
 * happened and changes nothing that another event has written, so it does not depend on their order.
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
    mail,
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
    mail,
  ),
];
