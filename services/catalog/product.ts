import type { FieldViolation } from '@armature/proto/contract.ts';
import { fieldMaskInvalid } from '@armature/runtime';
import { fieldsInvalid } from '@armature/runtime/errors';
import { isAcceptedCurrency } from '@armature/runtime/money';
import { priceDuplicate } from './errors.ts';

/** A new product is ACTIVE; an ARCHIVED one never changes again. */
export type State = 'ACTIVE' | 'ARCHIVED';

export interface Price {
  currencyCode: string;
  amountMinor: bigint;
}

/** A variant of a product. */
export interface Variant {
  sku: string;
  title: string;
  /** Left out of its product by an update; such variants are found by their SKU only. */
  retired: boolean;
  prices: readonly Price[];
}

export interface Product {
  productId: string;
  categoryId: string;
  title: string;
  description: string;
  state: State;
  /** Counts changes from 1; also the sequence of the product's events. */
  version: bigint;
  createdAt: Date;
  updatedAt: Date;
  /** The variants that are not retired, in the product's order. */
  variants: readonly Variant[];
}

/** A variant found by its SKU, together with the state of its product. */
export interface VariantOfProduct extends Variant {
  productId: string;
  state: State;
}

/** A variant of a request. */
export interface VariantDraft {
  sku: string;
  title: string;
  prices: readonly Price[];
}

export interface ProductDraft {
  categoryId: string;
  title: string;
  description: string;
  variants: readonly VariantDraft[];
}

/** The fields that an update changes. */
export type ProductChange = Partial<ProductDraft>;

/** Changes the field of an update that a path of its mask names. */
const changes: Readonly<Record<string, (draft: ProductDraft) => ProductChange>> = {
  title: ({ title }) => ({ title }),
  description: ({ description }) => ({ description }),
  category_id: ({ categoryId }) => ({ categoryId }),
  variants: ({ variants }) => ({ variants }),
};

/** Picks the fields that the mask names. Throws INVALID_ARGUMENT for a mask that is empty or names another field. */
export function changeOf(draft: ProductDraft, mask: readonly string[]): ProductChange {
  if (mask.length === 0) {
    const description = `must name at least one of ${Object.keys(changes).join(', ')}`;
    throw fieldsInvalid([{ field: 'update_mask', description, reason: 'mask' }]);
  }
  const change: ProductChange = {};
  for (const path of mask) {
    const pick = Object.hasOwn(changes, path) ? changes[path] : undefined;
    if (!pick) throw fieldMaskInvalid(path.slice(0, 100));
    Object.assign(change, pick(draft));
  }
  return change;
}

const violationsMax = 20;
const breaksLine = /[\p{Cc}\p{Zl}\p{Zp}]/u;
const showsSomething = /[^\p{Cc}\p{Cf}\p{Z}]/u;
/** Control characters other than tab and line ends. */
const controlInText = /[^\P{Cc}\t\n\r]/u;

/** Rules of a title that field rules cannot express: one line of text, with a visible character. */
export function titleViolations(title: string, field: string): FieldViolation[] {
  if (breaksLine.test(title))
    return [{ field, description: 'must not contain control characters', reason: 'text.control' }];
  if (!showsSomething.test(title))
    return [{ field, description: 'must contain a visible character', reason: 'text.blank' }];
  return [];
}

/**
 * Checks rules that the contract's field rules cannot express: visible text, currencies that can be charged,
 * no repeated SKUs or currencies. Throws INVALID_ARGUMENT with field violations, or PRICE_DUPLICATE.
 */
export function checkProduct({ title, description, categoryId, variants }: ProductChange): void {
  const violations: FieldViolation[] = [];
  if (categoryId === '')
    violations.push({ field: 'category_id', description: 'must be a UUID', reason: 'string.uuid' });
  if (title !== undefined) violations.push(...titleViolations(title, 'title'));
  if (description !== undefined && controlInText.test(description)) {
    const rule = 'must not contain control characters other than tabs and line ends';
    violations.push({ field: 'description', description: rule, reason: 'text.control' });
  }
  if (variants) violations.push(...variantViolations(variants));
  if (violations.length > 0) throw fieldsInvalid(violations.slice(0, violationsMax));
  for (const [index, variant] of (variants ?? []).entries()) checkPrices(variant, `variants[${index}]`);
}

function variantViolations(variants: readonly VariantDraft[]): FieldViolation[] {
  if (variants.length === 0) {
    return [{ field: 'variants', description: 'must have at least 1 item', reason: 'repeated.min_items' }];
  }
  const firstWith = new Map<string, number>();
  return variants.flatMap(({ sku, title, prices }, index) => {
    const violations = titleViolations(title, `variants[${index}].title`);
    violations.push(...currencyViolations(prices, `variants[${index}]`));
    const first = firstWith.get(sku);
    if (first === undefined) firstWith.set(sku, index);
    else {
      const description = `is the SKU of variants[${first}] too`;
      violations.push({ field: `variants[${index}].sku`, description, reason: 'repeated.unique' });
    }
    return violations;
  });
}

/** A price can only be charged in a currency that has a minor unit. */
function currencyViolations(prices: readonly Price[], path: string): FieldViolation[] {
  return prices.flatMap(({ currencyCode }, index) => {
    if (isAcceptedCurrency(currencyCode)) return [];
    const description = `must be a currency of ISO 4217 that a card can be charged in (got ${currencyCode})`;
    return [{ field: `${path}.prices[${index}].currency_code`, description, reason: 'currency' }];
  });
}

function checkPrices({ sku, prices }: VariantDraft, path: string): void {
  const currencies = new Set<string>();
  for (const [index, { currencyCode }] of prices.entries()) {
    if (currencies.has(currencyCode)) throw priceDuplicate(`${path}.prices[${index}]`, sku, currencyCode);
    currencies.add(currencyCode);
  }
}

const skuPattern = /^[A-Z0-9][A-Z0-9._-]{0,63}$/;

/** Whether a SKU is valid. Others are not queried: with text outside ASCII MySQL could not use the index. */
export const isSku = (text: string): boolean => skuPattern.test(text);

/** Upper bounds of the bytes of a listed product: its texts, and every variant with 20 prices. */
const productBytes = 160;
const variantBytes = 128 + 20 * 20;

interface Sized {
  title: string;
  description: string;
  variants: readonly { title: string }[];
}

/**
 * How many of the products certainly fit into a message, at least one: a page may have fewer products than requested,
 * but it can always be sent.
 */
export function countThatFits(products: readonly Sized[], bytesMax: number): number {
  let bytes = 0;
  for (const [index, product] of products.entries()) {
    bytes += productBytes + Buffer.byteLength(product.title) + Buffer.byteLength(product.description);
    for (const { title } of product.variants) bytes += variantBytes + Buffer.byteLength(title);
    if (bytes > bytesMax) return Math.max(index, 1);
  }
  return products.length;
}
