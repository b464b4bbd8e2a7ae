import { randomUUID } from 'node:crypto';
import { catalogClient, type RpcError } from '@armature/clients';
import {
  type CreateProductRequest,
  type Product,
  ProductState,
  type VariantInput,
} from '@armature/proto/catalog/v1/catalog.ts';
import { CatalogServiceContract } from '@armature/proto/catalog/v1/contract.ts';
import { credentials, Client as GrpcClient, Metadata } from '@grpc/grpc-js';
import t from 'tap';
import { connectMysql } from '../../scripts/devmesh/servers/mysql.ts';
import { developerCredentials, startService, token, workloadCertificate } from '../../test/support/service.ts';

const service = await startService(t, 'catalog');
const developer = await developerCredentials();
const staffToken = await token('bo');
const connect = (tls: Awaited<ReturnType<typeof developerCredentials>>, bearer?: string) => {
  const client = catalogClient({ addresses: [service.grpc], tls, token: () => bearer });
  t.teardown(() => client.close());
  return client;
};
const staff = connect(developer, staffToken);
const database = await connectMysql(service.database!.url);
t.teardown(() => database.end());

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
const lamps = await newCategory();
const newProduct = (over: Partial<CreateProductRequest> = {}): Promise<Product> =>
  staff.createProduct({ categoryId: lamps.categoryId, title: 'Lamp', description: '', variants: [variant()], ...over });

async function events(productId: string): Promise<[string, number][]> {
  const sql = 'select type, sequence from outbox where aggregate_id = ? order by position';
  const [rows] = (await database.query(sql, [productId])) as unknown as [{ type: string; sequence: number }[]];
  return rows.map(({ type, sequence }) => [type.replace('armature.catalog.v1.', ''), sequence]);
}

async function count(table: 'product' | 'outbox'): Promise<number> {
  const [rows] = (await database.query(`select count(*) as n from ${table}`)) as unknown as [{ n: number }[]];
  return rows[0]!.n;
}

const failureOf = (call: Promise<unknown>): Promise<RpcError> =>
  call.then(
    () => Promise.reject(new Error('the call should have failed')),
    (error) => error,
  );

t.test('GetProduct returns the product as it was created', async (t) => {
  const request = {
    categoryId: lamps.categoryId.toUpperCase(),
    title: 'Ünïcode 商品 👩‍🚀',
    description: 'First line\n\tsecond line ’n’ 𝄞',
    variants: [
      variant(unique('Z-'), [{ currencyCode: 'USD', amountMinor: 9_007_199_254_740n }, eur(0n)]),
      variant(unique('A-'), [eur(100_000_000_000_000n)]),
    ],
  };
  const product = await staff.createProduct(request);
  t.match(product, {
    title: request.title,
    description: request.description,
    version: 1n,
    categoryId: lamps.categoryId,
  });
  t.equal(product.state, ProductState.PRODUCT_STATE_ACTIVE);
  t.ok(Math.abs(product.createTime!.getTime() - Date.now()) < 60_000);
  t.strictSame(
    product.variants,
    request.variants.map(({ sku, title, prices }) => ({
      sku,
      productId: product.productId,
      title,
      prices: prices.toSorted((a, b) => (a.currencyCode < b.currencyCode ? -1 : 1)),
      orderable: true,
    })),
    'variants in the order given, prices by currency',
  );
  t.strictSame(await staff.getProduct({ productId: product.productId.toUpperCase() }), product);
  t.strictSame(await events(product.productId), [['ProductCreated', 1]]);
});

