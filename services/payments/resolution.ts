/**
 * The effect of an operator's decision on an operation and its payment. Pure functions, so that tests cover every case.
 */
import type { Operation, OperationChange, OperationKind, OperationState, Payment } from './payment.ts';
import { completeOperation } from './payment.ts';

/** How an operator resolves an operation. The names are those of the contract. */
export const resolutions = [
  'ASK_AGAIN',
  'DONE_AT_ACQUIRER',
  'REFUNDED_OUTSIDE',
  'NOTHING_HELD',
  'TRY_AGAIN',
  'GIVE_UP',
] as const;
export type Resolution = (typeof resolutions)[number];

/** The operations that each resolution applies to, as `kind state`. A refused refund can still be completed. */
const applicable: Record<Resolution, ReadonlySet<`${OperationKind} ${OperationState}`>> = {
  ASK_AGAIN: new Set(['authorize PENDING', 'capture PENDING', 'void PENDING', 'refund PENDING']),
  DONE_AT_ACQUIRER: new Set(['capture PENDING', 'void PENDING', 'refund PENDING', 'refund REFUSED']),
  REFUNDED_OUTSIDE: new Set(['refund PENDING', 'refund REFUSED']),
  NOTHING_HELD: new Set(['void PENDING']),
  TRY_AGAIN: new Set(['capture PENDING', 'void PENDING', 'refund PENDING', 'refund REFUSED']),
  GIVE_UP: new Set(['authorize PENDING', 'capture PENDING', 'refund PENDING', 'refund REFUSED']),
};

export const isApplicable = (resolution: Resolution, { kind, state }: Operation): boolean =>
  applicable[resolution].has(`${kind} ${state}`);

/** The failure code of an operation that an operator gave up. */
export const givenUp = 'given_up';

/** A decision, with everything that it depends on. */
export type Decision =
  | { resolution: 'outcome'; outcome: Parameters<typeof completeOperation>[2] }
  | { resolution: 'refunded_outside'; externalId: string }
  | { resolution: 'try_again'; key: string }
  | { resolution: 'give_up' };

/** Applies a decision. Null where the refund would exceed what is left of the capture. */
export function applyDecision(payment: Payment, operation: Operation, decision: Decision): OperationChange | null {
  if (decision.resolution === 'give_up' && operation.state === 'REFUSED') return closed(payment, operation);
  const open = reopened(payment, operation);
  if (!open) return null;
  switch (decision.resolution) {
    case 'outcome':
      return completeOperation(open.payment, open.operation, decision.outcome);
    case 'give_up': {
      const refused = completeOperation(open.payment, open.operation, { kind: 'refused', code: givenUp });
      return { ...refused, operation: { ...refused.operation, needsOperator: false } };
    }
    case 'refunded_outside': {
      const { externalId } = decision;
      const { chargeId } = payment;
      const completed = completeOperation(open.payment, open.operation, { kind: 'acted', externalId, chargeId });
      return { ...completed, moved: completed.moved && { ...completed.moved, kind: 'refund_outside' } };
    }
    case 'try_again':
      return {
        payment: open.payment,
        operation: { ...open.operation, key: decision.key, keyAgeMs: 0, failureCode: '', needsOperator: false },
        moved: null,
        event: null,
      };
  }
}

const closed = (payment: Payment, operation: Operation): OperationChange => ({
  payment,
  operation: { ...operation, needsOperator: false },
  moved: null,
  event: null,
});

/** Reopens a refused refund. Its refusal released the reserved amount, so it reserves the amount again. */
function reopened(payment: Payment, operation: Operation): { payment: Payment; operation: Operation } | null {
  if (operation.state === 'PENDING') return { payment, operation };
  const { capturedMinor, refundedMinor, refundingMinor } = payment;
  if (operation.amountMinor > capturedMinor - refundedMinor - refundingMinor) return null;
  return {
    payment: { ...payment, refundingMinor: refundingMinor + operation.amountMinor },
    operation: { ...operation, state: 'PENDING' },
  };
}
