import { UserErasedEvent } from '@armature/proto/identity/v1/contract.ts';
import { OrderCancelledEvent, OrderConfirmedEvent } from '@armature/proto/orders/v1/contract.ts';
import { type Consumer, consume, principalOf } from '@armature/runtime';
import { removeMails } from '@armature/runtime/mail';
import { eraseDeadLetters } from '@armature/runtime/messaging';
import type { DeliveryStore } from './store.ts';

const options = { orderIndependent: true } as const;

/**
 * Queues an e-mail to the customer for each event; a job sends it. An e-mail does not depend on the order of events,
 * because it changes nothing that another event has written. An erasure is never undone.
 */
export const consumers = (store: DeliveryStore, mailUrl: string): Consumer[] => [
  consume(
    OrderConfirmedEvent,
    async (event, _call, tx) => {
      await store.enqueue(tx, {
        orderId: event.orderId,
        customerId: event.customerId,
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

  consume(
    UserErasedEvent,
    async ({ userId }, call, tx) => {
      const mails = await store.erase(tx, userId);
      // Events of orders carried e-mail addresses in earlier releases, and their dead letters still do.
      const isAbout = ({ customerId }: { customerId: string }) => customerId === userId;
      const why = { by: principalOf(call.caller), because: 'the account of the customer was erased' };
      await eraseDeadLetters(tx, OrderConfirmedEvent, { field: userId, isAbout }, why);
      await eraseDeadLetters(tx, OrderCancelledEvent, { field: userId, isAbout }, why);
      tx.afterCommit(() => {
        removeMails(mailUrl, mails).catch((error: unknown) => call.log.warn({ err: error }, 'e-mails not removed'));
      });
    },
    options,
  ),
];
