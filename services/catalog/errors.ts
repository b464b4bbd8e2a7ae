import { CatalogErrorReason } from '@armature/proto/catalog/v1/contract.ts';
import { RpcError, rpcError } from '@armature/runtime';

/** The runtime cuts longer metadata values off. */
const valueLengthMax = 1024;

export const categoryExists = (slug: string) =>
  rpcError('ALREADY_EXISTS', CatalogErrorReason.CATEGORY_EXISTS, 'a category has this slug', { slug });

export const categoryUnknown = (categoryId: string) =>
  rpcError('NOT_FOUND', CatalogErrorReason.CATEGORY_UNKNOWN, 'no such category', { category_id: categoryId });

export const productNotFound = (productId: string) =>
  rpcError('NOT_FOUND', CatalogErrorReason.PRODUCT_NOT_FOUND, 'no such product', { product_id: productId });

export const productArchived = (productId: string) =>
  rpcError('FAILED_PRECONDITION', CatalogErrorReason.PRODUCT_ARCHIVED, 'the product is off sale for good', {
    product_id: productId,
  });

/** Names those SKUs that fit whole into what the wire carries of one value; `count` says how many they are. */
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

/** ABORTED tells the caller to read the product again and decide anew. */
export const versionConflict = (asked: bigint, actual: bigint) =>
  rpcError('ABORTED', CatalogErrorReason.VERSION_CONFLICT, 'somebody else changed the product', {
    version: String(asked),
    current_version: String(actual),
  });
