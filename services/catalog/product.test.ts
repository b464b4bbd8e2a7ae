import t from 'tap';
import { changeOf, checkProduct, countThatFits, isSku, type ProductChange, type ProductDraft } from './product.ts';

const variant = (sku: string, ...currencies: string[]) => ({
  sku,
  title: sku,
  prices: currencies.map((currencyCode) => ({ currencyCode, amountMinor: 100n })),
});

const draft: ProductDraft = {
  categoryId: '01a20adf-6c5e-729f-b997-aec8907f2677',
  title: 'Lamp',
  description: 'Gives light.',
  variants: [variant('LAMP', 'EUR')],
};

t.test('changeOf', async (t) => {
  for (const row of [
    { name: 'one path', mask: ['title'], picks: { title: 'Lamp' } },
    { name: 'two paths', mask: ['title', 'description'], picks: { title: 'Lamp', description: 'Gives light.' } },
    { name: 'a repeated path', mask: ['title', 'title'], picks: { title: 'Lamp' } },
    { name: 'the category', mask: ['category_id'], picks: { categoryId: draft.categoryId } },
    { name: 'the variants', mask: ['variants'], picks: { variants: draft.variants } },
    { name: 'nothing', mask: [], refused: /update_mask must name at least one of title, description/ },
    { name: 'everything at once', mask: ['*'], refused: /names \*/ },
    { name: 'the local name of a field', mask: ['categoryId'], refused: /names categoryId/ },
    { name: 'a field that cannot be changed', mask: ['title', 'product_id'], refused: /names product_id/ },
    { name: 'a part of a field', mask: ['variants.title'], refused: /names variants\.title/ },
    { name: 'a property of every object', mask: ['constructor'], refused: /names constructor/ },
    { name: 'an empty path', mask: [''], refused: /update_mask/ },
  ]) {
    t.test(row.name, async (t) => {
      if (!row.refused) return t.strictSame(changeOf(draft, row.mask), row.picks);
      t.throws(() => changeOf(draft, row.mask), { code: 'INVALID_ARGUMENT', message: row.refused });
    });
  }
});

t.test('checkProduct', async (t) => {
  const rows: { name: string; change: ProductChange; refused?: string }[] = [
    { name: 'a product', change: draft },
    { name: 'characters of every script', change: { title: 'Ünïcode 商品 👩‍🚀 ’n’ 1' } },
    { name: 'a title of one symbol', change: { title: '★' } },
    { name: 'a title with NUL', change: { title: 'La\0mp' }, refused: 'title' },
    { name: 'a title of control characters', change: { title: '\u0001\u0002\u007f\u009f' }, refused: 'title' },
    { name: 'a title of two lines', change: { title: 'a\nb' }, refused: 'title' },
    { name: 'a title with a line separator', change: { title: 'a\u2028b' }, refused: 'title' },
    { name: 'a title of spaces', change: { title: ' \u00a0\u3000' }, refused: 'title' },
    { name: 'a title of marks that do not show', change: { title: '\u200b\u200d\ufeff' }, refused: 'title' },
    { name: 'an empty title', change: { title: '' }, refused: 'title' },
    { name: 'a description of lines and tabs', change: { description: 'a\r\n\tb' } },
    { name: 'no description', change: { description: '' } },
    { name: 'a description with NUL', change: { description: 'a\0' }, refused: 'description' },
    { name: 'a description with an escape', change: { description: '\u001b[1m' }, refused: 'description' },
    { name: 'an empty category', change: { categoryId: '' }, refused: 'category_id' },
    { name: 'no variants', change: { variants: [] }, refused: 'variants' },
    {
      name: 'a SKU twice',
      change: { variants: [variant('A'), variant('B'), variant('A')] },
      refused: 'variants[2].sku',
    },
    {
      name: 'a variant without a readable title',
      change: { variants: [variant('A'), { ...variant('B'), title: '\u0000' }] },
      refused: 'variants[1].title',
    },
    { name: 'a price in each of two currencies', change: { variants: [variant('A', 'EUR', 'USD')] } },
    {
      name: 'a price of 0',
      change: { variants: [{ ...variant('A'), prices: [{ currencyCode: 'EUR', amountMinor: 0n }] }] },
    },
    {
      name: 'a price in an unknown currency',
      change: { variants: [variant('A', 'EUR'), variant('B', 'USD', 'XXX')] },
      refused: 'variants[1].prices[1].currency_code',
    },
    {
      name: 'two prices in one currency',
      change: { variants: [variant('A', 'EUR'), variant('B', 'EUR', 'USD', 'EUR')] },
      refused: 'variants[1].prices[2]',
    },
  ];
  for (const { name, change, refused } of rows) {
    t.test(name, async (t) => {
      if (refused === undefined) return t.doesNotThrow(() => checkProduct(change));
      const details = { fieldViolations: [{ field: refused }] };
      t.throws(() => checkProduct(change), { code: 'INVALID_ARGUMENT', details });
    });
  }
  t.test('a hundred violations', async (t) => {
    const many = Array.from({ length: 100 }, (_, index) => ({ ...variant(`S${index}`), title: '\n' }));
    const fieldViolations = Array.from({ length: 20 }, (_, index) => ({ field: `variants[${index}].title` }));
    t.throws(() => checkProduct({ variants: many }), { code: 'INVALID_ARGUMENT', details: { fieldViolations } });
  });
});

t.test('valid and invalid SKUs', async (t) => {
  for (const sku of ['A', '0', 'LAMP-1.B_2', 'A'.repeat(64)]) t.ok(isSku(sku), sku);
  for (const sku of ['', 'a', 'A ', ' A', '-A', '商品', 'A\0', 'Ａ', 'A'.repeat(65)])
    t.notOk(isSku(sku), JSON.stringify(sku));
});

t.test('countThatFits', async (t) => {
  const product = (bytes: number) => ({ title: '', description: 'x'.repeat(bytes - 160), variants: [] });
  for (const row of [
    { name: 'everything', sizes: [200, 200], bytesMax: 400, fits: 2 },
    { name: 'all but the last', sizes: [200, 201], bytesMax: 400, fits: 1 },
    { name: 'one that is too large by itself', sizes: [900, 200], bytesMax: 400, fits: 1 },
    { name: 'no products', sizes: [], bytesMax: 400, fits: 0 },
  ]) {
    t.equal(countThatFits(row.sizes.map(product), row.bytesMax), row.fits, row.name);
  }
  const prices = { ...variant('A', 'EUR'), title: '商品' };
  t.equal(countThatFits([{ title: '', description: '', variants: [prices] }], 1), 1, 'variants count too');
});
