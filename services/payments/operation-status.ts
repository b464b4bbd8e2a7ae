import type { HttpResponse } from './acquirer-http.ts';
import { acquirerUnavailable } from './errors.ts';
import type { OperationKind, Outcome } from './payment.ts';

/** No response, or a response that does not say what happened. */
export interface UnknownOutcome {
  kind: 'unknown';
  cause: Error;
}

/**
 * The status of an operation at the acquirer. "pending": the acquirer decides later. "unrecorded": the acquirer has no
 * record of the key, but a request may still arrive.
 */
export type OperationStatus = Outcome | { kind: 'pending' } | { kind: 'unrecorded' } | UnknownOutcome;

/** The outcome, where the status is one. Throws ACQUIRER_UNAVAILABLE otherwise. */
export function certainOutcome(status: OperationStatus): Outcome {
  switch (status.kind) {
    case 'unknown':
      throw acquirerUnavailable(status.cause);
    case 'unrecorded':
    case 'pending':
      throw acquirerUnavailable(new Error(`the operation is ${status.kind}`));
    default:
      return status;
  }
}

/** The acquirer's name of each kind of operation, and the status of one that acted. */
export const acquirerNames: Readonly<Record<OperationKind, { kind: string; status: string }>> = {
  authorize: { kind: 'authorization', status: 'authorized' },
  capture: { kind: 'capture', status: 'captured' },
  void: { kind: 'void', status: 'voided' },
  refund: { kind: 'refund', status: 'refunded' },
};

/** The charge is not an open authorization. */
const notOpen = ['409 charge_pending', '409 charge_declined', '409 charge_already_captured', '404 charge_unknown'];
const invalid = ['422 field_invalid', '422 field_unknown'];
/** The codes of a capture or void that is refused because the hold has ended. */
export const holdEndedCodes: ReadonlySet<string> = new Set(['charge_voided', 'charge_expired']);
const ended = [...holdEndedCodes].map((code) => `409 ${code}`);

/**
 * The final refusals: the request has not acted and never will. Every other failure is an unknown outcome, also a 402
 * or 409 with a code that is not listed. The status of its key is requested before anything is concluded.
 */
const finalRefusals: Record<OperationKind, ReadonlySet<string>> = {
  authorize: new Set(['422 payment_method_unknown', '422 payment_method_not_owned', ...invalid]),
  capture: new Set(['402 capture_declined', '409 capture_exceeds_authorization', ...ended, ...notOpen, ...invalid]),
  void: new Set(['402 void_declined', ...ended, ...notOpen, ...invalid]),
  refund: new Set([
    '402 refund_declined',
    '409 charge_not_captured',
    '409 refund_exceeds_capture',
    '404 charge_unknown',
    ...invalid,
  ]),
};

/**
 * Final refusals that the acquirer does not record under the key. The key may have acted before, for example with a
 * token that was revoked since. So these refusals are final only where the acquirer has no record of the key.
 */
const unrecorded: ReadonlySet<string> = new Set([
  'payment_method_unknown',
  'payment_method_not_owned',
  'charge_unknown',
  'field_invalid',
  'field_unknown',
]);

/** Whether the status of the key must confirm a refusal before it is final. */
export const needsConfirmation = (status: OperationStatus): boolean =>
  status.kind === 'refused' && unrecorded.has(status.code);

/** Reads the status of an operation from the response to its request, or to a status request for its key. */
export function readOperationStatus(kind: OperationKind, { status, body }: HttpResponse): OperationStatus {
  const fields = fieldsOf(body);
  if (status >= 200 && status < 300) return readOperation(kind, fields);
  const code = textOf(fieldsOf(fields.error).code);
  if (status === 409 && code === 'operation_cancelled') return { kind: 'cancelled' };
  if (finalRefusals[kind].has(`${status} ${code}`)) return { kind: 'refused', code };
  if (status === 404 && code === 'operation_unknown') return { kind: 'unrecorded' };
  return { kind: 'unknown', cause: new Error(`the acquirer returned ${status} ${code}`) };
}

/** The status of a charge, empty where the response has none. `unknown`: the acquirer has no such charge. */
export function readCharge({ status, body }: HttpResponse): { status: string; unknown: boolean } {
  const fields = fieldsOf(body);
  const unknown = status === 404 && textOf(fieldsOf(fields.error).code) === 'charge_unknown';
  return { status: status === 200 ? textOf(fields.status) : '', unknown };
}

function readOperation(kind: OperationKind, fields: Readonly<Record<string, unknown>>): OperationStatus {
  const status = textOf(fields.status);
  if (fields.kind === 'cancellation' && status === 'cancelled') return { kind: 'cancelled' };
  const expected = acquirerNames[kind];
  const externalId = textOf(fields.operation_id);
  const chargeId = textOf(fields.charge_id);
  if (fields.kind !== expected.kind || externalId === '' || chargeId === '') {
    const cause = new Error(
      `the acquirer returned ${textOf(fields.kind) || 'no operation'} instead of ${expected.kind}`,
    );
    return { kind: 'unknown', cause };
  }
  if (status === expected.status) return { kind: 'acted', externalId, chargeId };
  if (status === 'pending') return { kind: 'pending' };
  if (status === 'declined') return { kind: 'declined', externalId, chargeId, code: textOf(fields.decline_code) };
  // A recorded refusal is final with any code: a key has one outcome.
  if (status === 'refused') return { kind: 'refused', code: textOf(fieldsOf(fields.error).code) };
  return { kind: 'unknown', cause: new Error(`the acquirer returned the unknown status ${status || '(none)'}`) };
}

function fieldsOf(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
}

/** Texts of the acquirer are truncated, because they are stored in columns and error details. */
const textOf = (value: unknown): string => (typeof value === 'string' ? value.slice(0, 100) : '');
