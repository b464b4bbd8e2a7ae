import { ProductArchivedEvent, ProductCreatedEvent, ProductUpdatedEvent } from '@armature/proto/catalog/v1/contract.ts';
import { emit, isDuplicateKey, newId, type Page, type SqlReader, type Tx } from '@armature/runtime';
import { LockMode } from '@mikro-orm/mysql';
import type { CategoryRow, ProductRow, VariantRow } from './entities.ts';
import * as entities from './entities.ts';
import {
  categoryExists,
  categoryUnknown,
  productArchived,
  productNotFound,
  skuExists,
  versionConflict,
} from './errors.ts';
import { toProduct } from './messages.ts';
import {
  countThatFits,
  isSku,
  type Price,
  type Product,
  type ProductChange,
  type ProductDraft,
  type State,
  type Variant,
  type VariantDraft,
  type VariantOfProduct,
} from './product.ts';

export async function createCategory(tx: Tx, { slug, title }: { slug: string; title: string }): Promise<CategoryRow> {
  const category = tx.em.create(entities.Category, { categoryId: newId(), slug, title, createdAt: new Date() });
  try {
    await tx.em.flush();
  } catch (error) {
    throw isDuplicateKey(error) ? categoryExists(slug) : error;
  }
  return category;
}

/** One row more than the page holds, by slug. */
export function listCategories(sql: SqlReader, { size, after }: Page<readonly [string]>): Promise<CategoryRow[]> {
  const where = after ? { slug: { $gt: String(after[0]) } } : {};
  return sql.find(entities.Category, where, { orderBy: { slug: 'asc' }, limit: size + 1 });
}

/** Adds a product with its variants and prices. Throws CATEGORY_UNKNOWN and SKU_EXISTS. */
export async function createProduct(tx: Tx, draft: ProductDraft): Promise<Product> {
  const now = new Date();
  const row = tx.em.create(entities.Product, {
    productId: newId(),
    categoryId: await knownCategory(tx, draft.categoryId),
    title: draft.title,
    description: draft.description,
    state: 'ACTIVE',
    version: 1n,
    createdAt: now,
    updatedAt: now,
  });
  setVariants(tx, row, draft.variants);
  await flush(tx, row);
  const product = productOf(row);
  emit(tx, ProductCreatedEvent, { productId: product.productId, product: toProduct(product) }, product.version);
  return product;
}

/**
 * Changes a product under the lock of its row. Throws PRODUCT_NOT_FOUND, PRODUCT_ARCHIVED,
 * VERSION_CONFLICT unless `version` is 0 or the current one, CATEGORY_UNKNOWN and SKU_EXISTS.
 */
export async function updateProduct(
  tx: Tx,
  productId: string,
  change: ProductChange,
  version: bigint,
): Promise<Product> {
  const { variants, categoryId, ...texts } = change;
  const row = await lockProduct(tx, productId);
  if (row.state === 'ARCHIVED') throw productArchived(row.productId);
  if (version !== 0n && version !== row.version) throw versionConflict(version, row.version);
  await loadVariants(tx, row, variants?.map(({ sku }) => sku) ?? []);
  Object.assign(row, texts);
  if (categoryId !== undefined) row.categoryId = await knownCategory(tx, categoryId);
  if (variants) setVariants(tx, row, variants);
  touch(row);
  await flush(tx, row);
  const product = productOf(row);
  emit(tx, ProductUpdatedEvent, { productId: product.productId, product: toProduct(product) }, product.version);
  return product;
}

/** Archives a product; one that is archived already stays unchanged. Throws PRODUCT_NOT_FOUND. */
export async function archiveProduct(tx: Tx, productId: string): Promise<Product> {
  const row = await lockProduct(tx, productId);
  await loadVariants(tx, row, []);
  if (row.state === 'ARCHIVED') return productOf(row);
  row.state = 'ARCHIVED';
  touch(row);
  emit(tx, ProductArchivedEvent, { productId: row.productId }, row.version);
  return productOf(row);
}

/** Reads a product with its variants. Throws PRODUCT_NOT_FOUND. */
export async function getProduct(sql: SqlReader, productId: string): Promise<Product> {
  const rows = await sql.find(entities.Product, { productId });
  const [product] = await withPrices(sql, await withVariants(sql, rows));
  if (!product) throw productNotFound(productId);
  return product;
}

