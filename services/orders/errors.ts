import { OrderErrorReason } from '@armature/proto/orders/v1/contract.ts';
import { rpcError } from '@armature/runtime';

export const skuUnknown = (skus: readonly string[]) =>
  rpcError('NOT_FOUND', OrderErrorReason.SKU_UNKNOWN, 'the catalogue does not have these', { skus: skus.join(',') });

export const skuNotOrderable = (skus: readonly string[]) =>
  rpcError('FAILED_PRECONDITION', OrderErrorReason.SKU_NOT_ORDERABLE, 'these are no longer sold', {
    skus: skus.join(','),
  });

export const priceUnavailable = (skus: readonly string[], currencyCode: string) =>
  rpcError('FAILED_PRECONDITION', OrderErrorReason.PRICE_UNAVAILABLE, `these have no price in ${currencyCode}`, {
    skus: skus.join(','),
    currency_code: currencyCode,
  });

export const totalTooLarge = (maxMinor: bigint) =>
  rpcError('OUT_OF_RANGE', OrderErrorReason.TOTAL_TOO_LARGE, 'the order is worth too much', {
    max_minor: String(maxMinor),
  });

export const orderNotFound = (orderId: string) =>
  rpcError('NOT_FOUND', OrderErrorReason.ORDER_NOT_FOUND, 'no such order', { order_id: orderId });

export const orderClosed = (orderId: string) =>
  rpcError('FAILED_PRECONDITION', OrderErrorReason.ORDER_CLOSED, 'the order was rejected: there is nothing to cancel', {
    order_id: orderId,
  });