t.test('invalid requests are rejected with their reasons and have no effect', async (t) => {
  const taken = variant();
  const product = await newProduct({ variants: [taken] });
  const { productId } = product;
  const othersVariant = variant();
  const archived = await newProduct({ variants: [othersVariant] });
  await staff.archiveProduct({ productId: archived.productId });
  const create = (over: Partial<CreateProductRequest>) => newProduct({ variants: [variant()], ...over });
  const update = (updateMask: string[], over: object = {}) => staff.updateProduct({ productId, updateMask, ...over });
  const violation = (field: string) => ({ details: { fieldViolations: [{ field }] } });
  const invalid = (field: string) => ({ code: 'INVALID_ARGUMENT', reason: 'FIELDS_INVALID', ...violation(field) });
  const badMask = { code: 'INVALID_ARGUMENT', reason: 'FIELD_MASK_INVALID', ...violation('update_mask') };
  const twoPrices = variant(unique('SKU-'), [eur(1n), eur(2n)]);
  const unknownCategory = { code: 'NOT_FOUND', reason: 'CATEGORY_UNKNOWN', metadata: { category_id: absent } };
  const notFound = { code: 'NOT_FOUND', reason: 'PRODUCT_NOT_FOUND', metadata: { product_id: absent } };
  const skuExists = { code: 'ALREADY_EXISTS', reason: 'SKU_EXISTS', metadata: { skus: taken.sku } };
  const duplicate = { code: 'INVALID_ARGUMENT', reason: 'PRICE_DUPLICATE', metadata: { currency_code: 'EUR' } };
  const rows: { name: string; call: () => Promise<unknown>; refused: object }[] = [
    {
      name: 'a slug of another category',
      call: () => staff.createCategory({ slug: lamps.slug, title: 'x' }),
      refused: { code: 'ALREADY_EXISTS', reason: 'CATEGORY_EXISTS', metadata: { slug: lamps.slug } },
    },
    {
      name: 'a category title of NUL',
      call: () => staff.createCategory({ slug: 'nul', title: '\0' }),
      refused: invalid('title'),
    },
    { name: 'create: unknown category', call: () => create({ categoryId: absent }), refused: unknownCategory },
    { name: 'create: malformed category', call: () => create({ categoryId: 'x' }), refused: invalid('category_id') },
    {
      name: 'create: SKU of another product',
      call: () => create({ variants: [variant(), taken] }),
      refused: skuExists,
    },
    { name: 'create: two prices in one currency', call: () => create({ variants: [twoPrices] }), refused: duplicate },
    {
      name: 'create: a SKU twice',
      call: () => create({ variants: [variant('X'), variant('X')] }),
      refused: invalid('variants[1].sku'),
    },
    { name: 'create: no variants', call: () => create({ variants: [] }), refused: invalid('variants') },
    {
      name: 'create: no price',
      call: () => create({ variants: [variant('X', [])] }),
      refused: invalid('variants[0].prices'),
    },
    {
      name: 'create: negative price',
      call: () => create({ variants: [variant('X', [eur(-1n)])] }),
      refused: invalid('variants[0].prices[0].amount_minor'),
    },
    {
      name: 'create: title of control characters',
      call: () => create({ title: '\u0001\u0002' }),
      refused: invalid('title'),
    },
    { name: 'create: title with NUL', call: () => create({ title: 'La\0mp' }), refused: invalid('title') },
    {
      name: 'create: description with NUL',
      call: () => create({ description: '\0' }),
      refused: invalid('description'),
    },
    {
      name: 'update: unknown product',
      call: () => staff.updateProduct({ productId: absent, updateMask: ['title'], title: 'x' }),
      refused: notFound,
    },
    {
      name: 'update: archived product',
      call: () => staff.updateProduct({ productId: archived.productId, updateMask: ['title'], title: 'x' }),
      refused: { code: 'FAILED_PRECONDITION', reason: 'PRODUCT_ARCHIVED' },
    },
    {
      name: 'update: another version',
      call: () => update(['title'], { title: 'x', version: 2n }),
      refused: { code: 'ABORTED', reason: 'VERSION_CONFLICT', metadata: { version: '2', current_version: '1' } },
    },
    {
      name: 'update: unknown category',
      call: () => update(['category_id'], { categoryId: absent }),
      refused: unknownCategory,
    },
    { name: 'update: no category', call: () => update(['category_id']), refused: invalid('category_id') },
    { name: 'update: no title', call: () => update(['title']), refused: invalid('title') },
    { name: 'update: no variants', call: () => update(['variants']), refused: invalid('variants') },
    {
      name: 'update: SKU of another product',
      call: () => staff.updateProduct({ productId, updateMask: ['variants'], variants: [variant(), othersVariant] }),
      refused: { ...skuExists, metadata: { skus: othersVariant.sku } },
    },
    {
      name: 'update: two prices in one currency',
      call: () => update(['variants'], { variants: [twoPrices] }),
      refused: duplicate,
    },
    {
      name: 'update: no mask',
      call: () => staff.updateProduct({ productId, title: 'x' }),
      refused: invalid('update_mask'),
    },
    { name: 'update: empty mask', call: () => update([], { title: 'x' }), refused: invalid('update_mask') },
    { name: 'update: unknown path', call: () => update(['title', 'state'], { title: 'x' }), refused: badMask },
    { name: 'get: unknown product', call: () => staff.getProduct({ productId: absent }), refused: notFound },
    { name: 'get: malformed id', call: () => staff.getProduct({ productId: '1' }), refused: invalid('product_id') },
    { name: 'archive: unknown product', call: () => staff.archiveProduct({ productId: absent }), refused: notFound },
    { name: 'batch: nothing', call: () => staff.batchGetVariants({ skus: [] }), refused: invalid('skus') },
    { name: 'batch: a SKU twice', call: () => staff.batchGetVariants({ skus: ['A', 'A'] }), refused: invalid('skus') },
    { name: 'list: page too large', call: () => staff.listProducts({ pageSize: 201 }), refused: invalid('page_size') },
  ];
  const longSkus = Array.from({ length: 100 }, () => unique('LONG-').padEnd(64, '.')).sort();
  await newProduct({ variants: longSkus.map((sku) => variant(sku)) });
  rows.push({
    name: 'create: more taken SKUs than an error can name',
    call: () => create({ variants: longSkus.toReversed().map((sku) => variant(sku)) }),
    refused: { ...skuExists, metadata: { skus: longSkus.slice(0, 15).join(','), count: '100' } },
  });
  const [products, rowsInOutbox] = [await count('product'), await count('outbox')];
  for (const { name, call, refused } of rows) t.test(name, async (t) => t.match(await failureOf(call()), refused));
  t.test('nothing was changed', async (t) => {
    t.equal(await count('product'), products);
    t.equal(await count('outbox'), rowsInOutbox);
    t.strictSame(await staff.getProduct({ productId }), product);
  });
});

