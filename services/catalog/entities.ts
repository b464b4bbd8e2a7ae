import { defineEntity, type InferEntity, p } from '@mikro-orm/mysql';
import type { State } from './product.ts';

export const Category = defineEntity({
  name: 'Category',
  properties: {
    categoryId: p.string().primary(),
    slug: p.string(),
    title: p.string(),
    createdAt: p.datetime(6),
  },
});

export const Product = defineEntity({
  name: 'Product',
  properties: {
    productId: p.string().primary(),
    categoryId: p.string(),
    title: p.string(),
    description: p.text(),
    state: p.string().$type<State>(),
    /** Counts changes from 1; also the sequence of the product's events. */
    version: p.bigint(),
    createdAt: p.datetime(6),
    updatedAt: p.datetime(6),
    variants: () => p.oneToMany(Variant).mappedBy('product'),
  },
});

export const Variant = defineEntity({
  name: 'Variant',
  properties: {
    sku: p.string().primary(),
    product: () => p.manyToOne(Product).fieldName('product_id'),
    title: p.string(),
    /** Position among the variants of its product. */
    ordinal: p.integer(),
    /** Left out of its product by an update; it stays so that its SKU is never given to another product. */
    retired: p.boolean(),
    prices: () => p.oneToMany(Price).mappedBy('variant').orphanRemoval(),
  },
});

export const Price = defineEntity({
  name: 'Price',
  properties: {
    variant: () => p.manyToOne(Variant).primary().fieldName('sku'),
    currencyCode: p.string().primary(),
    amountMinor: p.bigint(),
  },
});

export type CategoryRow = InferEntity<typeof Category>;
export type ProductRow = InferEntity<typeof Product>;
export type VariantRow = InferEntity<typeof Variant>;

export const entities = [Category, Product, Variant, Price];
