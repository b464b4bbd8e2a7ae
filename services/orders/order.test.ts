import t from 'tap';
import {
  apply,
  cancellation,
  type Fact,
  hasEnded,
  type Offer,
  type Order,
  price,
  type State,
  totalMaxMinor,
} from './order.ts';

const offer = (sku: string, amountMinor: bigint, more: Partial<Offer> = {}): Offer => ({
  sku,
  title: `Title of ${sku}`,
  orderable: true,
  prices: [{ currencyCode: 'EUR', amountMinor }],
  ...more,
});

t.test('pricing', async (t) => {
  t.test('adds up lines of one SKU and the total', async (t) => {
    const wanted = [
      { sku: 'A', quantity: 2n },
      { sku: 'B', quantity: 1n },
      { sku: 'A', quantity: 1n },
    ];
    const result = price(wanted, [offer('A', 250n), offer('B', 1_000n)], 'EUR');
    t.match(result, { kind: 'priced', totalMinor: 1_750n });
    if (result.kind === 'priced')
      t.strictSame(
        result.lines.map(({ sku, quantity }) => [sku, quantity]),
        [
          ['A', 3n],
          ['B', 1n],
        ],
      );
  });

  for (const row of [
    { name: 'a SKU the catalogue does not have', offers: [offer('A', 1n)], found: { kind: 'unknown', skus: ['B'] } },
    {
      name: 'a SKU that is no longer sold',
      offers: [offer('A', 1n), offer('B', 1n, { orderable: false })],
      found: { kind: 'not_orderable', skus: ['B'] },
    },
    {
      name: 'a SKU without a price in this currency',
      offers: [offer('A', 1n), offer('B', 1n, { prices: [{ currencyCode: 'USD', amountMinor: 1n }] })],
      found: { kind: 'no_price', skus: ['B'] },
    },
    { name: 'too much money', offers: [offer('A', 1n), offer('B', totalMaxMinor)], found: { kind: 'too_large' } },
  ]) {
    t.test(`refuses ${row.name}`, async (t) => {
      const wanted = ['A', 'B'].map((sku) => ({ sku, quantity: 1n }));
      t.strictSame(price(wanted, row.offers, 'EUR'), row.found);
    });
  }
});

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
