/**
 * The state of a payment. PENDING: the authorization has no recorded outcome yet. HOLD_EXPIRED: the hold expired at the
 * acquirer. VOIDED_EXTERNALLY: the acquirer voided the hold without a request of payments.
 */
export type State =
  | 'PENDING'
  | 'AUTHORIZED'
  | 'DECLINED'
  | 'CAPTURED'
  | 'VOIDED'
  | 'REFUNDED'
  | 'HOLD_EXPIRED'
  | 'VOIDED_EXTERNALLY';
export type OperationKind = 'authorize' | 'capture' | 'void' | 'refund';

/** A stored payment. The currency is empty where it was voided before it existed. */
export interface Payment {
  readonly paymentId: string;
  readonly orderId: string;
  readonly customerId: string;
  readonly state: State;
  readonly currencyCode: string;
  readonly amountMinor: bigint;
  readonly capturedMinor: bigint;
  readonly refundedMinor: bigint;
  /** The amount reserved by pending refunds. */
  readonly refundingMinor: bigint;
  readonly declineCode: string;
  readonly chargeId: string;
  /** The operation that authorizes this payment, so that a void can cancel it. Null where there is none. */
  readonly authorizeOperationId: string | null;
  /** The pending capture or void. There is at most one. */
  readonly exclusiveOperationId: string | null;
  /** The number of emitted events, which is the sequence of the last one. */
  readonly events: bigint;
  readonly createdAt: Date;
  readonly updatedAt: Date;
  readonly version: bigint;
}

/** DONE: it acted, or had nothing to do. REFUSED: the acquirer refused it. CANCELLED: its key never acts. */
export type OperationState = 'PENDING' | 'DONE' | 'REFUSED' | 'CANCELLED';

/** One intent to move money. Its id is the first idempotency key at the acquirer. */
export interface Operation {
  readonly operationId: string;
  readonly paymentId: string;
  readonly kind: OperationKind;
  readonly state: OperationState;
  readonly amountMinor: bigint;
  /** A refund that was requested without an amount: of the rest. */
  readonly rest: boolean;
  /** The acquirer's own id of the operation; empty until it is known. */
  readonly externalId: string;
  /** Why the acquirer refused; empty otherwise. */
  readonly failureCode: string;
  /** The idempotency key at the acquirer: the operation's id, until an operator requests a new key. */
  readonly key: string;
  /** The age of that key. The acquirer deletes keys after some time. */
  readonly keyAgeMs: number;
  /** An operator must decide what happens next. */
  readonly needsOperator: boolean;
}

export type RefusalReason = 'state' | 'busy' | 'currency' | 'exceeds';
/** The plan of a request: act with an amount, respond because nothing is left to do, or refuse. */
export type Plan =
  | { kind: 'act'; payment: Payment; amountMinor: bigint }
  | { kind: 'same' }
  | { kind: 'refuse'; because: RefusalReason };

/** The rule of each request in each state. Amounts and pending operations are checked after it. */
const rules: Record<Exclude<OperationKind, 'authorize'>, Record<State, 'act' | 'same' | RefusalReason>> = {
  capture: {
    PENDING: 'state',
    AUTHORIZED: 'act',
    DECLINED: 'state',
    CAPTURED: 'state',
    VOIDED: 'state',
    REFUNDED: 'state',
    HOLD_EXPIRED: 'state',
    VOIDED_EXTERNALLY: 'state',
  },
  void: {
    PENDING: 'act',
    AUTHORIZED: 'act',
    DECLINED: 'same',
    CAPTURED: 'state',
    VOIDED: 'same',
    // The acquirer captured it without a request of payments, and it was refunded: neither a hold nor a charge is left.
    REFUNDED: 'same',
    HOLD_EXPIRED: 'same',
    VOIDED_EXTERNALLY: 'same',
  },
  refund: {
    PENDING: 'state',
    AUTHORIZED: 'state',
    DECLINED: 'state',
    CAPTURED: 'act',
    VOIDED: 'state',
    REFUNDED: 'exceeds',
    HOLD_EXPIRED: 'state',
    VOIDED_EXTERNALLY: 'state',
  },
};

