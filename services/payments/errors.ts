import { PaymentErrorReason } from '@armature/proto/payments/v1/contract.ts';
import { RpcError, rpcError } from '@armature/runtime';
import { contention } from '@armature/runtime/errors';
import type { Operation, Payment, RefusalReason, State } from './payment.ts';

const retryDelayMs = 500;
const operatorRetryDelayMs = 60_000;

export const paymentNotFound = (paymentId: string) =>
  rpcError('NOT_FOUND', PaymentErrorReason.PAYMENT_NOT_FOUND, 'no such payment', { payment_id: paymentId });

export const paymentExists = (paymentId: string) =>
  rpcError('ALREADY_EXISTS', PaymentErrorReason.PAYMENT_EXISTS, 'the payment id is taken by another request', {
    payment_id: paymentId,
  });

export const paymentVoided = (paymentId: string) =>
  rpcError('FAILED_PRECONDITION', PaymentErrorReason.PAYMENT_VOIDED, 'the payment was voided', {
    payment_id: paymentId,
  });

/** `acquirerCode` says why the acquirer refused, where it was asked. */
export const paymentState = ({ paymentId, state }: Payment, acquirerCode = '') =>
  rpcError(
    'FAILED_PRECONDITION',
    PaymentErrorReason.PAYMENT_STATE,
    acquirerCode ? 'the acquirer refused' : 'the state of the payment does not allow this',
    { payment_id: paymentId, state, ...codeOf(acquirerCode || (endedCodes[state] ?? '')) },
  );

const codeOf = (acquirerCode: string): Record<string, string> => (acquirerCode ? { acquirer_code: acquirerCode } : {});
/** What the acquirer says about a hold that has ended; callers see the same, whichever request noticed it first. */
const endedCodes: Partial<Record<State, string>> = {
  HOLD_EXPIRED: 'charge_expired',
  VOIDED_EXTERNALLY: 'charge_voided',
};

/** The acquirer refused, or the operation is too old to be sent again. A retry gets what the operator decides. */
export const operationNeedsOperator = ({ operationId, paymentId, failureCode }: Operation) =>
  new RpcError('ABORTED', PaymentErrorReason.OPERATION_NEEDS_OPERATOR, 'an operator decides about this operation', {
    metadata: { operation_id: operationId, payment_id: paymentId, ...codeOf(failureCode) },
    details: { retryDelayMs: operatorRetryDelayMs },
  });

export const refundExceedsCapture = ({ paymentId, capturedMinor, refundedMinor, refundingMinor }: Payment) =>
  rpcError(
    'FAILED_PRECONDITION',
    PaymentErrorReason.REFUND_EXCEEDS_CAPTURE,
    'the refunds together would be more than was captured',
    { payment_id: paymentId, refundable_minor: String(capturedMinor - refundedMinor - refundingMinor) },
  );

export const currencyMismatch = ({ paymentId, currencyCode }: Payment) =>
  rpcError('FAILED_PRECONDITION', PaymentErrorReason.CURRENCY_MISMATCH, 'the payment is in another currency', {
    payment_id: paymentId,
    currency_code: currencyCode,
  });

export const amountInvalid = (field: string) =>
  new RpcError('INVALID_ARGUMENT', PaymentErrorReason.AMOUNT_INVALID, `${field} must be more than nothing`, {
    details: { fieldViolations: [{ field, description: 'must be more than nothing', reason: 'positive' }] },
  });

/** The outcome is unknown. Asking again with the same request id continues where this call stopped. */
export const acquirerUnavailable = (cause: unknown) =>
  new RpcError('UNAVAILABLE', PaymentErrorReason.ACQUIRER_UNAVAILABLE, 'the acquirer has not answered for certain', {
    cause,
    details: { retryDelayMs },
  });

export const accountNotFound = (account: string, currencyCode: string) =>
  rpcError('NOT_FOUND', PaymentErrorReason.ACCOUNT_NOT_FOUND, 'no such account in this currency', {
    account,
    currency_code: currencyCode,
  });

export const operationNotFound = (operationId: string) =>
  rpcError('NOT_FOUND', PaymentErrorReason.OPERATION_NOT_FOUND, 'no such operation', { operation_id: operationId });

/** `why` is a sentence for the operator; `found` is what the acquirer said, where it was asked. */
export const resolutionNotApplicable = (
  { operationId, kind, state }: Operation,
  reason: string,
  found: Record<string, string> = {},
) =>
  rpcError('FAILED_PRECONDITION', PaymentErrorReason.RESOLUTION_NOT_APPLICABLE, reason, {
    operation_id: operationId,
    kind,
    state,
    ...found,
  });

export const externalOperationInvalid = (externalId: string, reason: string) =>
  rpcError('FAILED_PRECONDITION', PaymentErrorReason.EXTERNAL_OPERATION_INVALID, reason, { external_id: externalId });

/** The operation changed while an operator decided about it. */
export const operationChanged = (operationId: string) =>
  contention(new Error(`operation ${operationId} has changed meanwhile`));

/** The error for a plan that refuses. "busy" may be asked again: what is under way decides. */
export const refusal: Record<RefusalReason, (payment: Payment) => RpcError> = {
  state: (payment) => paymentState(payment),
  busy: (payment) => contention(new Error(`operation ${payment.exclusiveOperationId} is under way`)),
  currency: currencyMismatch,
  exceeds: refundExceedsCapture,
};
