import { PaymentServiceContract } from '@armature/proto/payments/v1/contract.ts';
import { closePage, type Database, implement, openPage, ownsOrCanAccessAny } from '@armature/runtime';
import { amountInvalid, paymentNotFound } from './errors.ts';
import type { Operations } from './operations.ts';
import { toMessage } from './payment-message.ts';
import type { PaymentStore } from './store.ts';

export const paymentService = (db: Database, store: PaymentStore, operations: Operations) =>
  implement(PaymentServiceContract, {
    async authorizePayment({ paymentId, orderId, customerId, amount, paymentMethod }, call) {
      const money = positive(amount);
      return operations.authorize(call, { paymentId, orderId, customerId, ...money, paymentMethod });
    },

    async capturePayment({ paymentId }, call) {
      return operations.capture(call, paymentId);
    },

    async voidPayment({ paymentId, orderId }, call) {
      return operations.void(call, { paymentId, orderId });
    },

    async refundPayment({ paymentId, amount }, call) {
      return operations.refund(call, { paymentId, amount: amount ? positive(amount) : 'rest' });
    },

    async getPayment({ paymentId }, call) {
      const payment = await db.read(call, (sql) => store.payment(sql, paymentId));
      if (!ownsOrCanAccessAny(call, payment?.customerId ?? '') || !payment) throw paymentNotFound(paymentId);
      return toMessage(payment);
    },

    async listPayments(message, call) {
      const page = openPage<[string]>(message, 50, [message.customerId]);
      const rows = await db.read(call, (sql) => store.list(sql, message.customerId, page));
      const { items, nextPageToken } = closePage(rows, page, ({ paymentId }): [string] => [paymentId]);
      return { payments: items.map((payment) => toMessage(payment)), nextPageToken };
    },
  });

/** The contract's field rules ensure that the amount is present and not negative. */
function positive(amount: { currencyCode: string; amountMinor: bigint } | undefined) {
  if (!amount || amount.amountMinor <= 0n) throw amountInvalid('amount.amount_minor');
  return { currencyCode: amount.currencyCode, amountMinor: amount.amountMinor };
}
