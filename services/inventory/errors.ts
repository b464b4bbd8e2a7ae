import { InventoryErrorReason } from '@armature/proto/inventory/v1/contract.ts';
import { rpcError } from '@armature/runtime';
import type { ShortLine } from './reservation.ts';

export const skuUnknown = (skus: readonly string[]) =>
  rpcError('NOT_FOUND', InventoryErrorReason.SKU_UNKNOWN, 'no stock is kept of these', { skus: skus.join(',') });

export const stockInsufficient = (short: readonly ShortLine[]) =>
  rpcError('FAILED_PRECONDITION', InventoryErrorReason.STOCK_INSUFFICIENT, 'not enough stock', {
    skus: short.map((line) => line.sku).join(','),
    available: short.map((line) => String(line.available)).join(','),
  });

export const stockReserved = (sku: string, reserved: bigint) =>
  rpcError('FAILED_PRECONDITION', InventoryErrorReason.STOCK_RESERVED, 'units are held for orders', {
    sku,
    reserved: String(reserved),
  });

export const quantityOverflow = (sku: string) =>
  rpcError('OUT_OF_RANGE', InventoryErrorReason.QUANTITY_OVERFLOW, 'more units than can be counted', { sku });

export const reservationNotFound = (reservationId: string) =>
  rpcError('NOT_FOUND', InventoryErrorReason.RESERVATION_NOT_FOUND, 'no such reservation', {
    reservation_id: reservationId,
  });

export const reservationExists = (reservationId: string) =>
  rpcError('ALREADY_EXISTS', InventoryErrorReason.RESERVATION_EXISTS, 'the reservation id is taken', {
    reservation_id: reservationId,
  });

export const reservationReleased = (reservationId: string) =>
  rpcError('FAILED_PRECONDITION', InventoryErrorReason.RESERVATION_RELEASED, 'the reservation was released', {
    reservation_id: reservationId,
  });

export const reservationExpired = (reservationId: string) =>
  rpcError('FAILED_PRECONDITION', InventoryErrorReason.RESERVATION_EXPIRED, 'the reservation has expired', {
    reservation_id: reservationId,
  });
