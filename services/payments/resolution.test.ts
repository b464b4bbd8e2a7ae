import t from 'tap';
import type { Operation, OperationKind, OperationState, Payment } from './payment.ts';
import { applyDecision, isApplicable, resolutions } from './resolution.ts';

const payment: Payment = {
  paymentId: 'p',
  orderId: 'o',
  customerId: 'ada',
  state: 'CAPTURED',
  currencyCode: 'EUR',
  amountMinor: 100n,
  capturedMinor: 100n,
  refundedMinor: 20n,
  refundingMinor: 0n,
  declineCode: '',
  chargeId: 'ch',
  authorizeOperationId: 'a',
  exclusiveOperationId: null,
  events: 3n,
  createdAt: new Date(0),
  updatedAt: new Date(0),
  version: 4n,
};
const refund = (state: OperationState, amountMinor = 80n, kind: OperationKind = 'refund'): Operation => ({
  operationId: 'op',
  paymentId: 'p',
  kind,
  state,
  amountMinor,
  rest: true,
  externalId: '',
  failureCode: state === 'REFUSED' ? 'refund_declined' : '',
  key: 'op',
  keyAgeMs: 9,
  needsOperator: true,
});
const pending = { ...payment, refundingMinor: 80n };

t.test('which operations each resolution can end', async (t) => {
  const kinds = ['authorize', 'capture', 'void', 'refund'] as const;
  const expected: Record<string, string> = {
    ASK_AGAIN: 'authorize PENDING, capture PENDING, void PENDING, refund PENDING',
    DONE_AT_ACQUIRER: 'capture PENDING, void PENDING, refund PENDING, refund REFUSED',
    REFUNDED_OUTSIDE: 'refund PENDING, refund REFUSED',
    NOTHING_HELD: 'void PENDING',
    TRY_AGAIN: 'capture PENDING, void PENDING, refund PENDING, refund REFUSED',
    GIVE_UP: 'authorize PENDING, capture PENDING, refund PENDING, refund REFUSED',
  };
  for (const resolution of resolutions) {
    const ends = kinds.flatMap((kind) =>
      (['PENDING', 'DONE', 'REFUSED', 'CANCELLED'] as const)
        .filter((state) => isApplicable(resolution, refund(state, 1n, kind)))
        .map((state) => `${kind} ${state}`),
    );
    t.equal(ends.join(', '), expected[resolution], resolution);
  }
});

for (const [name, before, operation] of [
  ['a refused refund', payment, refund('REFUSED')],
  ['a pending refund', pending, refund('PENDING')],
] as const) {
  t.test(`${name} that was paid outside the acquirer leaves nothing to refund`, async (t) => {
    const decided = { resolution: 'refunded_outside', externalId: 'resolution:1' } as const;
    t.match(applyDecision(before, operation, decided), {
      payment: { state: 'REFUNDED', refundedMinor: 100n, refundingMinor: 0n, events: 4n, version: 5n },
      operation: { state: 'DONE', externalId: 'resolution:1', needsOperator: false },
      moved: { kind: 'refund_outside', amountMinor: 80n, externalId: 'resolution:1' },
      event: 'refunded',
    });
  });

  t.test(`${name} that is tried again has a new key, and reserves its amount once`, async (t) => {
    t.match(applyDecision(before, operation, { resolution: 'try_again', key: 'new' }), {
      payment: { state: 'CAPTURED', refundedMinor: 20n, refundingMinor: 80n, version: 4n },
      operation: { state: 'PENDING', key: 'new', failureCode: '', needsOperator: false },
      moved: null,
      event: null,
    });
  });

  t.test(`${name} that is given up reserves nothing and needs no operator`, async (t) => {
    t.match(applyDecision(before, operation, { resolution: 'give_up' }), {
      payment: { state: 'CAPTURED', refundedMinor: 20n, refundingMinor: 0n },
      operation: { state: 'REFUSED', needsOperator: false },
      moved: null,
    });
  });
}

t.test('a refused refund that exceeds what is left by now is not done', async (t) => {
  const { resolution, ...more } = { resolution: 'refunded_outside' as const, externalId: 'resolution:1' };
  t.equal(applyDecision({ ...payment, refundedMinor: 21n }, refund('REFUSED'), { resolution, ...more }), null);
  t.equal(applyDecision({ ...payment, refundingMinor: 1n }, refund('REFUSED'), { resolution, ...more }), null);
});