export interface ProductFilter {
  /** Empty: every category. */
  categoryId: string;
  includeArchived: boolean;
}

/**
 * Products in the order of their creation, those that fill the page and at most `bytesMax`, in three
 * queries; `more` is true when others follow.
 */
export async function listProducts(
  sql: SqlReader,
  filter: ProductFilter,
  { size, after }: Page<readonly [string]>,
  bytesMax: number,
): Promise<{ products: Product[]; more: boolean }> {
  const rows = await sql.find(
    entities.Product,
    {
      ...(filter.categoryId ? { categoryId: filter.categoryId } : {}),
      ...(filter.includeArchived ? {} : { state: 'ACTIVE' as const }),
      ...(after ? { productId: { $gt: String(after[0]) } } : {}),
    },
    { orderBy: { productId: 'asc' }, limit: size + 1 },
  );
  const listed = await withVariants(sql, rows.slice(0, size));
  const fitting = listed.slice(0, countThatFits(listed, bytesMax));
  return { products: await withPrices(sql, fitting), more: fitting.length < rows.length };
}

interface VariantPriceRow {
  sku: string;
  product_id: string;
  title: string;
  retired: number;
  state: State;
  currency_code: string | null;
  amount_minor: string | number | null;
}

/**
 * Reads variants by SKU in one query on the indexes of their keys, retired ones too. Every order runs
 * this, so it does not make entities of the rows.
 */
export async function variantsBySku(sql: SqlReader, skus: readonly string[]): Promise<Map<string, VariantOfProduct>> {
  const variants = new Map<string, VariantOfProduct & { prices: Price[] }>();
  const possible = skus.filter(isSku);
  if (possible.length === 0) return variants;
  const rows = await sql.query<VariantPriceRow>(
    `select v.sku, v.product_id, v.title, v.retired, p.state, r.currency_code, r.amount_minor
     from variant v
     join product p on p.product_id = v.product_id
     left join price r on r.sku = v.sku
     where v.sku in (?)`,
    [possible],
  );
  for (const { sku, product_id: productId, title, retired, state, currency_code, amount_minor } of rows) {
    let variant = variants.get(sku);
    if (!variant) {
      variant = { sku, productId, title, retired: retired === 1, state, prices: [] };
      variants.set(sku, variant);
    }
    if (currency_code !== null)
      variant.prices.push({ currencyCode: currency_code, amountMinor: BigInt(amount_minor ?? 0) });
  }
  return variants;
}

type Loading = Omit<Product, 'variants'> & { variants: (Variant & { prices: Price[] })[] };

/**
 * Adds the current variants of products, in one query and not as entities: a page may have thousands.
 * The product rows were read before. After a change in between, the variants are newer than the version that is
 * returned, never older, and an update with that version is refused.
 */
async function withVariants(sql: SqlReader, rows: readonly ProductRow[]): Promise<Loading[]> {
  if (rows.length === 0) return [];
  const found = await sql.query<{ product_id: string; sku: string; title: string }>(
    'select product_id, sku, title from variant where product_id in (?) and retired = 0 order by product_id, ordinal',
    [rows.map(({ productId }) => productId)],
  );
  const variants = Map.groupBy(found, (variant) => variant.product_id);
  return rows.map((row) => ({
    ...fieldsOf(row),
    variants: (variants.get(row.productId) ?? []).map(({ sku, title }) => ({ sku, title, retired: false, prices: [] })),
  }));
}

/** Adds the prices of all their variants, in one query. */
async function withPrices(sql: SqlReader, products: Loading[]): Promise<Product[]> {
  const variants = new Map(products.flatMap((product) => product.variants.map((variant) => [variant.sku, variant])));
  if (variants.size === 0) return products;
  // By SKU, so that a variant that was retired since it was read keeps its prices here.
  const prices = await sql.query<{ sku: string; currency_code: string; amount_minor: string | number }>(
    'select sku, currency_code, amount_minor from price where sku in (?)',
    [[...variants.keys()]],
  );
  for (const { sku, currency_code, amount_minor } of prices) {
    variants.get(sku)?.prices.push({ currencyCode: currency_code, amountMinor: BigInt(amount_minor) });
  }
  return products;
}

