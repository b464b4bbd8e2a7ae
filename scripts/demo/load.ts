import { v5 as uuidFromName } from 'uuid';
import {
  type CatalogueCategory,
  type CatalogueProduct,
  type CatalogueVariant,
  locations,
  variantsOf,
} from './catalogue.ts';
import { groups, inParallel } from './parallel.ts';
import type { Shop as WholeShop } from './shop.ts';

/** The doors that loading goes through. */
type Shop = Pick<WholeShop, 'catalog' | 'inventory' | 'as'>;

/** What loading has added; all zero when everything was there. */
export interface Loaded {
  categories: number;
  products: number;
  /** Deliveries of stock. */
  deliveries: number;
}

const atOnce = 16;
/** As many as one reading may ask for. */
const readMax = 100;
const deliveryLines = 260;
const namespace = '2f1c5a1e-6f0b-4d58-9b7e-6d2a9e1c7a10';

/** The same thing is always asked for under the same id, so that two loads at once do everything once. */
const requestId = (what: string) => uuidFromName(`demo catalogue: ${what}`, namespace);

/**
 * Puts the catalogue on sale, as a member of staff, through the services' own doors. What is there is left alone:
 * it is looked up first, since services forget request ids after a day.
 */
export async function loadCatalogue(shop: Shop, categories: readonly CatalogueCategory[]): Promise<Loaded> {
  const [createdCategories, createdProducts] = await loadProducts(shop, categories);
  const deliveries = await loadStock(shop, variantsOf(categories));
  return { categories: createdCategories, products: createdProducts, deliveries };
}

async function loadProducts(shop: Shop, categories: readonly CatalogueCategory[]): Promise<[number, number]> {
  const staff = await shop.as('bo');
  const ids = new Map<string, string>();
  for (let pageToken = ''; ; ) {
    const page = await shop.catalog.listCategories({ pageSize: 200, pageToken }, staff);
    for (const { slug, categoryId } of page.categories) ids.set(slug, categoryId);
    pageToken = page.nextPageToken;
    if (pageToken === '') break;
  }
  const missing = categories.filter(({ slug }) => !ids.has(slug));
  await inParallel(atOnce, missing, async ({ slug, title }) => {
    const created = await shop.catalog.createCategory(
      { requestId: requestId(`category ${slug}`), slug, title },
      { ...staff, timeoutMs: 10_000 },
    );
    ids.set(slug, created.categoryId);
  });
  const known = await knownSkus(shop, variantsOf(categories));
  const products = categories.flatMap(({ slug, products }) =>
    products.filter(({ variants }) => !known.has(variants[0]!.sku)).map((product) => ({ product, slug })),
  );
  await inParallel(atOnce, products, ({ product, slug }) =>
    shop.catalog.createProduct(productRequest(product, ids.get(slug)!), { ...staff, timeoutMs: 10_000 }),
  );
  return [missing.length, products.length];
}

function productRequest({ title, description, variants }: CatalogueProduct, categoryId: string) {
  return {
    requestId: requestId(`product ${variants[0]!.sku}`),
    categoryId,
    title,
    description,
    variants: variants.map((variant) => ({
      sku: variant.sku,
      title: variant.title,
      prices: [
        { currencyCode: 'EUR', amountMinor: variant.eurMinor },
        { currencyCode: 'USD', amountMinor: variant.usdMinor },
      ],
    })),
  };
}

async function knownSkus(shop: Shop, variants: readonly CatalogueVariant[]): Promise<Set<string>> {
  const staff = await shop.as('bo');
  const known = new Set<string>();
  await inParallel(atOnce, groups(variants, readMax), async (group) => {
    const found = await shop.catalog.batchGetVariants(
      { skus: group.map(({ sku }) => sku) },
      { ...staff, timeoutMs: 10_000 },
    );
    for (const { sku } of found.variants) known.add(sku);
  });
  return known;
}

async function loadStock(shop: Shop, variants: readonly CatalogueVariant[]): Promise<number> {
  const staff = await shop.as('bo');
  const known = await knownLevels(shop, variants);
  const deliveries = locations.flatMap((locationId) =>
    groups(variants, deliveryLines).map((group, index) => ({
      requestId: requestId(`delivery ${index} to ${locationId}`),
      locationId,
      lines: group.map(({ sku, stock, soldOut }) => ({ sku, quantity: soldOut ? 1n : stock[locationId] })),
    })),
  );
  // A delivery is received whole or not at all, so one that is known in part is asked for again, under its id.
  const missing = deliveries.filter(({ locationId, lines }) =>
    lines.some(({ sku }) => !known.has(`${sku} ${locationId}`)),
  );
  await inParallel(2, missing, (delivery) => shop.inventory.receiveStock(delivery, { ...staff, timeoutMs: 30_000 }));
  const gone = variants.filter(({ soldOut }) => soldOut).flatMap(({ sku }) => locations.map((at) => ({ sku, at })));
  // Only what is still as delivered breaks: known levels were dealt with by an earlier load.
  const breaking = gone.filter(({ sku, at }) => (known.get(`${sku} ${at}`) ?? 1n) === 1n);
  await inParallel(atOnce, breaking, ({ sku, at: locationId }) =>
    shop.inventory.adjustStock(
      {
        requestId: requestId(`broken ${sku} at ${locationId}`),
        sku,
        locationId,
        delta: -1n,
        note: 'broken on arrival',
      },
      staff,
    ),
  );
  return missing.length;
}

/** The version of each level that exists, by SKU and location. */
async function knownLevels(shop: Shop, variants: readonly CatalogueVariant[]): Promise<Map<string, bigint>> {
  const staff = await shop.as('bo');
  const known = new Map<string, bigint>();
  await inParallel(atOnce, groups(variants, readMax), async (group) => {
    const { levels } = await shop.inventory.batchGetStock(
      { skus: group.map(({ sku }) => sku) },
      { ...staff, timeoutMs: 10_000 },
    );
    for (const { sku, locationId, version } of levels) known.set(`${sku} ${locationId}`, version);
  });
  return known;
}
