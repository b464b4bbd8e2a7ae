import { PaymentErrorReason } from '@armature/proto/payments/v1/contract.ts';
import { RpcError, rpcError } from '@armature/runtime';
import { contention } from '@armature/runtime/errors';
import type { Operation, Payment, RefusalReason, State } from './payment.ts';

const retryDelayMs = 500;
const operatorRetryDelayMs = 60_000;

export const paymentNotFound = (paymentId: string) =>
  rpcError('NOT_FOUND', PaymentErrorReason.PAYMENT_NOT_FOUND, 'no such payment', { payment_id: paymentId });

export const paymentExists = (paymentId: string) =>
  rpcError('ALREADY_EXISTS', PaymentErrorReason.PAYMENT_EXISTS, 'payment_id belongs to a payment of another request', {
    payment_id: paymentId,
  });

export const paymentVoided = (paymentId: string) =>
  rpcError('FAILED_PRECONDITION', PaymentErrorReason.PAYMENT_VOIDED, 'the payment was voided', {
    payment_id: paymentId,
  });

/** `acquirerCode` is the acquirer's reason, where it refused. */
export const paymentState = ({ paymentId, state }: Payment, acquirerCode = '') =>
  rpcError(
    'FAILED_PRECONDITION',
    PaymentErrorReason.PAYMENT_STATE,
    acquirerCode ? `the acquirer refused: ${acquirerCode}` : `the payment is ${state}, which does not allow this`,
    { payment_id: paymentId, state, ...codeOf(acquirerCode || (endedCodes[state] ?? '')) },
  );

const codeOf = (acquirerCode: string): Record<string, string> => (acquirerCode ? { acquirer_code: acquirerCode } : {});
/** The acquirer's code for an ended hold. Callers get the same code from every request. */
const endedCodes: Partial<Record<State, string>> = {
  HOLD_EXPIRED: 'charge_expired',
  VOIDED_EXTERNALLY: 'charge_voided',
};

/** The acquirer refused, or the operation is too old to be sent again. A retry gets the operator's decision. */
export const operationNeedsOperator = ({ operationId, paymentId, failureCode }: Operation) =>
  new RpcError('ABORTED', PaymentErrorReason.OPERATION_NEEDS_OPERATOR, 'an operator must decide about this operation', {
    metadata: { operation_id: operationId, payment_id: paymentId, ...codeOf(failureCode) },
    details: { retryDelayMs: operatorRetryDelayMs },
  });

export const refundExceedsCapture = ({ paymentId, capturedMinor, refundedMinor, refundingMinor }: Payment) =>
  rpcError(
    'FAILED_PRECONDITION',
    PaymentErrorReason.REFUND_EXCEEDS_CAPTURE,
    'the sum of all refunds would exceed the captured amount',
    { payment_id: paymentId, refundable_minor: String(capturedMinor - refundedMinor - refundingMinor) },
  );

export const currencyMismatch = ({ paymentId, currencyCode }: Payment) =>
  rpcError('FAILED_PRECONDITION', PaymentErrorReason.CURRENCY_MISMATCH, `the payment is in ${currencyCode}`, {
    payment_id: paymentId,
    currency_code: currencyCode,
  });

export const amountInvalid = (field: string) =>
  new RpcError('INVALID_ARGUMENT', PaymentErrorReason.AMOUNT_INVALID, `${field} must be greater than 0`, {
    details: { fieldViolations: [{ field, description: 'must be greater than 0', reason: 'positive' }] },
  });

/** The outcome is unknown. A retry with the same request id continues where this call stopped. */
export const acquirerUnavailable = (cause: unknown) =>
  new RpcError(
    'UNAVAILABLE',
    PaymentErrorReason.ACQUIRER_UNAVAILABLE,
    'the outcome at the acquirer is unknown; retry with the same request_id',
    {
      cause,
      details: { retryDelayMs },
    },
  );

export const accountNotFound = (account: string, currencyCode: string) =>
  rpcError('NOT_FOUND', PaymentErrorReason.ACCOUNT_NOT_FOUND, 'the account does not exist in this currency', {
    account,
    currency_code: currencyCode,
  });

export const operationNotFound = (operationId: string) =>
  rpcError('NOT_FOUND', PaymentErrorReason.OPERATION_NOT_FOUND, 'no such operation', { operation_id: operationId });

/** `reason` is a sentence for the operator; `found` is the acquirer's status, where it was requested. */
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

/** Another request changed the operation while an operator decided about it. */
export const operationChanged = (operationId: string) =>
  contention(new Error(`operation ${operationId} was changed by another request`));

/** The error of a refused plan. "busy" may be retried: the outcome of the running operation decides. */
export const refusal: Record<RefusalReason, (payment: Payment) => RpcError> = {
  state: (payment) => paymentState(payment),
  busy: (payment) => contention(new Error(`operation ${payment.exclusiveOperationId} is still pending`)),
  currency: currencyMismatch,
  exceeds: refundExceedsCapture,
};
