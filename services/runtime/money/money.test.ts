import t from 'tap';
import { formatMinor, formatMoney, isAcceptedCurrency, minorUnitDigits } from './money.ts';

t.test('amounts have the digits of ISO 4217, whatever CLDR says', async (t) => {
  for (const [amountMinor, currencyCode, expected] of [
    [1_299_000n, 'HUF', 'HUF 12,990.00'],
    [15_000_000n, 'IDR', 'IDR 150,000.00'],
    [4_500_000n, 'COP', 'COP 45,000.00'],
    [25_000n, 'IQD', 'IQD 25.000'],
    [500n, 'JPY', 'JPY 500'],
    [1_234n, 'KWD', 'KWD 1.234'],
    [1_234n, 'BHD', 'BHD 1.234'],
    [1_234_567n, 'UGX', 'UGX 1,234,567'],
    [1_234n, 'CLP', 'CLP 1,234'],
    [1_234n, 'ISK', 'ISK 1,234'],
    [1_234n, 'MRU', 'MRU 12.34'],
    [1_234n, 'MGA', 'MGA 12.34'],
    [12_345n, 'CLF', 'CLF 1.2345'],
    [1_234n, 'EUR', 'EUR 12.34'],
    [5n, 'USD', 'USD 0.05'],
    [0n, 'EUR', 'EUR 0.00'],
    [0n, 'JPY', 'JPY 0'],
    [-123_456n, 'EUR', 'EUR -1,234.56'],
    [99_900n, 'EUR', 'EUR 999.00'],
    [900_719_925_474_099_312n, 'EUR', 'EUR 9,007,199,254,740,993.12'],
  ] as const) {
    t.equal(formatMoney({ currencyCode, amountMinor }), expected);
  }
});

t.test('an amount in an unknown currency is shown as minor units, not guessed', async (t) => {
  t.equal(formatMoney({ currencyCode: 'ZZZ', amountMinor: 1_234n }), 'ZZZ 1,234 minor units');
  t.equal(formatMinor(1_234n, 'XXX'), '1,234');
  t.equal(minorUnitDigits('XXX'), undefined);
});

t.test('only currencies that a card can be charged in are accepted', async (t) => {
  for (const code of ['EUR', 'USD', 'HUF', 'JPY', 'KWD', 'UGX', 'CLP', 'ISK', 'MRU', 'MGA', 'XAF', 'XCG', 'ZWG'])
    t.equal(isAcceptedCurrency(code), true, code);
  for (const code of ['XXX', 'XTS', 'XAU', 'XDR', 'ZZZ', 'CLF', 'ANG', 'BGN', 'HRK', 'eur', 'EU', '', 'toString'])
    t.equal(isAcceptedCurrency(code), false, code);
});
