import type { HttpAnswer } from './acquirer-http.ts';
import type { OperationKind, Outcome } from './payment.ts';

/**
 * What an answer of the acquirer says about an operation. "pending": it will be decided later.
 * "unrecorded": nothing is recorded under the key, though a request may still be on its way. "unknown":
 * the answer says nothing about what happened.
 */
export type Answer = Outcome | { kind: 'pending' } | { kind: 'unrecorded' } | { kind: 'unknown'; cause: Error };

/** What the acquirer calls each kind of operation, and the status of one that acted. */
export const acquirerNames: Readonly<Record<OperationKind, { kind: string; status: string }>> = {
  authorize: { kind: 'authorization', status: 'authorized' },
  capture: { kind: 'capture', status: 'captured' },
  void: { kind: 'void', status: 'voided' },
  refund: { kind: 'refund', status: 'refunded' },
};

/** Of a charge that is not, or no longer, an open authorization. */
const notOpen = ['409 charge_pending', '409 charge_declined', '409 charge_already_captured', '404 charge_unknown'];
const invalid = ['422 field_invalid', '422 field_unknown'];
/** What a capture or void is refused with when the hold has ended. */
export const holdEndedCodes: ReadonlySet<string> = new Set(['charge_voided', 'charge_expired']);
const ended = [...holdEndedCodes].map((code) => `409 ${code}`);

/**
 * The refusals that are final: the request did nothing and never will. Anything else that is no success, also a 402 or
 * 409 with a code that is not listed, is an unknown outcome: its key is asked about before anything is concluded.
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
 * Final refusals that the acquirer does not record under the key. The key may have acted before, say with a token that
 * has been withdrawn since, so they are final only once nothing is recorded under it.
 */
const unrecorded: ReadonlySet<string> = new Set([
  'payment_method_unknown',
  'payment_method_not_owned',
  'charge_unknown',
  'field_invalid',
  'field_unknown',
]);

/** Whether an answer to a request is final only once the status of its key confirms it. */
export const needsConfirmation = (answer: Answer): boolean => answer.kind === 'refused' && unrecorded.has(answer.code);

/** Reads an answer about an operation of this kind, to the request itself or to a question about its key. */
export function readAnswer(kind: OperationKind, { status, body }: HttpAnswer): Answer {
  const fields = fieldsOf(body);
  if (status >= 200 && status < 300) return readOperation(kind, fields);
  const code = textOf(fieldsOf(fields.error).code);
  if (status === 409 && code === 'operation_cancelled') return { kind: 'cancelled' };
  if (finalRefusals[kind].has(`${status} ${code}`)) return { kind: 'refused', code };
  if (status === 404 && code === 'operation_unknown') return { kind: 'unrecorded' };
  return { kind: 'unknown', cause: new Error(`the acquirer answered ${status} ${code}`) };
}

/** The status of a charge, empty where the response has none; or that the acquirer knows no such charge. */
export function readCharge({ status, body }: HttpAnswer): { status: string; unknown: boolean } {
  const fields = fieldsOf(body);
  const unknown = status === 404 && textOf(fieldsOf(fields.error).code) === 'charge_unknown';
  return { status: status === 200 ? textOf(fields.status) : '', unknown };
}

function readOperation(kind: OperationKind, fields: Readonly<Record<string, unknown>>): Answer {
  const status = textOf(fields.status);
  if (fields.kind === 'cancellation' && status === 'cancelled') return { kind: 'cancelled' };
  const expected = acquirerNames[kind];
  const externalId = textOf(fields.operation_id);
  const chargeId = textOf(fields.charge_id);
  if (fields.kind !== expected.kind || externalId === '' || chargeId === '') {
    const cause = new Error(`the acquirer answered about ${textOf(fields.kind) || 'nothing'}, not ${expected.kind}`);
    return { kind: 'unknown', cause };
  }
  if (status === expected.status) return { kind: 'acted', externalId, chargeId };
  if (status === 'pending') return { kind: 'pending' };
  if (status === 'declined') return { kind: 'declined', externalId, chargeId, code: textOf(fields.decline_code) };
  // Recorded as refused, whatever the code: the key has had its one outcome.
  if (status === 'refused') return { kind: 'refused', code: textOf(fieldsOf(fields.error).code) };
  return { kind: 'unknown', cause: new Error(`the acquirer answered with the status ${status || 'nothing'}`) };
}

function fieldsOf(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
}

/** Words of another party are cut: they go into columns and error details. */
const textOf = (value: unknown): string => (typeof value === 'string' ? value.slice(0, 100) : '');
