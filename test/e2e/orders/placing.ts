// What PlaceOrder accepts and refuses in the whole mesh: limits, currencies and expected prices.
import { randomUUID } from 'node:crypto';
import t from 'tap';
import { refusal } from '../../support/refusal.ts';
import { buy, mailAbout, stateName, wish } from '../shop.ts';
import { shop } from './shop.ts';

const { customer, staff } = shop;

/** The refusal of a request whose first violation is of this rule, at this field. */
const violates = (field: string, reason: string) =>
  ({
    code: 'INVALID_ARGUMENT',
    reason: 'FIELDS_INVALID',
    details: { fieldViolations: [{ field, reason }] },
  }) as unknown as Error;

t.test('the limit of a line holds for the lines of one SKU together', async (t) => {
  const sku = await shop.stock(5_000n);
  const other = await shop.stock(5n);
  const line = (quantity: bigint) => ({ sku, quantity });
  const tooMany = wish(sku, { lines: [line(600n), { sku: other, quantity: 1n }, line(600n)] });
  const merged = `must be at most 1000, got 1200 in lines 0, 2 of SKU ${sku} together`;
  const message = `lines[0].quantity ${merged}; lines[2].quantity ${merged}`;
  await t.rejects(customer.orders.placeOrder(tooMany), refusal({ code: 'INVALID_ARGUMENT', message }));
  await t.rejects(customer.orders.placeOrder(tooMany), violates('lines[0].quantity', 'int64.lte'));
  const order = await buy(customer, wish(sku, { lines: [line(600n), line(400n)] }));
  t.equal(stateName(order), 'COMPLETED', 'exactly the limit is accepted to the end');
  t.match(order, { lines: [{ sku, quantity: 1_000n }], total: { amountMinor: 1_250_000n } });
});

t.test('an order of the largest shape ends with whole names in its reason', async (t) => {
  const skus = await Promise.all(Array.from({ length: 12 }, () => shop.stock(1n)));
  const lines = skus.map((sku) => ({ sku, quantity: 1_000n }));
  const order = await buy(customer, wish(skus[0]!, { lines }));
  t.match([stateName(order), order.reason], ['REJECTED', 'STOCK_INSUFFICIENT']);
  t.strictSame(order.reasonDetail.replace(' and more', '').split(',').toSorted(), skus.toSorted());
});

t.test('a currency that no card can be charged in is refused', async (t) => {
  const sku = await shop.stock(5n);
  for (const currencyCode of ['XXX', 'XTS', 'ZZZ']) {
    const placed = customer.orders.placeOrder(wish(sku, { currencyCode }));
    await t.rejects(placed, refusal({ code: 'FAILED_PRECONDITION', reason: 'PRICE_UNAVAILABLE' }), currencyCode);
    const priced = shop.stock(1n, { [currencyCode]: 1n });
    await t.rejects(priced, violates('variants[0].prices[0].currency_code', 'currency'), 'in the catalogue');
  }
});

t.test('receipts show amounts in the minor unit of their currency', async (t) => {
  const rows = [
    ['HUF', 1_299_000n, 'HUF 12,990.00'],
    ['JPY', 500n, 'JPY 500'],
    ['KWD', 1_234n, 'KWD 1.234'],
  ] as const;
  const sku = await shop.stock(10n, Object.fromEntries(rows.map(([code, minor]) => [code, minor])));
  for (const [currencyCode, , shown] of rows) {
    const { orderId } = await buy(customer, wish(sku, { currencyCode }));
    t.match(await mailAbout(shop, orderId, /confirmed/), `Total ${shown}`);
  }
});

t.test('an order at other prices than the customer was shown is not placed', async (t) => {
  const sku = await shop.stock(5n, { EUR: 100n });
  const { variants } = await staff.catalog.batchGetVariants({ skus: [sku] });
  const eur = (amountMinor: bigint) => ({ currencyCode: 'EUR', amountMinor });
  const shown = { sku, quantity: 2n, expectedUnitPrice: eur(100n) };
  const placed = await buy(customer, wish(sku, { lines: [shown], expectedTotal: eur(200n) }));
  t.equal(stateName(placed), 'COMPLETED');

  const { productId, title } = variants[0]!;
  const dearer = [{ sku, title, prices: [eur(99_900n)] }];
  await staff.catalog.updateProduct({ productId, variants: dearer, updateMask: ['variants'] });
  const orders = async () => (await customer.orders.listOrders({ customerId: 'ada' })).orders.length;
  const before = await orders();
  const changed = (metadata: Record<string, string>) =>
    refusal({ code: 'FAILED_PRECONDITION', reason: 'PRICE_CHANGED', metadata });
  const request = wish(sku, { lines: [shown] });
  const news = { currency_code: 'EUR', skus: sku, unit_prices_minor: '99900', total_minor: '199800' };
  await t.rejects(customer.orders.placeOrder(request), changed(news));
  await t.rejects(
    customer.orders.placeOrder(wish(sku, { lines: [{ sku, quantity: 2n }], expectedTotal: eur(200n) })),
    changed({ currency_code: 'EUR', skus: '', unit_prices_minor: '', total_minor: '199800' }),
    'the total is compared too',
  );
  t.equal(await orders(), before, 'nothing was placed');

  const cheaper = [{ sku, title, prices: [eur(100n)] }];
  await staff.catalog.updateProduct({ productId, variants: cheaper, updateMask: ['variants'] });
  await t.rejects(customer.orders.placeOrder(request), changed(news), 'the refusal is stored under its request id');
  const again = await buy(customer, { ...request, requestId: randomUUID() });
  t.equal(stateName(again), 'COMPLETED', 'a new request id asks anew');
});

t.test('expectations that contradict the request or each other are refused', async (t) => {
  const sku = await shop.stock(5n);
  const expect = (amountMinor: bigint, currencyCode = 'EUR') => ({
    sku,
    quantity: 1n,
    expectedUnitPrice: { currencyCode, amountMinor },
  });
  for (const { lines, refused } of [
    { lines: [expect(1_250n), expect(1_251n)], refused: violates('lines[0].expected_unit_price', 'price.same') },
    { lines: [expect(1_400n, 'USD')], refused: violates('lines[0].expected_unit_price.currency_code', 'currency') },
  ]) {
    await t.rejects(customer.orders.placeOrder(wish(sku, { lines })), refused);
  }
});
