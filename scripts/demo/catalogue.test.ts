// The demo's catalogue is always the same, and loading it twice is loading it once.
import { createHash } from 'node:crypto';
import { catalogClient, inventoryClient } from '@armature/clients';
import t from 'tap';
import { developerCredentials, startMesh, token } from '../../test/support/service.ts';
import { catalogue, variantsOf } from './catalogue.ts';
import { loadCatalogue } from './load.ts';
import { groups } from './parallel.ts';

const categories = catalogue();
const variants = variantsOf(categories);

t.test('the catalogue', async (t) => {
  t.same(catalogue(), categories);
  const text = JSON.stringify(categories, (_, value: unknown) => (typeof value === 'bigint' ? `${value}` : value));
  t.equal(
    createHash('sha256').update(text).digest('hex').slice(0, 16),
    '04074e7ba30c7669',
    'the same on every machine',
  );
  t.equal(categories.length, 20);
  t.equal(variants.length, 1040);
  t.equal(new Set(variants.map(({ sku }) => sku)).size, variants.length, 'no SKU twice');
  t.equal(variants.filter(({ soldOut }) => soldOut).length, 20, 'one sold out in each category');
  t.ok(variants.every(({ eurMinor, usdMinor }) => usdMinor > eurMinor && eurMinor >= 600n && usdMinor < 300_000n));
});

t.test('loading', async (t) => {
  const mesh = await startMesh(t, ['catalog', 'inventory']);
  const tls = await developerCredentials();
  const shop = {
    catalog: catalogClient({ addresses: [mesh.catalog!.grpc], tls }),
    inventory: inventoryClient({ addresses: [mesh.inventory!.grpc], tls }),
    as: async (user: string) => ({ token: await token(user) }),
  };
  t.teardown(() => {
    shop.catalog.close();
    shop.inventory.close();
  });
  const staff = await shop.as('bo');
  const levels = async () => {
    const pages = groups(variants, 100).map((group) =>
      shop.inventory.batchGetStock({ skus: group.map(({ sku }) => sku) }, staff),
    );
    return (await Promise.all(pages)).flatMap((page) => page.levels);
  };

  // Two runs at once create everything once: equal request ids make what both create the same.
  await Promise.all([loadCatalogue(shop, categories), loadCatalogue(shop, categories)]);
  const before = await levels();
  t.equal(before.length, 2 * variants.length, 'every SKU at two locations');
  const wanted = new Map(variants.map(({ sku, stock, soldOut }) => [sku, soldOut ? 0n : stock.main + stock.outlet]));
  for (const { sku, onHand } of before) wanted.set(sku, wanted.get(sku)! - onHand);
  t.same(
    [...wanted].filter(([, difference]) => difference !== 0n),
    [],
  );

  t.same(await loadCatalogue(shop, categories), { categories: 0, products: 0, deliveries: 0 });
  t.same(await levels(), before, 'again changes nothing');
  const { variants: sold } = await shop.catalog.batchGetVariants({ skus: ['MUG-ALBA-1'] }, staff);
  const [mug] = variants.filter(({ sku }) => sku === 'MUG-ALBA-1');
  t.match(sold, [{ title: mug!.title, prices: [{ amountMinor: mug!.eurMinor }, { amountMinor: mug!.usdMinor }] }]);
});
