import { OrderErrorReason } from '@armature/proto/orders/v1/contract.ts';
import { rpcError } from '@armature/runtime';
import type { PriceChange } from './pricing.ts';

/** Lists contain as many whole items as fit: the metadata of an error is truncated after 1,024 characters. */
const listMax = 1_000;

/** How many of the items fit into one list. */
function countThatFits(items: readonly string[]): number {
  let length = -1;
  const tooFar = items.findIndex((item) => {
    length += item.length + 1;
    return length > listMax;
  });
  return tooFar < 0 ? items.length : tooFar;
}

const listed = (items: readonly string[]): string => items.slice(0, countThatFits(items)).join(',');

export const skuUnknown = (skus: readonly string[]) =>
  rpcError('NOT_FOUND', OrderErrorReason.SKU_UNKNOWN, `these SKUs are not in the catalogue: ${listed(skus)}`, {
    skus: listed(skus),
  });

export const skuNotOrderable = (skus: readonly string[]) =>
  rpcError(
    'FAILED_PRECONDITION',
    OrderErrorReason.SKU_NOT_ORDERABLE,
    `these SKUs are no longer sold: ${listed(skus)}`,
    {
      skus: listed(skus),
    },
  );

export const priceUnavailable = (skus: readonly string[], currencyCode: string) =>
  rpcError(
    'FAILED_PRECONDITION',
    OrderErrorReason.PRICE_UNAVAILABLE,
    `these SKUs have no price in ${currencyCode}: ${listed(skus)}`,
    {
      skus: listed(skus),
      currency_code: currencyCode,
    },
  );

export const totalTooLarge = (maxMinor: bigint) =>
  rpcError(
    'OUT_OF_RANGE',
    OrderErrorReason.TOTAL_TOO_LARGE,
    `the total of an order must be at most ${maxMinor} minor units`,
    {
      max_minor: String(maxMinor),
    },
  );

/** The metadata contains the current total, and the current price of every SKU whose price differs, as many as fit. */
export function priceChanged(changes: readonly PriceChange[], totalMinor: bigint, currencyCode: string) {
  const skus = changes.map(({ sku }) => sku);
  const prices = changes.map(({ unitPriceMinor }) => String(unitPriceMinor));
  const count = Math.min(countThatFits(skus), countThatFits(prices));
  return rpcError(
    'FAILED_PRECONDITION',
    OrderErrorReason.PRICE_CHANGED,
    'the current prices differ from the expected prices',
    {
      currency_code: currencyCode,
      total_minor: String(totalMinor),
      skus: skus.slice(0, count).join(','),
      unit_prices_minor: prices.slice(0, count).join(','),
    },
  );
}

export const orderNotFound = (orderId: string) =>
  rpcError('NOT_FOUND', OrderErrorReason.ORDER_NOT_FOUND, 'no such order', { order_id: orderId });

export const orderClosed = (orderId: string) =>
  rpcError('FAILED_PRECONDITION', OrderErrorReason.ORDER_CLOSED, 'the order was rejected: there is nothing to cancel', {
    order_id: orderId,
  });
