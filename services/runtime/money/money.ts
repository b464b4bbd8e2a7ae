/**
 * Minor units of currencies by ISO 4217, and amounts as text.
 *
 * The digits are those of ISO 4217 list one of 2024-06-25 (the data of the npm package currency-codes 2.2.0), with the
 * amendments up to 2026-01-01: XCG instead of ANG, ZWG instead of ZWL, and without BGN, CUC and HRK. `Intl` is not
 * used: its digits are those of CLDR, which differ (HUF, IDR, COP and IQD have none there), and they change with the
 * version of Node.
 */
interface Currency {
  /** Digits after the decimal point. */
  readonly digits: number;
  /** Whether prices and payments may be in it. The others are only displayed. */
  readonly accepted: boolean;
}

const accepted: Readonly<Record<number, string>> = {
  0: 'BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF',
  2: `
    AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CNY COP
    CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS
    INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN
    MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE
    SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD UYU UZS VED VES WST XCD XCG YER ZAR
    ZMW ZWG`,
  3: 'BHD IQD JOD KWD LYD OMR TND',
};

/** Units of account that no card is charged in, and withdrawn currencies: old amounts are still displayed. */
const shownOnly: Readonly<Record<number, string>> = {
  0: 'UYI',
  2: 'ANG BGN BOV CHE CHW COU CUC HRK MXV USN ZWL',
  4: 'CLF UYW',
};

const entriesOf = (table: Readonly<Record<number, string>>, isAccepted: boolean): [string, Currency][] =>
  Object.entries(table).flatMap(([digits, codes]) =>
    codes
      .trim()
      .split(/\s+/)
      .map((code): [string, Currency] => [code, { digits: Number(digits), accepted: isAccepted }]),
  );

const currencies: ReadonlyMap<string, Currency> = new Map([
  ...entriesOf(accepted, true),
  ...entriesOf(shownOnly, false),
]);

/**
 * Whether prices and payments may be in this currency. Codes of metals, of tests (XTS), of no currency (XXX), of units
 * of account, of withdrawn currencies, and codes that ISO 4217 does not have, are not accepted.
 */
export const isAcceptedCurrency = (code: string): boolean => currencies.get(code)?.accepted === true;

/** The digits after the decimal point; undefined where ISO 4217 gives none. */
export const minorUnitDigits = (code: string): number | undefined => currencies.get(code)?.digits;

/**
 * The digits of an amount: `-12,990.00` for -1299000 minor units of HUF. Without a currency that has a minor unit, the
 * plain count of minor units.
 */
export function formatMinor(amountMinor: bigint, currencyCode: string): string {
  const digits = minorUnitDigits(currencyCode) ?? 0;
  const negative = amountMinor < 0n;
  const padded = String(negative ? -amountMinor : amountMinor).padStart(digits + 1, '0');
  const whole = padded.slice(0, padded.length - digits).replace(/\B(?=(\d{3})+$)/g, ',');
  return `${negative ? '-' : ''}${whole}${digits > 0 ? `.${padded.slice(-digits)}` : ''}`;
}

/**
 * An amount as text: `HUF 12,990.00`. An amount whose currency has no known minor unit is shown as `ZZZ 1,234 minor
 * units`, because a guess may be wrong by a factor of a thousand.
 */
export function formatMoney({ currencyCode, amountMinor }: { currencyCode: string; amountMinor: bigint }): string {
  const text = `${currencyCode} ${formatMinor(amountMinor, currencyCode)}`;
  return minorUnitDigits(currencyCode) === undefined ? `${text} minor units` : text;
}
