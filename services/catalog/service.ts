import { CatalogServiceContract } from '@armature/proto/catalog/v1/contract.ts';
import { closePage, type Database, implement, openPage, runIdempotent } from '@armature/runtime';
import { fieldsInvalid } from '@armature/runtime/errors';
import { toCategory, toProduct, toVariant } from './messages.ts';
import { changeOf, checkProduct, titleViolations } from './product.ts';
import * as store from './store.ts';

const pageSize = 50;
/** A page that would be larger has fewer products than requested. */
const pageBytesMax = 1024 * 1024;

export const catalogService = (db: Database) =>
  implement(CatalogServiceContract, {
    async createCategory(message, call) {
      const violations = titleViolations(message.title, 'title');
      if (violations.length > 0) throw fieldsInvalid(violations);
      return runIdempotent(db, call, async (tx) => toCategory(await store.createCategory(tx, message)));
    },

    async listCategories(message, call) {
      const page = openPage<readonly [string]>(message, pageSize, ['categories']);
      const rows = await db.read(call, (sql) => store.listCategories(sql, page));
      const { items, nextPageToken } = closePage(rows, page, ({ slug }) => [slug] as const);
      return { categories: items.map(toCategory), nextPageToken };
    },

    async createProduct(message, call) {
      checkProduct(message);
      return runIdempotent(db, call, async (tx) => toProduct(await store.createProduct(tx, message)));
    },

    async updateProduct(message, call) {
      const { productId, updateMask, version } = message;
      const change = changeOf(message, updateMask ?? []);
      checkProduct(change);
      return runIdempotent(db, call, async (tx) =>
        toProduct(await store.updateProduct(tx, productId, change, version)),
      );
    },

    async getProduct({ productId }, call) {
      return toProduct(await db.read(call, (sql) => store.getProduct(sql, productId)));
    },

    async batchGetVariants({ skus }, call) {
      const found = await db.read(call, (sql) => store.variantsBySku(sql, skus));
      const variants = skus.flatMap((sku) => found.get(sku) ?? []);
      return { variants: variants.map(toVariant), unknownSkus: skus.filter((sku) => !found.has(sku)) };
    },

    async listProducts(message, call) {
      const { categoryId, includeArchived } = message;
      const page = openPage<readonly [string]>(message, pageSize, ['products', categoryId, includeArchived]);
      const { products, more } = await db.read(call, (sql) => store.listProducts(sql, message, page, pageBytesMax));
      const last = products.at(-1);
      return {
        products: products.map(toProduct),
        nextPageToken: more && last ? page.tokenAfter([last.productId]) : '',
      };
    },

    async archiveProduct({ productId }, call) {
      return runIdempotent(db, call, async (tx) => toProduct(await store.archiveProduct(tx, productId)));
    },
  });