/**
 * Plans a capture or a void. While another one is pending, the plan is refused as "busy", because the outcome of that
 * one decides.
 */
export function planExclusive(kind: 'capture' | 'void', payment: Payment, operationId: string): Plan {
  const rule = rules[kind][payment.state];
  if (rule === 'same') return { kind: 'same' };
  if (rule !== 'act') return { kind: 'refuse', because: rule };
  if (payment.exclusiveOperationId !== null) return { kind: 'refuse', because: 'busy' };
  const { amountMinor } = payment;
  return { kind: 'act', payment: { ...payment, exclusiveOperationId: operationId }, amountMinor };
}

/** The amount of a refund; 'rest' is the captured amount minus the refunded amount. */
export type RefundAmount = 'rest' | { readonly currencyCode: string; readonly amountMinor: bigint };

/** Plans a refund and reserves its amount. Pending refunds count, so concurrent refunds cannot exceed the capture. */
export function planRefund(payment: Payment, amount: RefundAmount): Plan {
  const rule = rules.refund[payment.state];
  if (rule !== 'act' && rule !== 'exceeds') return { kind: 'refuse', because: 'state' };
  const left = payment.capturedMinor - payment.refundedMinor - payment.refundingMinor;
  if (amount === 'rest') {
    // The rest depends on the outcome of the pending refund, so the client must retry.
    if (payment.refundingMinor > 0n) return { kind: 'refuse', because: 'busy' };
    return left === 0n ? { kind: 'same' } : reserveRefund(payment, left);
  }
  if (amount.currencyCode !== payment.currencyCode) return { kind: 'refuse', because: 'currency' };
  if (amount.amountMinor > left) return { kind: 'refuse', because: 'exceeds' };
  return reserveRefund(payment, amount.amountMinor);
}

function reserveRefund(payment: Payment, amountMinor: bigint): Plan {
  return { kind: 'act', payment: { ...payment, refundingMinor: payment.refundingMinor + amountMinor }, amountMinor };
}

/**
 * Plans to record an operation that the acquirer did without a request of payments. `exclusive` is the pending capture
 * or void. A capture is recorded only while that one needs an operator, because every other case is detected
 * automatically.
 */
export function planRecorded(
  payment: Payment,
  kind: 'capture' | 'refund',
  recorded: { readonly currencyCode: string; readonly amountMinor: bigint },
  exclusive: Operation | null,
): Plan {
  const { amountMinor, currencyCode } = recorded;
  if (kind === 'refund') {
    const plan = planRefund(payment, recorded);
    const onlyReserved = amountMinor <= payment.capturedMinor - payment.refundedMinor;
    const exceeds = plan.kind === 'refuse' && plan.because === 'exceeds';
    return exceeds && onlyReserved ? { kind: 'refuse', because: 'busy' } : plan;
  }
  if (currencyCode !== payment.currencyCode) return { kind: 'refuse', because: 'currency' };
  if (payment.state !== 'AUTHORIZED' || !exclusive?.needsOperator) return { kind: 'refuse', because: 'state' };
  // A capture of the full amount is the outcome of the pending capture: DONE_AT_ACQUIRER records it.
  if (exclusive.kind === 'capture' && amountMinor >= payment.amountMinor) return { kind: 'refuse', because: 'state' };
  return { kind: 'act', payment, amountMinor };
}

/** The amount that an operation moved; zero where it had nothing to do, was declined or is pending. */
export function movedBy({ state }: Payment, { kind, state: ended, externalId, amountMinor }: Operation): bigint {
  const acted = ended === 'DONE' && externalId !== '' && !(kind === 'authorize' && state === 'DECLINED');
  return acted ? amountMinor : 0n;
}

/** The code of a capture or void that is refused because the charge was captured under another key. */
export const alreadyCaptured = 'charge_already_captured';

