import type { FieldViolation } from '@armature/proto/contract.ts';
import { isAcceptedCurrency } from '@armature/runtime/money';
import type { OrderLine } from './order.ts';

/** One variant of a product as the catalogue offers it. */
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

/** A line of the request, with the price that the customer was shown, where the client sends it. */
export interface RequestedLine {
  sku: string;
  quantity: bigint;
  expectedUnitPrice?: Amount | undefined;
}

/** An order as the client requests it. */
export interface RequestedOrder {
  lines: readonly RequestedLine[];
  currencyCode: string;
  expectedTotal?: Amount | undefined;
}

/** The highest total of an order. */
export const totalMaxMinor = 100_000_000_000n;

/** The contract's limit for one line. It also applies to the sum of the lines of one SKU, as in inventory. */
export const quantityMax = 1_000n;

/** A line whose current price differs from the expected price. */
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
 * Checks what the contract's field rules cannot express: rules for all lines of one SKU together, and for the currency
 * of expected prices. No later check refuses a request for its shape.
 */
export function shapeViolations({ lines, currencyCode, expectedTotal }: RequestedOrder): FieldViolation[] {
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

function mergedViolations(sku: string, same: readonly (readonly [number, RequestedLine])[]): FieldViolation[] {
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
 * Prices the lines in one currency, after merging lines of one SKU. Returns no priced lines where any line has no
 * price, or where a price or the total differs from the expected one.
 */
export function price(requested: RequestedOrder, offers: readonly Offer[]): Pricing {
  const { currencyCode, expectedTotal } = requested;
  const quantities = new Map<string, bigint>();
  for (const { sku, quantity } of requested.lines) quantities.set(sku, (quantities.get(sku) ?? 0n) + quantity);
  const bySku = new Map(offers.map((offer) => [offer.sku, offer]));
  // The catalogue refuses prices in currencies that no card can be charged in. Older products may still have such
  // prices.
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
  const changes = priceChanges(requested.lines, lines);
  if (changes.length > 0 || (expectedTotal && expectedTotal.amountMinor !== totalMinor)) {
    return { kind: 'price_changed', changes, totalMinor };
  }
  return totalMinor > totalMaxMinor ? { kind: 'too_large' } : { kind: 'priced', lines, totalMinor };
}

function priceChanges(requested: readonly RequestedLine[], lines: readonly OrderLine[]): PriceChange[] {
  const expected = new Map(requested.flatMap((line) => (line.expectedUnitPrice ? [[line.sku, line] as const] : [])));
  return lines.filter(({ sku, unitPriceMinor }) => {
    const shown = expected.get(sku)?.expectedUnitPrice;
    return shown !== undefined && shown.amountMinor !== unitPriceMinor;
  });
}
