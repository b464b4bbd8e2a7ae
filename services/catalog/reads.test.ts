import { randomUUID } from 'node:crypto';
import { catalogClient, type RpcError } from '@armature/clients';
import type { CreateProductRequest, Product, VariantInput } from '@armature/proto/catalog/v1/catalog.ts';
import t from 'tap';
import { refusal } from '../../test/support/refusal.ts';
import { developerCredentials, startService, token } from '../../test/support/service.ts';

const service = await startService(t, 'catalog');
const staffToken = await token('bo');
const staff = catalogClient({
  addresses: [service.grpc],
  tls: await developerCredentials(),
  token: () => staffToken,
});
t.teardown(() => staff.close());

const absent = randomUUID();
let made = 0;
/** A name that is unique in this file. */
function unique(prefix: string): string {
  made += 1;
  return `${prefix}${made}`;
}
const eur = (amountMinor: bigint) => ({ currencyCode: 'EUR', amountMinor });
const variant = (sku = unique('SKU-'), prices = [eur(100n)]): VariantInput => ({
  sku,
  title: `Variant ${sku}`,
  prices,
});
const newCategory = () => staff.createCategory({ slug: unique('category-'), title: 'Category' });
const newProduct = (over: Partial<CreateProductRequest>): Promise<Product> =>
  staff.createProduct({ title: 'Lamp', description: '', variants: [variant()], ...over });
const { categoryId } = await newCategory();

const failureOf = (call: Promise<unknown>): Promise<RpcError> =>
  call.then(
    () => Promise.reject(new Error('the call should have failed')),
    (error) => error,
  );

t.test('variants by SKU', async (t) => {
  const [a, b] = [variant(unique('A-')), variant(unique('B-'), [{ currencyCode: 'USD', amountMinor: 7n }, eur(5n)])];
  const { productId } = await newProduct({ categoryId, variants: [a, b] });
  const gone = await newProduct({ categoryId });
  await staff.archiveProduct({ productId: gone.productId });
  const goneSku = gone.variants[0]!.sku;
  const unknown = ['NONE', a.sku.toLowerCase()];
  const reply = await staff.batchGetVariants({ skus: [b.sku, ...unknown, goneSku, a.sku] });
  t.strictSame(
    reply.variants.map(({ sku, orderable }) => [sku, orderable]),
    [
      [b.sku, true],
      [goneSku, false],
      [a.sku, true],
    ],
    'in the order asked for',
  );
  t.strictSame(reply.variants[0], {
    sku: b.sku,
    productId,
    title: b.title,
    prices: [eur(5n), { currencyCode: 'USD', amountMinor: 7n }],
    orderable: true,
  });
  t.strictSame(reply.unknownSkus, unknown);
  for (const sku of [`${a.sku} `, '商品', 'NUL\0']) {
    await t.rejects(staff.batchGetVariants({ skus: [b.sku, sku] }), refusal({ reason: 'FIELDS_INVALID' }));
  }
});

t.test('pages', async (t) => {
  const { categoryId } = await newCategory();
  const products: Product[] = [];
  for (let index = 0; index < 12; index += 1) products.push(await newProduct({ categoryId, title: `Lamp ${index}` }));
  const archived = await staff.archiveProduct({ productId: products[3]!.productId });
  const all = products.with(3, archived);
  const onSale = all.toSpliced(3, 1);
  for (const row of [
    { name: 'one product per page', pageSize: 1, includeArchived: false, finds: onSale, pages: 11 },
    { name: 'a last page that is full', pageSize: 4, includeArchived: true, finds: all, pages: 3 },
    { name: 'a last page that is not full', pageSize: 5, includeArchived: false, finds: onSale, pages: 3 },
    { name: 'all on one page', pageSize: 0, includeArchived: true, finds: all, pages: 1 },
  ]) {
    t.test(row.name, async (t) => {
      const { pageSize, includeArchived } = row;
      const found: Product[] = [];
      let pages = 0;
      for (let pageToken = ''; pages === 0 || pageToken; pages += 1) {
        const reply = await staff.listProducts({ categoryId, includeArchived, pageSize, pageToken });
        found.push(...reply.products);
        pageToken = reply.nextPageToken;
      }
      t.strictSame(found, row.finds);
      t.equal(pages, row.pages);
    });
  }
  t.test('an unknown category has no products', async (t) => {
    t.strictSame(await staff.listProducts({ categoryId: absent }), { products: [], nextPageToken: '' });
  });
  t.test('tokens of another query are refused', async (t) => {
    const { nextPageToken: pageToken } = await staff.listProducts({ categoryId, pageSize: 1 });
    const refused = { code: 'INVALID_ARGUMENT', reason: 'PAGE_TOKEN_INVALID' };
    t.ok(pageToken);
    t.match(await failureOf(staff.listProducts({ pageToken })), refused);
    t.match(await failureOf(staff.listProducts({ categoryId, includeArchived: true, pageToken })), refused);
    t.match(await failureOf(staff.listCategories({ pageToken })), refused);
    t.match(await failureOf(staff.listProducts({ categoryId, pageToken: 'nonsense' })), refused);
  });
  t.test('a page never exceeds the message limit', async (t) => {
    const { categoryId } = await newCategory();
    const currencies = 'AUD BRL CAD CHF CNY CZK DKK EUR GBP HKD HUF IDR INR JPY KRW MXN NOK PLN SEK USD'.split(' ');
    const prices = currencies.map((currencyCode) => ({ currencyCode, amountMinor: 1n << 46n }));
    const large = () =>
      Array.from({ length: 100 }, () => ({ ...variant(unique('LARGE-'), prices), title: '商'.repeat(200) }));
    for (let index = 0; index < 12; index += 1) {
      await newProduct({ categoryId, description: '𝄞'.repeat(5000), variants: large() });
    }
    const first = await staff.listProducts({ categoryId, pageSize: 200 });
    const rest = await staff.listProducts({ categoryId, pageSize: 200, pageToken: first.nextPageToken });
    t.strictSame([first.products.length, rest.products.length, rest.nextPageToken], [7, 5, '']);
    t.ok(first.products.every(({ variants }) => variants.length === 100 && variants[99]?.prices.length === 20));
  });
});

t.test('categories by slug, page by page', async (t) => {
  const slugs = [await newCategory(), await newCategory()].map(({ slug }) => slug);
  const listed: string[] = [];
  for (let pageToken = '', pages = 0; pages === 0 || pageToken; pages += 1) {
    const reply = await staff.listCategories({ pageSize: 2, pageToken });
    listed.push(...reply.categories.map(({ slug }) => slug));
    pageToken = reply.nextPageToken;
  }
  t.strictSame(listed, listed.toSorted());
  t.equal(new Set(listed).size, listed.length);
  for (const slug of slugs) t.ok(listed.includes(slug), slug);
});
