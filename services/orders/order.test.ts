import t from 'tap';
import {
  apply,
  cancellation,
  cancelledBecause,
  type Fact,
  hasEnded,
  noRefund,
  type Order,
  type State,
} from './order.ts';

const order: Order = {
  orderId: '0',
  customerId: 'ada',
  state: 'PENDING',
  lines: [],
  currencyCode: 'EUR',
  totalMinor: 0n,
  contactEmail: '',
  shippingAddress: { recipient: '', street: '', city: '', postalCode: '', countryCode: '' },
  reason: '',
  reasonDetail: '',
  cancelRequested: false,
  reservationId: '',
  paymentId: '',
  sequence: 0n,
  createdAt: new Date(0),
  updatedAt: new Date(0),
};
const fact = ($case: string, value: object = {}) => ({ $case, value }) as unknown as Fact;

t.test('facts make the state', async (t) => {
  for (const row of [
    {
      name: 'all goes well',
      facts: [
        'placed',
        'stockReserved',
        'paymentAuthorized',
        'confirmed',
        'stockCommitted',
        'paymentCaptured',
        'completed',
      ],
      state: 'COMPLETED',
    },
    { name: 'no stock', facts: ['placed', 'rejected'], state: 'REJECTED' },
    {
      name: 'the card is declined',
      facts: ['placed', 'stockReserved', 'stockReleased', 'cancelled'],
      state: 'CANCELLED',
    },
    {
      name: 'undone after completion',
      facts: ['completed', 'cancelRequested', 'paymentRefunded', 'stockReleased', 'cancelled'],
      state: 'CANCELLED',
    },
  ]) {
    t.test(row.name, async (t) => {
      const reason = { reason: 'WHY', reasonDetail: 'because' };
      const folded = row.facts.reduce((at, $case) => apply(at, fact($case, reason), new Date(1)), order);
      t.equal(folded.state, row.state);
      t.equal(folded.sequence, BigInt(row.facts.length), 'one sequence number each');
      t.equal(folded.reason, ['REJECTED', 'CANCELLED'].includes(row.state) ? 'WHY' : '');
      t.equal(hasEnded(folded), true);
    });
  }
});

t.test('what asking for a cancellation means', async (t) => {
  for (const [state, cancelRequested, expected] of [
    ['PENDING', false, 'stop_checkout'],
    ['PENDING', true, 'same'],
    ['CONFIRMED', false, 'after_checkout'],
    ['CONFIRMED', true, 'same'],
    ['COMPLETED', false, 'undo'],
    ['COMPLETED', true, 'same'],
    ['CANCELLED', true, 'same'],
    ['CANCELLED', false, 'same'],
    ['REJECTED', false, 'refuse'],
  ] satisfies [State, boolean, string][]) {
    t.equal(cancellation({ state, cancelRequested }), expected, `${state}${cancelRequested ? ', asked before' : ''}`);
  }
});

t.test('an order has ended when nothing more will happen to it', async (t) => {
  t.equal(hasEnded({ state: 'COMPLETED', cancelRequested: false }), true);
  t.equal(hasEnded({ state: 'COMPLETED', cancelRequested: true }), false, 'it is being undone');
  t.equal(hasEnded({ state: 'CONFIRMED', cancelRequested: false }), false);
});

t.test('an order that the customer cancels keeps no detail of another reason', async (t) => {
  const why = { reason: 'PAYMENT_DECLINED', reasonDetail: 'insufficient_funds' } as const;
  t.match(cancelledBecause({ ...order, cancelRequested: true }, why, noRefund).value, {
    reason: 'CUSTOMER_REQUEST',
    reasonDetail: '',
  });
  t.match(cancelledBecause(order, why, noRefund).value, why, 'without a cancellation the reason and its detail stay');
});
