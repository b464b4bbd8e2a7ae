import { CatalogErrorReason } from '@armature/proto/catalog/v1/contract.ts';
import { RpcError, rpcError } from '@armature/runtime';

/** The runtime truncates longer metadata values. */
const valueLengthMax = 1024;

export const categoryExists = (slug: string) =>
  rpcError('ALREADY_EXISTS', CatalogErrorReason.CATEGORY_EXISTS, 'another category has this slug', { slug });

export const categoryUnknown = (categoryId: string) =>
  rpcError('NOT_FOUND', CatalogErrorReason.CATEGORY_UNKNOWN, 'no category has this id', { category_id: categoryId });

export const productNotFound = (productId: string) =>
  rpcError('NOT_FOUND', CatalogErrorReason.PRODUCT_NOT_FOUND, 'no product has this id', { product_id: productId });

export const productArchived = (productId: string) =>
  rpcError('FAILED_PRECONDITION', CatalogErrorReason.PRODUCT_ARCHIVED, 'the product is archived', {
    product_id: productId,
  });

/** `skus` lists as many SKUs as fit into one metadata value; `count` is the number of all. */
export const skuExists = (skus: readonly string[]) =>
  rpcError('ALREADY_EXISTS', CatalogErrorReason.SKU_EXISTS, 'other products have these SKUs', {
    skus: skus.reduce((list, sku) => (list.length + sku.length < valueLengthMax ? `${list},${sku}` : list)),
    count: String(skus.length),
  });

/** `field` is the path of the second price. */
export const priceDuplicate = (field: string, sku: string, currencyCode: string) =>
  new RpcError(
    'INVALID_ARGUMENT',
    CatalogErrorReason.PRICE_DUPLICATE,
    `${field} is a second price in ${currencyCode}`,
    {
      metadata: { sku, currency_code: currencyCode },
      details: {
        fieldViolations: [{ field, description: `is a second price in ${currencyCode}`, reason: 'price_duplicate' }],
      },
    },
  );

/** ABORTED tells the caller to read the product again and repeat its change. */
export const versionConflict = (asked: bigint, actual: bigint) =>
  rpcError(
    'ABORTED',
    CatalogErrorReason.VERSION_CONFLICT,
    `the product was changed since version ${asked}; its version is ${actual}`,
    {
      version: String(asked),
      current_version: String(actual),
    },
  );
