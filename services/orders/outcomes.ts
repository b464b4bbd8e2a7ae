// What the responses of inventory and payments mean for the sagas of an order.
import { InventoryErrorReason } from '@armature/proto/inventory/v1/contract.ts';
import { type Reservation, ReservationState } from '@armature/proto/inventory/v1/inventory.ts';
import { PaymentErrorReason } from '@armature/proto/payments/v1/contract.ts';
import { type Payment, PaymentState } from '@armature/proto/payments/v1/payments.ts';
import { done, RpcError, rejected, type StatusOutcome, type StepOutcome } from '@armature/runtime';
import { nameList, type Reason } from './reason.ts';

/** Why a confirmed order is not charged. The checkout continues, and its last step starts a cancellation. */
export type Uncharged = { reason: Reason; detail: string };

/** The outcome of reserve-stock: done where the units are reserved or committed. */
export function fromReservation({ state }: Reservation): StepOutcome {
  switch (state) {
    case ReservationState.RESERVATION_STATE_HELD:
    case ReservationState.RESERVATION_STATE_COMMITTED:
      return done();
    case ReservationState.RESERVATION_STATE_EXPIRED:
      return rejected('RESERVATION_EXPIRED');
    default:
      return rejected('RESERVATION_RELEASED');
  }
}

/** The outcome of commit-reservation. A reservation in the state HELD is not committed yet. */
export function fromCommit(reservation: Reservation): StatusOutcome {
  const { state } = reservation;
  return state === ReservationState.RESERVATION_STATE_HELD ? { kind: 'absent' } : fromReservation(reservation);
}

/** The outcome of authorize-payment: done where the amount is authorized or captured. */
export function fromAuthorization({ state, declineCode }: Payment): StepOutcome {
  switch (state) {
    case PaymentState.PAYMENT_STATE_AUTHORIZED:
    case PaymentState.PAYMENT_STATE_CAPTURED:
      return done();
    case PaymentState.PAYMENT_STATE_DECLINED:
      return rejected('PAYMENT_DECLINED', declineCode);
    case PaymentState.PAYMENT_STATE_PENDING:
      return { kind: 'unknown', detail: 'the acquirer has not responded' };
    case PaymentState.PAYMENT_STATE_HOLD_EXPIRED:
      return rejected('PAYMENT_HOLD_EXPIRED');
    default:
      return rejected('PAYMENT_VOIDED');
  }
}

/**
 * A payment can stay pending: the process that handled the request has ended, and only the request contains the card.
 * So the saga sends the request again, which continues the first one, or voids the payment, which also cancels a
 * request that is still running.
 */
export function fromPayment(payment: Payment): StatusOutcome {
  return payment.state === PaymentState.PAYMENT_STATE_PENDING ? { kind: 'absent' } : fromAuthorization(payment);
}

/** The states of a payment whose hold has ended at the acquirer, as the metadata of a refusal names them. */
const holdLost: Readonly<Record<string, Reason>> = {
  HOLD_EXPIRED: 'PAYMENT_HOLD_EXPIRED',
  VOIDED_EXTERNALLY: 'PAYMENT_VOIDED',
};

/**
 * The acquirer_code of a capture that an operator of payments gave up. It is no code of an acquirer, so customers do
 * not see it.
 */
const givenUp = 'given_up';

/**
 * The outcome of a capture that was refused permanently: the acquirer refuses it, or the hold has ended. The step is
 * done, and its result says why nothing was charged. Rethrows every other error.
 */
export function uncharged(error: unknown): StepOutcome {
  if (!(error instanceof RpcError) || error.reason !== PaymentErrorReason.PAYMENT_STATE) throw error;
  const { state = '', acquirer_code: detail } = error.metadata;
  const reason = Object.hasOwn(holdLost, state) ? holdLost[state] : undefined;
  if (reason) return done({ reason: reason, detail: '' } satisfies Uncharged);
  if (!detail) throw error;
  if (detail === givenUp) return done({ reason: 'OPERATOR', detail: '' } satisfies Uncharged);
  return done({ reason: 'PAYMENT_DECLINED', detail } satisfies Uncharged);
}

/** For version 1, which commits after the order is confirmed: the reservation may have expired by then. */
export function expiredAfterConfirmation(error: unknown): StepOutcome {
  if (!(error instanceof RpcError) || error.reason !== InventoryErrorReason.RESERVATION_EXPIRED) throw error;
  return done({ reason: 'RESERVATION_EXPIRED', detail: '' } satisfies Uncharged);
}

/** The outcome of a refusal whose metadata names SKUs: its detail names them to the customer. */
export function refusedSkus(error: unknown): StepOutcome {
  if (!(error instanceof RpcError) || !error.metadata.skus) throw error;
  const skus = error.metadata.skus.split(',');
  // Metadata is truncated after 1,024 characters, possibly in the middle of a SKU.
  if (error.metadata.skus.length >= 1_024) skus.pop();
  return rejected(error.reason, nameList(skus));
}