/** The certain outcome of an operation. */
export type Outcome =
  | { kind: 'acted'; externalId: string; chargeId: string }
  | { kind: 'declined'; externalId: string; chargeId: string; code: string }
  | { kind: 'refused'; code: string }
  /** Refused, because the hold has expired or was voided without a request of payments. */
  | { kind: 'ended'; end: HoldEnd; code: string }
  | { kind: 'cancelled' }
  | { kind: 'unneeded' };

export type EventKind = 'authorized' | 'declined' | 'captured' | 'voided' | 'refunded';

/** How a hold ended, where payments neither captured nor voided it. */
export type HoldEnd =
  | { readonly how: 'expired' | 'voided_externally'; readonly externalId: string }
  /** Decided by an operator; the id is that of the resolution. */
  | { readonly how: 'nothing_held'; readonly externalId: string };

/** The kind of a ledger entry: an operation that acted, the end of a hold, or a decision of an operator. */
export type EntryKind = OperationKind | 'expire' | 'release' | 'refund_outside';

/** A movement of money, as the ledger records it. */
export interface Movement {
  readonly kind: EntryKind;
  readonly amountMinor: bigint;
  readonly externalId: string;
}

/** The payment after a change, with the movement for the ledger and the event for other services. */
export interface Change {
  readonly payment: Payment;
  readonly moved: Movement | null;
  readonly event: EventKind | null;
  /** Of a "voided" event. */
  readonly voidReason?: HoldEnd['how'] | 'requested';
}

export interface OperationChange extends Change {
  readonly operation: Operation;
}

/** The effect of an outcome on payment and operation. `to` is null where the payment does not change. */
interface Effect {
  to: Partial<Payment> | null;
  operation: OperationState;
  moved?: OperationKind;
  event?: EventKind;
  needsOperator?: true;
}

const effects: Record<OperationKind, (payment: Payment, operation: Operation, outcome: Outcome) => Effect> = {
  authorize(_payment, _operation, outcome) {
    switch (outcome.kind) {
      case 'acted':
        return {
          to: { state: 'AUTHORIZED', chargeId: outcome.chargeId },
          operation: 'DONE',
          moved: 'authorize',
          event: 'authorized',
        };
      case 'declined':
        return {
          to: { state: 'DECLINED', chargeId: outcome.chargeId, declineCode: outcome.code },
          operation: 'DONE',
          event: 'declined',
        };
      case 'refused':
        return { to: { state: 'DECLINED', declineCode: outcome.code }, operation: 'DONE', event: 'declined' };
      default:
        return { to: { state: 'VOIDED' }, operation: 'CANCELLED', event: 'voided' };
    }
  },
  capture(_payment, { amountMinor }, outcome) {
    // The customer is charged a different amount, so an operator must decide.
    if (outcome.kind === 'refused' && outcome.code === alreadyCaptured)
      return { to: null, operation: 'PENDING', needsOperator: true };
    if (outcome.kind !== 'acted') return { to: null, operation: 'REFUSED' };
    const to = { state: 'CAPTURED', capturedMinor: amountMinor } as const;
    return { to, operation: 'DONE', moved: 'capture', event: 'captured' };
  },
  void(_payment, _operation, outcome) {
    if (outcome.kind === 'unneeded') return { to: null, operation: 'DONE' };
    // The caller needs to know whether the hold has ended, so a refused void stays pending for an operator.
    if (outcome.kind !== 'acted') return { to: null, operation: 'PENDING', needsOperator: true };
    return { to: { state: 'VOIDED' }, operation: 'DONE', moved: 'void', event: 'voided' };
  },
  refund(payment, { amountMinor }, outcome) {
    const refundingMinor = payment.refundingMinor - amountMinor;
    if (outcome.kind !== 'acted') return { to: { refundingMinor }, operation: 'REFUSED', needsOperator: true };
    const refundedMinor = payment.refundedMinor + amountMinor;
    const state = refundedMinor === payment.capturedMinor ? 'REFUNDED' : 'CAPTURED';
    return {
      to: { state, refundedMinor, refundingMinor },
      operation: 'DONE',
      moved: 'refund',
      event: 'refunded',
    };
  },
};

