/** What an operator's decision changes about an operation and its payment: pure, so that every case can be tested. */
import type { Operation, OperationChange, OperationKind, OperationState, Payment } from './payment.ts';
import { completeOperation } from './payment.ts';

/** How an operator ends an operation, as the contract names it. */
export const resolutions = [
  'ASK_AGAIN',
  'DONE_AT_ACQUIRER',
  'REFUNDED_OUTSIDE',
  'NOTHING_HELD',
  'TRY_AGAIN',
  'GIVE_UP',
] as const;
export type Resolution = (typeof resolutions)[number];

/** The operations that each resolution can end, as `kind state`. A refused refund may be done after all. */
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

/** A decision once everything that it depends on is known. */
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

/** A refused refund gave back what it had reserved, so it reserves it again. */
function reopened(payment: Payment, operation: Operation): { payment: Payment; operation: Operation } | null {
  if (operation.state === 'PENDING') return { payment, operation };
  const { capturedMinor, refundedMinor, refundingMinor } = payment;
  if (operation.amountMinor > capturedMinor - refundedMinor - refundingMinor) return null;
  return {
    payment: { ...payment, refundingMinor: refundingMinor + operation.amountMinor },
    operation: { ...operation, state: 'PENDING' },
  };
}