t.test('permissions are enforced', async (t) => {
  const orders = connect(await workloadCertificate('orders'));
  const customer = connect(developer, await token('ada'));
  const slug = unique('category-');
  t.match(await customer.listCategories({}), { categories: [{ slug: lamps.slug }] }, 'customers read');
  t.match(await orders.batchGetVariants({ skus: ['NONE'] }), { unknownSkus: ['NONE'] }, 'orders reads');
  for (const [name, client] of Object.entries({ customer, orders })) {
    t.match(
      await failureOf(client.createCategory({ slug, title: 'x' })),
      { code: 'PERMISSION_DENIED' },
      `${name} may not write`,
    );
  }
});

t.test('an update changes what its mask names', async (t) => {
  const other = await newCategory();
  const rest = { title: 'Other', description: 'Other', categoryId: other.categoryId, variants: [variant()] };
  for (const row of [
    { name: 'title', mask: ['title'] },
    { name: 'description', mask: ['description'] },
    { name: 'category', mask: ['category_id'] },
    { name: 'variants', mask: ['variants'] },
    { name: 'title and category', mask: ['title', 'category_id'] },
    { name: 'title, at the current version', mask: ['title'], version: 1n },
  ]) {
    t.test(row.name, async (t) => {
      const before = await newProduct();
      const { productId } = before;
      const { mask: updateMask, version = 0n } = row;
      const asked = { ...rest, variants: [variant()] };
      const after = await staff.updateProduct({ productId, updateMask, version, ...asked });
      const now = (path: string) => updateMask.includes(path);
      t.equal(after.title, now('title') ? 'Other' : 'Lamp');
      t.equal(after.description, now('description') ? 'Other' : '');
      t.equal(after.categoryId, now('category_id') ? other.categoryId : lamps.categoryId);
      t.equal(after.variants[0]?.sku, now('variants') ? asked.variants[0]?.sku : before.variants[0]?.sku);
      t.equal(after.version, 2n);
      t.strictSame(await staff.getProduct({ productId }), after);
      t.strictSame(await events(productId), [
        ['ProductCreated', 1],
        ['ProductUpdated', 2],
      ]);
    });
  }
});

t.test('an update retires variants that it leaves out, and can restore them', async (t) => {
  const [a, b, c] = [variant(unique('A-')), variant(unique('B-')), variant(unique('C-'))];
  const { productId } = await newProduct({ variants: [a, b] });
  const replace = async (...variants: VariantInput[]) => {
    const product = await staff.updateProduct({ productId, updateMask: ['variants'], variants });
    t.strictSame(await staff.getProduct({ productId }), product);
    return product.variants.map(({ sku, prices }) => [
      sku,
      ...prices.map((price) => `${price.currencyCode} ${price.amountMinor}`),
    ]);
  };
  const usd = { currencyCode: 'USD', amountMinor: 7n };
  t.strictSame(await replace(c, { ...b, prices: [usd, eur(5n)] }), [
    [c.sku, 'EUR 100'],
    [b.sku, 'EUR 5', 'USD 7'],
  ]);
  t.match(await staff.batchGetVariants({ skus: [a.sku, b.sku] }), {
    variants: [
      { sku: a.sku, orderable: false, prices: [eur(100n)] },
      { sku: b.sku, orderable: true },
    ],
  });
  t.match(await failureOf(newProduct({ variants: [a] })), { reason: 'SKU_EXISTS', metadata: { skus: a.sku } });
  t.strictSame(await replace({ ...a, prices: [usd] }), [[a.sku, 'USD 7']]);
  t.match(await staff.batchGetVariants({ skus: [a.sku, b.sku, c.sku] }), {
    variants: [
      { sku: a.sku, orderable: true },
      { sku: b.sku, orderable: false },
      { sku: c.sku, orderable: false },
    ],
  });
});

