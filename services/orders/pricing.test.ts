import type { FieldViolation } from '@armature/proto/contract.ts';
import { OrderServiceContract } from '@armature/proto/orders/v1/contract.ts';
import { PlaceOrderRequest } from '@armature/proto/orders/v1/orders.ts';
import t from 'tap';
import { priceChanged, skuUnknown } from './errors.ts';
import { type Offer, price, quantityMax, type RequestedOrder, shapeViolations, totalMaxMinor } from './pricing.ts';

const eur = (amountMinor: bigint) => ({ currencyCode: 'EUR', amountMinor });
const offer = (sku: string, amountMinor: bigint, more: Partial<Offer> = {}): Offer => ({
  sku,
  title: `Title of ${sku}`,
  orderable: true,
  prices: [eur(amountMinor)],
  ...more,
});
const wanted = (lines: RequestedOrder['lines'], more: Partial<RequestedOrder> = {}): RequestedOrder => ({
  lines,
  currencyCode: 'EUR',
  ...more,
});

t.test('pricing', async (t) => {
  t.test('adds up lines of one SKU and the total', async (t) => {
    const lines = [
      { sku: 'A', quantity: 2n },
      { sku: 'B', quantity: 1n },
      { sku: 'A', quantity: 1n },
    ];
    const result = price(wanted(lines), [offer('A', 250n), offer('B', 1_000n)]);
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
      const lines = ['A', 'B'].map((sku) => ({ sku, quantity: 1n }));
      t.strictSame(price(wanted(lines), row.offers), row.found);
    });
  }

  t.test('finds no price in a currency that no card can be charged in', async (t) => {
    const offers = [offer('A', 1n, { prices: [{ currencyCode: 'XXX', amountMinor: 1n }] })];
    const request = wanted([{ sku: 'A', quantity: 1n }], { currencyCode: 'XXX' });
    t.strictSame(price(request, offers), { kind: 'no_price', skus: ['A'] });
  });

  t.test("compares today's prices with the expected ones", async (t) => {
    const offers = [offer('A', 100n), offer('B', 250n), offer('C', 1n)];
    const line = (sku: string, expected?: bigint, quantity = 1n) => ({
      sku,
      quantity,
      ...(expected === undefined ? {} : { expectedUnitPrice: eur(expected) }),
    });
    for (const { name, request, found } of [
      {
        name: 'equal prices and an equal total',
        request: wanted([line('A', 100n, 2n), line('B', 250n)], { expectedTotal: eur(450n) }),
        found: { kind: 'priced' },
      },
      {
        name: 'only the lines that expect a price',
        request: wanted([line('A'), line('B', 250n)]),
        found: { kind: 'priced' },
      },
      {
        name: 'a higher price',
        request: wanted([line('A', 99n), line('B', 250n)]),
        found: { kind: 'price_changed', changes: [{ sku: 'A', unitPriceMinor: 100n }], totalMinor: 350n },
      },
      {
        name: 'a lower price',
        request: wanted([line('A', 101n)]),
        found: { kind: 'price_changed', changes: [{ sku: 'A', unitPriceMinor: 100n }], totalMinor: 100n },
      },
      {
        name: 'another total',
        request: wanted([line('A'), line('B')], { expectedTotal: eur(349n) }),
        found: { kind: 'price_changed', changes: [], totalMinor: 350n },
      },
      {
        name: 'lines of one SKU, of which one expects a price',
        request: wanted([line('A'), line('A', 99n)]),
        found: { kind: 'price_changed', changes: [{ sku: 'A', unitPriceMinor: 100n }], totalMinor: 200n },
      },
      {
        name: 'a price that is expected to be nothing',
        request: wanted([line('C', 0n)]),
        found: { kind: 'price_changed', changes: [{ sku: 'C', unitPriceMinor: 1n }] },
      },
    ]) {
      t.match(price(request, offers), found, name);
    }
  });
});

t.test('the shape of a request', async (t) => {
  const usd = { currencyCode: 'USD', amountMinor: 1n };
  for (const { name, request, fields, says } of [
    {
      name: 'the limit of a line holds for lines of one SKU together',
      request: wanted([
        { sku: 'A', quantity: 600n },
        { sku: 'B', quantity: 1_000n },
        { sku: 'A', quantity: 600n },
      ]),
      fields: ['lines[0].quantity', 'lines[2].quantity'],
      says: 'must be at most 1000, got 1200 in lines 0, 2 of SKU A together',
    },
    {
      name: 'lines of one SKU expect one price',
      request: wanted([
        { sku: 'A', quantity: 1n, expectedUnitPrice: eur(1n) },
        { sku: 'A', quantity: 1n },
        { sku: 'A', quantity: 1n, expectedUnitPrice: eur(2n) },
      ]),
      fields: ['lines[0].expected_unit_price', 'lines[2].expected_unit_price'],
      says: 'must be the same in all lines of SKU A (got 1, 2)',
    },
    {
      name: 'expected prices are in the currency of the order',
      request: wanted([{ sku: 'A', quantity: 1n, expectedUnitPrice: usd }], { expectedTotal: usd }),
      fields: ['lines[0].expected_unit_price.currency_code', 'expected_total.currency_code'],
      says: 'must be the currency of the order, EUR (got USD)',
    },
  ]) {
    t.test(name, async (t) => {
      const violations = shapeViolations(request);
      t.strictSame(
        violations.map(({ field }) => field),
        fields,
      );
      t.equal(violations[0]?.description, says);
    });
  }
  const most = [400n, 600n].map((quantity) => ({ sku: 'A', quantity, expectedUnitPrice: eur(1n) }));
  t.strictSame(shapeViolations(wanted(most, { expectedTotal: eur(5n) })), [], 'exactly the limit is allowed');
});

t.test('the limit of merged lines is the limit that the contract sets for one line', async (t) => {
  const { validate } = OrderServiceContract.methods.placeOrder;
  const fieldsOf = (quantity: bigint) => {
    const violations: FieldViolation[] = [];
    validate(PlaceOrderRequest.fromPartial({ lines: [{ sku: 'A', quantity }] }), violations);
    return violations.map(({ field }) => field);
  };
  t.notOk(fieldsOf(quantityMax).includes('lines[0].quantity'));
  t.ok(fieldsOf(quantityMax + 1n).includes('lines[0].quantity'));
});

t.test('errors name whole SKUs and their prices, as many as fit', async (t) => {
  const skus = Array.from({ length: 100 }, (_, index) => `${'S'.repeat(61)}${String(index).padStart(3, '0')}`);
  const unknown = (skuUnknown(skus).metadata.skus ?? '').split(',');
  t.strictSame(unknown, skus.slice(0, unknown.length));
  t.ok(unknown.length > 10);
  const changes = skus.map((sku) => ({ sku, unitPriceMinor: 10n ** 14n }));
  for (const some of [changes, changes.map((change, index) => ({ ...change, sku: `S${index}` }))]) {
    const { metadata } = priceChanged(some, 5n, 'EUR');
    const [named, prices] = [metadata.skus!.split(','), metadata.unit_prices_minor!.split(',')];
    t.equal(named.length, prices.length);
    t.ok(Object.values(metadata).every((value) => value.length <= 1_000));
    t.match(metadata, { total_minor: '5', currency_code: 'EUR' });
  }
});
