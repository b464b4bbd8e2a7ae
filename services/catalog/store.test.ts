import { CatalogServiceContract } from '@armature/proto/catalog/v1/contract.ts';
import type { MethodContract } from '@armature/proto/contract.ts';
import { type CallContext, newId } from '@armature/runtime';
import { background } from '@armature/runtime/context';
import { openDatabase } from '@armature/runtime/db';
import { noHashKeys, requestHasher, setIdempotencyKey } from '@armature/runtime/idempotency';
import { outbox } from '@armature/runtime/messaging';
import { migrate, runtimeMigrations } from '@armature/runtime/migrations';
import { createLogger, Registry } from '@armature/runtime/telemetry';
import t from 'tap';
import { createDatabase } from '../../test/support/infra.ts';
import { entities } from './entities.ts';
import { migrations } from './migrations/index.ts';
import { catalogService } from './service.ts';
import * as store from './store.ts';

const log = createLogger('catalog', 'error');
const open = background('catalog', log);
const database = await createDatabase(t, 'catalog');
await migrate(database.migratorUrl, [...runtimeMigrations, ...migrations]);
const db = await openDatabase({ url: database.url, entities, log, registry: new Registry(), participants: [outbox()] });
t.teardown(() => db.close());
const { implementation } = catalogService(db);
const { methods } = CatalogServiceContract;

/** A call as a handler gets it, after all interceptors. */
function call<M>(method: MethodContract, message: M): CallContext<M> {
  const key = {
    principal: 'user:bo',
    method: method.path,
    key: newId(),
    hash: requestHasher(noHashKeys)(Buffer.alloc(0), Buffer.alloc(0)),
  };
  const opened = { ...open(method.path, 10_000), method, message };
  if (method.idempotency) setIdempotencyKey(opened, key);
  return opened;
}

async function statementsOf(work: () => Promise<unknown>): Promise<number> {
  const before = db.statements();
  await work();
  return db.statements() - before;
}

const lamps = await db.transaction(open('setup', 10_000), (tx) =>
  store.createCategory(tx, { slug: 'lamps', title: 'Lamps' }),
);
const categoryId = lamps.categoryId;
const draft = (name: string, variants: number, prices = 3) => ({
  categoryId,
  title: name,
  description: '',
  variants: Array.from({ length: variants }, (_, index) => ({
    sku: `${name}-${index}`,
    title: `Variant ${index}`,
    prices: ['EUR', 'USD', 'CHF'].slice(0, prices).map((currencyCode) => ({ currencyCode, amountMinor: 100n })),
  })),
});
const create = (name: string, variants: number) =>
  db.transaction(open('setup', 10_000), (tx) => store.createProduct(tx, draft(name, variants)));
for (let index = 0; index < 120; index += 1) await create(`P${index}`, 1 + (index % 5));
const large = await create('LARGE', 100);

t.test('the number of statements of a read does not depend on the number of rows', async (t) => {
  const list = (pageSize: number, filter = {}) => {
    const message = { pageSize, pageToken: '', categoryId: '', includeArchived: true, ...filter };
    return implementation.listProducts(message, call(methods.listProducts, message));
  };
  const batch = (skus: string[]) => implementation.batchGetVariants({ skus }, call(methods.batchGetVariants, { skus }));
  const skus = Array.from({ length: 100 }, (_, index) => `LARGE-${index}`);
  for (const row of [
    { name: 'a page of one', work: () => list(1), statements: 3 },
    { name: 'a page of ten', work: () => list(10), statements: 3 },
    { name: 'a page of two hundred', work: () => list(200), statements: 3 },
    { name: 'a page of a category', work: () => list(50, { categoryId }), statements: 3 },
    { name: 'an empty page', work: () => list(50, { categoryId: newId() }), statements: 1 },
    { name: 'one variant', work: () => batch(['P0-0']), statements: 1 },
    { name: 'a hundred variants', work: () => batch(skus), statements: 1 },
    { name: 'invalid SKUs', work: () => batch(['lower', '商品']), statements: 0 },
    {
      name: 'a product of a hundred variants',
      work: () => db.read(null, (sql) => store.getProduct(sql, large.productId)),
      statements: 3,
    },
  ]) {
    t.equal(await statementsOf(row.work), row.statements, row.name);
  }
});

t.test('the number of statements of a write does not depend on the number of variants', async (t) => {
  const createWith = (name: string, variants: number) => {
    const message = { requestId: newId(), ...draft(name, variants) };
    return statementsOf(() => implementation.createProduct(message, call(methods.createProduct, message)));
  };
  t.equal(await createWith('ONE', 1), await createWith('HUNDRED', 100));
  const replaceAll = async (variants: number) => {
    const before = await create(`BEFORE${variants}`, variants);
    const message = { ...before, ...draft(`AFTER${variants}`, variants), requestId: newId(), updateMask: ['variants'] };
    return statementsOf(() => implementation.updateProduct(message, call(methods.updateProduct, message)));
  };
  t.equal(await replaceAll(1), await replaceAll(100));
});

t.test('reads use an index', async (t) => {
  const plans = [
    {
      name: 'variants by SKU',
      sql: `select v.sku, p.state, r.amount_minor from variant v join product p on p.product_id = v.product_id
            left join price r on r.sku = v.sku where v.sku in ('P1-0', 'P2-0')`,
      keys: ['PRIMARY', 'PRIMARY', 'PRIMARY'],
    },
    {
      name: 'a page of one state',
      sql: `select product_id from product where state = 'ACTIVE' and product_id > '0' order by product_id limit 3`,
      keys: ['product_state'],
    },
    {
      name: 'a page of one category and state',
      sql: `select product_id from product where category_id = '${categoryId}' and state = 'ACTIVE' and product_id > '0'
            order by product_id limit 3`,
      keys: ['product_category_state'],
    },
    {
      name: 'a page of one category',
      sql: `select product_id from product where category_id = '${categoryId}' and product_id > '0' order by product_id limit 3`,
      keys: ['product_category'],
    },
  ];
  for (const { name, sql, keys } of plans) {
    const plan = await db.read(null, (read) => read.query<{ key: string; Extra: string | null }>(`explain ${sql}`));
    t.strictSame(
      plan.map(({ key }) => key),
      keys,
      name,
    );
    t.notMatch(plan.map(({ Extra }) => Extra ?? '').join(), /filesort|temporary/, `${name}: nothing is sorted`);
  }
});
