import type { HttpAnswer } from './acquirer-http.ts';
import type { OperationKind, Outcome } from './payment.ts';

/**
 * What an answer of the acquirer says about an operation. "pending": it will be decided later.
 * "unrecorded": nothing is recorded under the key, though a request may still be on its way. "unknown":
 * the answer says nothing about what happened.
 */
export type Answer = Outcome | { kind: 'pending' } | { kind: 'unrecorded' } | { kind: 'unknown'; cause: Error };

/** What the acquirer calls each kind of operation, and the status of one that acted. */
const names: Record<OperationKind, { kind: string; status: string }> = {
  authorize: { kind: 'authorization', status: 'authorized' },
  capture: { kind: 'capture', status: 'captured' },
  void: { kind: 'void', status: 'voided' },
  refund: { kind: 'refund', status: 'refunded' },
};

/** Refusals of the request itself, which are not recorded: it did nothing and never will. */
const certainRefusals = new Set([
  '422 payment_method_unknown',
  '422 field_invalid',
  '422 field_unknown',
  '404 charge_unknown',
]);

/** Reads an answer about an operation of this kind, to the request itself or to a question about its key. */
export function readAnswer(kind: OperationKind, { status, body }: HttpAnswer): Answer {
  const fields = fieldsOf(body);
  if (status >= 200 && status < 300) return readOperation(kind, fields);
  const code = textOf(fieldsOf(fields.error).code);
  if (status === 409 && code === 'operation_cancelled') return { kind: 'cancelled' };
  if ((status === 402 || status === 409) && code !== '') return { kind: 'refused', code };
  if (certainRefusals.has(`${status} ${code}`)) return { kind: 'refused', code };
  if (status === 404 && code === 'operation_unknown') return { kind: 'unrecorded' };
  return { kind: 'unknown', cause: new Error(`the acquirer answered ${status} ${code}`) };
}

function readOperation(kind: OperationKind, fields: Readonly<Record<string, unknown>>): Answer {
  const status = textOf(fields.status);
  if (fields.kind === 'cancellation' && status === 'cancelled') return { kind: 'cancelled' };
  const expected = names[kind];
  const externalId = textOf(fields.operation_id);
  const chargeId = textOf(fields.charge_id);
  if (fields.kind !== expected.kind || externalId === '' || chargeId === '') {
    const cause = new Error(`the acquirer answered about ${textOf(fields.kind) || 'nothing'}, not ${expected.kind}`);
    return { kind: 'unknown', cause };
  }
  if (status === expected.status) return { kind: 'acted', externalId, chargeId };
  if (status === 'pending') return { kind: 'pending' };
  if (status === 'declined') return { kind: 'declined', externalId, chargeId, code: textOf(fields.decline_code) };
  if (status === 'refused') return { kind: 'refused', code: textOf(fieldsOf(fields.error).code) };
  return { kind: 'unknown', cause: new Error(`the acquirer answered with the status ${status || 'nothing'}`) };
}

function fieldsOf(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
}

/** Words of another party are cut: they go into columns and error details. */
const textOf = (value: unknown): string => (typeof value === 'string' ? value.slice(0, 100) : '');
