import {
  type Category as CategoryMessage,
  type Product as ProductMessage,
  ProductState,
  type Variant as VariantMessage,
} from '@armature/proto/catalog/v1/catalog.ts';
import type { CategoryRow } from './entities.ts';
import type { Price, Product, VariantOfProduct } from './product.ts';

export function toCategory({ categoryId, slug, title, createdAt }: CategoryRow): CategoryMessage {
  return { categoryId, slug, title, createTime: createdAt };
}

export function toProduct(product: Product): ProductMessage {
  const { productId, categoryId, title, description, state, version, createdAt, updatedAt } = product;
  return {
    productId,
    categoryId,
    title,
    description,
    state: ProductState[`PRODUCT_STATE_${state}`],
    variants: product.variants.map((variant) => toVariant({ ...variant, productId, state })),
    version,
    createTime: createdAt,
    updateTime: updatedAt,
  };
}

/** A variant with its prices by currency. */
export function toVariant({ sku, productId, title, retired, state, prices }: VariantOfProduct): VariantMessage {
  const orderable = state === 'ACTIVE' && !retired;
  return { sku, productId, title, prices: prices.map(toMoney).sort(byCurrency), orderable };
}

const toMoney = ({ currencyCode, amountMinor }: Price): Price => ({ currencyCode, amountMinor });
const byCurrency = (a: Price, b: Price): number => (a.currencyCode < b.currencyCode ? -1 : 1);