/** The category's id as it is stored. Categories are never deleted, so the result stays valid. */
async function knownCategory(tx: Tx, categoryId: string): Promise<string> {
  const category = await tx.em.findOne(entities.Category, { categoryId });
  if (!category) throw categoryUnknown(categoryId);
  return category.categoryId;
}

async function lockProduct(tx: Tx, productId: string): Promise<ProductRow> {
  const row = await tx.em.findOne(entities.Product, { productId }, { lockMode: LockMode.PESSIMISTIC_WRITE });
  if (!row) throw productNotFound(productId);
  return row;
}

/** Loads the current variants of a product, and those of its retired ones that are in `skus`; the rest may be many. */
async function loadVariants(tx: Tx, row: ProductRow, skus: readonly string[]): Promise<void> {
  const wanted = skus.length > 0 ? { $or: [{ retired: false }, { sku: { $in: [...skus] } }] } : { retired: false };
  await tx.em.populate([row], ['variants'], { where: { variants: wanted }, strategy: 'select-in' });
  await tx.em.populate([row], ['variants.prices'], { strategy: 'select-in' });
}

function touch(row: ProductRow): void {
  row.version += 1n;
  row.updatedAt = new Date();
}

/** Replaces the variants by the drafts. Variants without a draft are retired; retired ones with a draft are restored. */
function setVariants(tx: Tx, product: ProductRow, drafts: readonly VariantDraft[]): void {
  const known = new Map(product.variants.getItems().map((variant) => [variant.sku, variant]));
  for (const variant of known.values()) variant.retired = true;
  // In the order of SKUs, so that two updates with the same SKUs wait for each other instead of deadlocking.
  const bySku = drafts.map((draft, ordinal) => ({ ...draft, ordinal })).sort((a, b) => (a.sku < b.sku ? -1 : 1));
  for (const { sku, title, ordinal, prices } of bySku) {
    const variant = known.get(sku) ?? tx.em.create(entities.Variant, { sku, product, title, ordinal, retired: false });
    // MikroORM does not add new members to a collection that was loaded in part.
    product.variants.add(variant);
    Object.assign(variant, { title, ordinal, retired: false });
    setPrices(tx, variant, prices);
  }
}

function setPrices(tx: Tx, variant: VariantRow, prices: readonly Price[]): void {
  const wanted = new Map(prices.map(({ currencyCode, amountMinor }) => [currencyCode, amountMinor]));
  for (const price of variant.prices.getItems()) {
    const amountMinor = wanted.get(price.currencyCode);
    wanted.delete(price.currencyCode);
    if (amountMinor === undefined) variant.prices.remove(price);
    else price.amountMinor = amountMinor;
  }
  for (const [currencyCode, amountMinor] of wanted)
    tx.em.create(entities.Price, { variant, currencyCode, amountMinor });
}

/** Flushes the changes. The primary key rejects a SKU that another product has, retired or not. */
async function flush(tx: Tx, product: ProductRow): Promise<void> {
  try {
    await tx.em.flush();
  } catch (error) {
    if (!isDuplicateKey(error)) throw error;
    const skus = product.variants.getItems().map(({ sku }) => sku);
    const taken = await tx.query<{ sku: string }>(
      'select sku from variant where sku in (?) and product_id <> ? order by sku',
      [skus, product.productId],
    );
    if (taken.length === 0) throw error;
    throw skuExists(taken.map(({ sku }) => sku));
  }
}

function fieldsOf({ productId, categoryId, title, description, state, version, createdAt, updatedAt }: ProductRow) {
  return { productId, categoryId, title, description, state, version, createdAt, updatedAt };
}

/** The product of an entity whose variants are loaded. */
function productOf(row: ProductRow): Product {
  const variants = row.variants
    .getItems()
    .filter(({ retired }) => !retired)
    .sort((a, b) => a.ordinal - b.ordinal)
    .map(({ sku, title, retired, prices }) => ({ sku, title, retired, prices: prices.getItems() }));
  return { ...fieldsOf(row), variants };
}
