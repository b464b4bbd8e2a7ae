import type { CaptureRule, ReturnRule } from './cards.ts';

export type ChargeStatus = 'pending' | 'authorized' | 'declined' | 'captured' | 'voided' | 'expired' | 'refunded';

/** A charge, as in responses and in the log. `refunded` means that the whole capture was refunded. */
export type Charge = {
  charge_id: string;
  order_reference: string;
  status: ChargeStatus;
  decline_code: string | null;
  currency_code: string;
  amount_minor: number;
  captured_minor: number;
  refunded_minor: number;
  created_at: string;
  /** When the hold ends unless it is captured or voided; absent on charges of an earlier release. */
  expires_at?: string;
};

/** A refusal is a decision too: it is recorded and repeated under its key. */
export type Refusal = { http_status: 402 | 409; code: string; message: string };

/** The charge after the operation, or why there was none. */
export type Decision = { charge: Charge; refusal?: undefined } | { charge?: undefined; refusal: Refusal };

const refuse = (code: string, message: string): Decision => ({ refusal: { http_status: 409, code, message } });

const captureDeclined: Decision = {
  refusal: { http_status: 402, code: 'capture_declined', message: 'the card refused the capture' },
};

/** Why a charge that is no longer, or not yet, an open authorization can be neither captured nor voided. */
const notOpen: Record<Exclude<ChargeStatus, 'authorized'>, Decision> = {
  pending: refuse('charge_pending', 'the authorization is not decided yet'),
  declined: refuse('charge_declined', 'the authorization was declined'),
  captured: refuse('charge_already_captured', 'the charge is captured already'),
  refunded: refuse('charge_already_captured', 'the charge is captured already'),
  voided: refuse('charge_voided', 'the authorization was voided'),
  expired: refuse('charge_expired', 'the authorization has expired'),
};

const voidDeclined: Decision = {
  refusal: { http_status: 402, code: 'void_declined', message: 'the processor refuses to void the authorization' },
};

const refundDeclined: Decision = {
  refusal: { http_status: 402, code: 'refund_declined', message: 'the card is closed and takes no refund' },
};

/** Takes up to the authorized amount, once. */
export function capture(charge: Charge, amount_minor: number, rule: CaptureRule): Decision {
  if (charge.status !== 'authorized') return notOpen[charge.status];
  if (amount_minor > charge.amount_minor) {
    return refuse('capture_exceeds_authorization', 'the amount is more than the authorization holds');
  }
  if (rule === 'decline') return captureDeclined;
  return { charge: { ...charge, status: 'captured', captured_minor: amount_minor } };
}

/** Voids an authorization that was not captured. */
export function voidAuthorization(charge: Charge, rule: ReturnRule = 'answer'): Decision {
  if (charge.status !== 'authorized') return notOpen[charge.status];
  if (rule === 'decline_void') return voidDeclined;
  return { charge: { ...charge, status: 'voided' } };
}

/** Ends a hold that was neither captured nor voided. */
export function expire(charge: Charge): Decision {
  if (charge.status !== 'authorized') return notOpen[charge.status];
  return { charge: { ...charge, status: 'expired' } };
}

/** Gives back part of what was captured; all refunds together never exceed it. */
export function refund(charge: Charge, amount_minor: number, rule: ReturnRule = 'answer'): Decision {
  if (charge.captured_minor === 0) return refuse('charge_not_captured', 'nothing is captured that could be refunded');
  if (amount_minor > charge.captured_minor - charge.refunded_minor) {
    return refuse('refund_exceeds_capture', 'the refunds together would be more than was captured');
  }
  if (rule === 'decline_refund') return refundDeclined;
  const refunded_minor = charge.refunded_minor + amount_minor;
  const status = refunded_minor === charge.captured_minor ? 'refunded' : 'captured';
  return { charge: { ...charge, status, refunded_minor } };
}
