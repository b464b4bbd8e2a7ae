// What the responses of inventory and payments mean for the sagas of an order.
import { InventoryErrorReason } from '@armature/proto/inventory/v1/contract.ts';
import { type Reservation, ReservationState } from '@armature/proto/inventory/v1/inventory.ts';
import { PaymentErrorReason } from '@armature/proto/payments/v1/contract.ts';
import { type Payment, PaymentState } from '@armature/proto/payments/v1/payments.ts';
import { done, RpcError, rejected, type StatusOutcome, type StepOutcome } from '@armature/runtime';
import { nameList, type Reason } from './reason.ts';

/** Why a confirmed order is not charged after all. The checkout continues, to undo the order. */
export type Uncharged = { reason: Reason; detail: string };

/** Whether the units are held or taken. */
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

/** Whether the units are taken. A reservation that is only held waits for its commit. */
export function fromCommit(reservation: Reservation): StatusOutcome {
  const { state } = reservation;
  return state === ReservationState.RESERVATION_STATE_HELD ? { kind: 'absent' } : fromReservation(reservation);
}

/** Whether the amount is held or charged. */
export function fromAuthorization({ state, declineCode }: Payment): StepOutcome {
  switch (state) {
    case PaymentState.PAYMENT_STATE_AUTHORIZED:
    case PaymentState.PAYMENT_STATE_CAPTURED:
      return done();
    case PaymentState.PAYMENT_STATE_DECLINED:
      return rejected('PAYMENT_DECLINED', declineCode);
    case PaymentState.PAYMENT_STATE_PENDING:
      return { kind: 'unknown', detail: 'the acquirer has not answered' };
    case PaymentState.PAYMENT_STATE_HOLD_EXPIRED:
      return rejected('PAYMENT_HOLD_EXPIRED');
    default:
      return rejected('PAYMENT_VOIDED');
  }
}

/**
 * A payment may stay pending: the process that began it has died, and only the request knows the card. So it is
 * requested again, which continues where the first request stopped, or voided, which overtakes a request that is still
 * under way.
 */
export function fromPayment(payment: Payment): StatusOutcome {
  return payment.state === PaymentState.PAYMENT_STATE_PENDING ? { kind: 'absent' } : fromAuthorization(payment);
}

/** The states of a payment whose amount the acquirer no longer holds, as the metadata of a refusal names them. */
const holdLost: Readonly<Record<string, Reason>> = {
  HOLD_EXPIRED: 'PAYMENT_HOLD_EXPIRED',
  VOIDED_EXTERNALLY: 'PAYMENT_VOIDED',
};

/** The acquirer_code of a capture that an operator of payments gave up. No acquirer says it, so no customer reads it. */
const givenUp = 'given_up';

/**
 * The refusal of a capture that no repetition changes: the acquirer refuses for good, or does not hold the amount any
 * more. The step is done, and its result says why nothing was charged. Throws every other error again.
 */
export function uncharged(error: unknown): StepOutcome {
  if (!(error instanceof RpcError) || error.reason !== PaymentErrorReason.PAYMENT_STATE) throw error;
  const { state = '', acquirer_code: detail } = error.metadata;
  const lost = Object.hasOwn(holdLost, state) ? holdLost[state] : undefined;
  if (lost) return done({ reason: lost, detail: '' } satisfies Uncharged);
  if (!detail) throw error;
  if (detail === givenUp) return done({ reason: 'OPERATOR', detail: '' } satisfies Uncharged);
  return done({ reason: 'PAYMENT_DECLINED', detail } satisfies Uncharged);
}

/** For version 1, which commits after the order is confirmed: the units may be held for another order by now. */
export function expiredAfterConfirmation(error: unknown): StepOutcome {
  if (!(error instanceof RpcError) || error.reason !== InventoryErrorReason.RESERVATION_EXPIRED) throw error;
  return done({ reason: 'RESERVATION_EXPIRED', detail: '' } satisfies Uncharged);
}

/** A refusal that names SKUs hands them on, because the customer wants to know which. */
export function refusedSkus(error: unknown): StepOutcome {
  if (!(error instanceof RpcError) || !error.metadata.skus) throw error;
  const skus = error.metadata.skus.split(',');
  // Metadata is cut after 1,024 characters, in the middle of a name.
  if (error.metadata.skus.length >= 1_024) skus.pop();
  return rejected(error.reason, nameList(skus));
}
