import t from 'tap';
import { readOperationStatus } from './operation-status.ts';
import type { OperationKind } from './payment.ts';

const operation = { operation_id: 'op', charge_id: 'ch', kind: 'authorization', status: 'authorized' };
const error = (code: string) => ({ error: { code, message: 'no' } });

t.test('reads the status of an operation from a response', async (t) => {
  const rows: [string, OperationKind, number, unknown, object][] = [
    ['acted', 'authorize', 201, operation, { kind: 'acted', externalId: 'op', chargeId: 'ch' }],
    ['acted, status requested later', 'authorize', 200, operation, { kind: 'acted' }],
    [
      'declined',
      'authorize',
      201,
      { ...operation, status: 'declined', decline_code: 'poor' },
      { kind: 'declined', code: 'poor' },
    ],
    ['decided later', 'authorize', 202, { ...operation, status: 'pending' }, { kind: 'pending' }],
    ['captured', 'capture', 201, { ...operation, kind: 'capture', status: 'captured' }, { kind: 'acted' }],
    ['refused', 'capture', 402, error('capture_declined'), { kind: 'refused', code: 'capture_declined' }],
    [
      'refused, status requested later',
      'capture',
      200,
      { ...operation, kind: 'capture', status: 'refused', ...error('x') },
      { kind: 'refused', code: 'x' },
    ],
    ['cancelled', 'authorize', 409, error('operation_cancelled'), { kind: 'cancelled' }],
    [
      'cancelled, status requested later',
      'authorize',
      200,
      { kind: 'cancellation', status: 'cancelled' },
      { kind: 'cancelled' },
    ],
    ['a card it does not know', 'authorize', 422, error('payment_method_unknown'), { kind: 'refused' }],
    ['a card of another customer', 'authorize', 422, error('payment_method_not_owned'), { kind: 'refused' }],
    ['a hold that has expired', 'capture', 409, error('charge_expired'), { kind: 'refused', code: 'charge_expired' }],
    ['a closed card', 'refund', 402, error('refund_declined'), { kind: 'refused', code: 'refund_declined' }],
    ['a conflict with a code that is not known', 'capture', 409, error('try_later'), { kind: 'unknown' }],
    ['a 402 with a code that is not known', 'refund', 402, error('soon'), { kind: 'unknown' }],
    ['a code of another kind of operation', 'void', 402, error('capture_declined'), { kind: 'unknown' }],
    ['a conflict about an authorization', 'authorize', 409, error('charge_voided'), { kind: 'unknown' }],
    ['nothing recorded', 'authorize', 404, error('operation_unknown'), { kind: 'unrecorded' }],
    ['a charge it does not know', 'capture', 404, error('charge_unknown'), { kind: 'refused' }],
    ['a route it does not know', 'capture', 404, error('route_unknown'), { kind: 'unknown' }],
    ['the key of another request', 'capture', 422, error('idempotency_key_reused'), { kind: 'unknown' }],
    ['a fault', 'capture', 500, error('internal_error'), { kind: 'unknown' }],
    ['its log cannot be written', 'capture', 503, error('log_unavailable'), { kind: 'unknown' }],
    ['an operation of another kind', 'capture', 201, operation, { kind: 'unknown' }],
    ['no ids', 'authorize', 201, { kind: 'authorization', status: 'authorized' }, { kind: 'unknown' }],
    ['an unknown status', 'authorize', 201, { ...operation, status: 'odd' }, { kind: 'unknown' }],
    ['a conflict without a code', 'capture', 409, {}, { kind: 'unknown' }],
    ['not an object', 'capture', 200, null, { kind: 'unknown' }],
    ['a response of a proxy', 'capture', 502, 'oops', { kind: 'unknown' }],
  ];
  for (const [name, kind, status, body, expected] of rows)
    t.match(readOperationStatus(kind, { status, body }), expected, name);
});