t.test('archiving again changes nothing', async (t) => {
  const { productId } = await newProduct();
  const first = await staff.archiveProduct({ productId });
  t.match(first, { state: ProductState.PRODUCT_STATE_ARCHIVED, version: 2n, variants: [{ orderable: false }] });
  t.strictSame(await staff.archiveProduct({ productId }), first);
  t.strictSame(await staff.getProduct({ productId }), first);
  t.strictSame(await events(productId), [
    ['ProductCreated', 1],
    ['ProductArchived', 2],
  ]);
});

/** Calls CreateProduct with the bytes of a request and returns those of the response. */
function createProductBytes(request: CreateProductRequest): Promise<Buffer> {
  const secure = credentials.createSsl(developer.ca, developer.key, developer.cert, {
    checkServerIdentity: () => undefined,
  });
  const client = new GrpcClient(service.grpc, secure, { 'grpc.ssl_target_name_override': 'catalog' });
  const { path, request: codec } = CatalogServiceContract.methods.createProduct;
  const metadata = new Metadata();
  metadata.set('authorization', `Bearer ${staffToken}`);
  const pass = (bytes: Buffer) => bytes;
  return new Promise<Buffer>((resolve, reject) => {
    const bytes = Buffer.from(codec.encode(request).finish());
    client.makeUnaryRequest(path, pass, pass, bytes, metadata, { deadline: Date.now() + 5_000 }, (error, reply) =>
      error || !reply ? reject(error) : resolve(reply),
    );
  }).finally(() => client.close());
}

t.test('a repeated request', async (t) => {
  const requestId = randomUUID();
  const request = { requestId, categoryId: lamps.categoryId, title: 'Lamp', description: '', variants: [variant()] };
  const first = await createProductBytes(request);
  const { productId } = CatalogServiceContract.methods.createProduct.response.decode(first);
  await staff.updateProduct({ productId, updateMask: ['title'], title: 'Renamed' });
  t.strictSame(await createProductBytes(request), first, 'gets the first response byte for byte');
  t.match(
    await failureOf(staff.createProduct({ ...request, title: 'Another' })),
    { code: 'INVALID_ARGUMENT', reason: 'REQUEST_ID_REUSED' },
    'is refused when it says something else',
  );
  t.strictSame(await events(productId), [
    ['ProductCreated', 1],
    ['ProductUpdated', 2],
  ]);
});

/** Groups calls by outcome: "made", or the reason of the refusal. */
const outcomesOf = async (calls: Promise<unknown>[]) =>
  Object.groupBy(await Promise.allSettled(calls), (outcome) =>
    outcome.status === 'fulfilled' ? 'made' : String(outcome.reason.reason || outcome.reason.code),
  );

t.test('100 concurrent requests', async (t) => {
  const patient = { timeoutMs: 10_000 };
  t.test('one SKU goes to one product', async (t) => {
    const wanted = variant();
    const before = await count('product');
    const calls = Array.from({ length: 100 }, () =>
      staff.createProduct({ categoryId: lamps.categoryId, title: 'Lamp', variants: [variant(), wanted] }, patient),
    );
    const reasons = await outcomesOf(calls);
    t.strictSame([reasons.made?.length, reasons.SKU_EXISTS?.length], [1, 99], Object.keys(reasons).join());
    t.equal(await count('product'), before + 1);
  });
  t.test('one version is updated once', async (t) => {
    const { productId, version } = await newProduct();
    const calls = Array.from({ length: 100 }, (_, index) =>
      staff.updateProduct({ productId, version, updateMask: ['title'], title: `Title ${index}` }, patient),
    );
    const reasons = await outcomesOf(calls);
    t.strictSame([reasons.made?.length, reasons.VERSION_CONFLICT?.length], [1, 99], Object.keys(reasons).join());
  });
  t.test('updates of any version all count', async (t) => {
    const { productId } = await newProduct();
    const calls = Array.from({ length: 100 }, (_, index) => {
      const change =
        index % 2
          ? { updateMask: ['title'], title: `Title ${index}` }
          : { updateMask: ['variants'], variants: [variant()] };
      return staff.updateProduct({ productId, ...change }, patient);
    });
    const versions = (await Promise.all(calls)).map(({ version }) => Number(version));
    t.strictSame(
      versions.toSorted((a, b) => a - b),
      Array.from({ length: 100 }, (_, index) => index + 2),
    );
    t.strictSame(
      (await events(productId)).map(([, sequence]) => sequence),
      Array.from({ length: 101 }, (_, index) => index + 1),
    );
  });
});
