import { type Payment as PaymentMessage, PaymentState } from '@armature/proto/payments/v1/payments.ts';
import type { Payment } from './payment.ts';

/**
 * The message of a payment. A payment that was voided before it existed has no amounts. `movedMinor` is the amount that
 * the request moved; `refundedByCaller` is the sum of all refunds that the caller requested.
 */
export function toMessage(payment: Payment, movedMinor?: bigint, refundedByCaller?: bigint): PaymentMessage {
  const { currencyCode } = payment;
  const money = (amountMinor: bigint | undefined) =>
    currencyCode && amountMinor !== undefined ? { currencyCode, amountMinor } : undefined;
  return {
    paymentId: payment.paymentId,
    orderId: payment.orderId,
    customerId: payment.customerId,
    state: PaymentState[`PAYMENT_STATE_${payment.state}`],
    amount: money(payment.amountMinor),
    captured: money(payment.capturedMinor),
    refunded: money(payment.refundedMinor),
    declineCode: payment.declineCode,
    acquirerChargeId: payment.chargeId,
    createTime: payment.createdAt,
    updateTime: payment.updatedAt,
    version: payment.version,
    moved: money(movedMinor),
    refundedByCaller: money(refundedByCaller),
  };
}
