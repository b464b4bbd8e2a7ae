import type { FieldViolation } from '@armature/proto/contract.ts';
import { isAcceptedCurrency } from '@armature/runtime/money';
import type { OrderLine } from './order.ts';

/** What a caller may order of one product, as the catalogue has it. */
export interface Offer {
  sku: string;
  title: string;
  orderable: boolean;
  prices: readonly Amount[];
}

interface Amount {
  currencyCode: string;
  amountMinor: bigint;
}

/** A line as it is asked for, with the price that the customer was shown, if the client says so. */
export interface WantedLine {
  sku: string;
  quantity: bigint;
  expectedUnitPrice?: Amount | undefined;
}

/** An order as it is asked for. */
export interface Wanted {
  lines: readonly WantedLine[];
  currencyCode: string;
  expectedTotal?: Amount | undefined;
}

/** No order is worth more than this. */
export const totalMaxMinor = 100_000_000_000n;

/** The contract's limit of one line. It holds for the sum of the lines of one SKU too, as inventory holds it. */
export const quantityMax = 1_000n;

/** A line whose price is not the one that the request expects. */
export interface PriceChange {
  sku: string;
  unitPriceMinor: bigint;
}

export type Pricing =
  | { kind: 'priced'; lines: OrderLine[]; totalMinor: bigint }
  | { kind: 'unknown' | 'not_orderable' | 'no_price'; skus: string[] }
  | { kind: 'too_large' }
  /** `changes` is empty where only the total differs. */
  | { kind: 'price_changed'; changes: PriceChange[]; totalMinor: bigint };

/**
 * What the contract's field rules cannot say about the shape of a request: rules that hold for lines of one SKU
 * together, and for the currency of expected prices. A request that passes here is not refused for its shape later.
 */
export function shapeViolations({ lines, currencyCode, expectedTotal }: Wanted): FieldViolation[] {
  const violations: FieldViolation[] = [];
  const inOrderCurrency = (amount: Amount | undefined, path: string) => {
    if (!amount || amount.currencyCode === currencyCode) return;
    const description = `must be the currency of the order, ${currencyCode} (got ${amount.currencyCode})`;
    violations.push({ field: `${path}.currency_code`, description, reason: 'currency' });
  };
  for (const [index, line] of lines.entries()) {
    inOrderCurrency(line.expectedUnitPrice, `lines[${index}].expected_unit_price`);
  }
  inOrderCurrency(expectedTotal, 'expected_total');
  const bySku = Map.groupBy(lines.entries(), ([, { sku }]) => sku);
  for (const [sku, same] of bySku) if (same.length > 1) violations.push(...mergedViolations(sku, same));
  return violations;
}

function mergedViolations(sku: string, same: readonly (readonly [number, WantedLine])[]): FieldViolation[] {
  const merged = `lines ${same.map(([index]) => index).join(', ')} of SKU ${sku} together`;
  const violations: FieldViolation[] = [];
  const quantity = same.reduce((sum, [, line]) => sum + line.quantity, 0n);
  if (quantity > quantityMax) {
    const description = `must be at most ${quantityMax}, got ${quantity} in ${merged}`;
    violations.push(
      ...same.map(([index]) => ({ field: `lines[${index}].quantity`, description, reason: 'int64.lte' })),
    );
  }
  const expected = same.filter(([, { expectedUnitPrice }]) => expectedUnitPrice);
  const prices = new Set(expected.map(([, { expectedUnitPrice }]) => expectedUnitPrice?.amountMinor));
  if (prices.size > 1) {
    const description = `must be the same in all lines of SKU ${sku} (got ${[...prices].join(', ')})`;
    const fields = expected.map(([index]) => `lines[${index}].expected_unit_price`);
    violations.push(...fields.map((field) => ({ field, description, reason: 'price.same' })));
  }
  return violations;
}

/**
 * Prices the lines in one currency; lines of one SKU add up. Nothing is priced when any line cannot be, or when a
 * price or the total is not what the request expects.
 */
export function price(wanted: Wanted, offers: readonly Offer[]): Pricing {
  const { currencyCode, expectedTotal } = wanted;
  const quantities = new Map<string, bigint>();
  for (const { sku, quantity } of wanted.lines) quantities.set(sku, (quantities.get(sku) ?? 0n) + quantity);
  const bySku = new Map(offers.map((offer) => [offer.sku, offer]));
  // The catalogue refuses prices in currencies that no card can be charged in; older products may still have some.
  const chargeable = isAcceptedCurrency(currencyCode);
  const priceOf = (sku: string) =>
    chargeable ? bySku.get(sku)?.prices.find((money) => money.currencyCode === currencyCode) : undefined;
  const skus = [...quantities.keys()];
  const unknown = skus.filter((sku) => !bySku.has(sku));
  if (unknown.length > 0) return { kind: 'unknown', skus: unknown };
  const retired = skus.filter((sku) => !bySku.get(sku)?.orderable);
  if (retired.length > 0) return { kind: 'not_orderable', skus: retired };
  const unpriced = skus.filter((sku) => !priceOf(sku));
  if (unpriced.length > 0) return { kind: 'no_price', skus: unpriced };
  const lines = [...quantities].map(([sku, quantity]) => ({
    sku,
    title: bySku.get(sku)?.title ?? '',
    quantity,
    unitPriceMinor: priceOf(sku)?.amountMinor ?? 0n,
  }));
  const totalMinor = lines.reduce((sum, line) => sum + line.unitPriceMinor * line.quantity, 0n);
  const changes = priceChanges(wanted.lines, lines);
  if (changes.length > 0 || (expectedTotal && expectedTotal.amountMinor !== totalMinor)) {
    return { kind: 'price_changed', changes, totalMinor };
  }
  return totalMinor > totalMaxMinor ? { kind: 'too_large' } : { kind: 'priced', lines, totalMinor };
}

function priceChanges(wanted: readonly WantedLine[], lines: readonly OrderLine[]): PriceChange[] {
  const expected = new Map(wanted.flatMap((line) => (line.expectedUnitPrice ? [[line.sku, line] as const] : [])));
  return lines.filter(({ sku, unitPriceMinor }) => {
    const shown = expected.get(sku)?.expectedUnitPrice;
    return shown !== undefined && shown.amountMinor !== unitPriceMinor;
  });
}