/** The only state in which each kind of operation can act. Any other state means that the ledger is wrong. */
const actsIn: Record<OperationKind, State> = {
  authorize: 'PENDING',
  capture: 'AUTHORIZED',
  void: 'AUTHORIZED',
  refund: 'CAPTURED',
};

/** Applies a certain outcome to a pending operation and its payment. Some refusals leave it pending for an operator. */
export function completeOperation(payment: Payment, operation: Operation, outcome: Outcome): OperationChange {
  if (operation.state !== 'PENDING')
    throw new Error(`operation ${operation.operationId} is ${operation.state} already`);
  if (outcome.kind === 'ended') return completeWithoutHold(payment, operation, outcome);
  const { kind, operationId } = operation;
  if ((outcome.kind === 'acted' || kind === 'authorize') && payment.state !== actsIn[kind]) {
    throw new Error(`${kind} ${operationId} cannot end on a payment that is ${payment.state}`);
  }
  if (outcome.kind === 'unneeded' && (kind !== 'void' || rules.void[payment.state] !== 'same')) {
    throw new Error(`${kind} ${operationId} cannot be unneeded on a payment that is ${payment.state}`);
  }
  const effect = effects[kind](payment, operation, outcome);
  const event = effect.event ?? null;
  const externalId = 'externalId' in outcome ? outcome.externalId : '';
  return {
    payment: changed(effect.operation === 'PENDING' ? payment : released(payment, operationId), effect.to, event),
    operation: {
      ...operation,
      state: effect.operation,
      externalId,
      failureCode: 'code' in outcome ? outcome.code : '',
      needsOperator: effect.needsOperator ?? false,
    },
    moved: effect.moved ? { kind: effect.moved, amountMinor: operation.amountMinor, externalId } : null,
    event,
    voidReason: 'requested',
  };
}

/** The payment after a change. An event counts in `events` and increments the version. */
function changed(payment: Payment, to: Partial<Payment> | null, event: EventKind | null): Payment {
  const counted = event ? 1n : 0n;
  return { ...payment, ...to, events: payment.events + counted, version: payment.version + counted };
}

const released = (payment: Payment, operationId: string): Payment =>
  payment.exclusiveOperationId === operationId ? { ...payment, exclusiveOperationId: null } : payment;

/** Without a hold, a capture is refused and a void has nothing to do. Both record the end of the hold. */
function completeWithoutHold(
  before: Payment,
  operation: Operation,
  outcome: Outcome & { kind: 'ended' },
): OperationChange {
  const { kind, operationId } = operation;
  if (kind !== 'capture' && kind !== 'void')
    throw new Error(`${kind} ${operationId} cannot find that a hold has ended`);
  const ended = endHold(released(before, operationId), outcome.end);
  const state = kind === 'capture' ? 'REFUSED' : 'DONE';
  return {
    ...ended,
    operation: { ...operation, state, externalId: '', failureCode: outcome.code, needsOperator: false },
  };
}

const endStates: Record<HoldEnd['how'], { state: State; entry: EntryKind }> = {
  expired: { state: 'HOLD_EXPIRED', entry: 'expire' },
  voided_externally: { state: 'VOIDED_EXTERNALLY', entry: 'void' },
  nothing_held: { state: 'VOIDED_EXTERNALLY', entry: 'release' },
};

/** Ends the hold of a payment. Changes nothing where it has none. */
export function endHold(payment: Payment, { how, externalId }: HoldEnd): Change {
  if (payment.state !== 'AUTHORIZED') return { payment, moved: null, event: null };
  const { state, entry } = endStates[how];
  return {
    payment: changed(payment, { state }, 'voided'),
    moved: { kind: entry, amountMinor: payment.amountMinor, externalId },
    event: 'voided',
    voidReason: how,
  };
}
