import { InventoryErrorReason } from '@armature/proto/inventory/v1/contract.ts';
import { rpcError } from '@armature/runtime';
import type { ShortLine } from './reservation.ts';

export const skuUnknown = (skus: readonly string[]) =>
  rpcError('NOT_FOUND', InventoryErrorReason.SKU_UNKNOWN, 'these SKUs have no stock record; receive stock first', {
    skus: skus.join(','),
  });

export const stockInsufficient = (short: readonly ShortLine[]) =>
  rpcError(
    'FAILED_PRECONDITION',
    InventoryErrorReason.STOCK_INSUFFICIENT,
    'fewer units are available than the order asks for',
    {
      skus: short.map((line) => line.sku).join(','),
      available: short.map((line) => String(line.available)).join(','),
    },
  );

export const stockReserved = (sku: string, reserved: bigint) =>
  rpcError(
    'FAILED_PRECONDITION',
    InventoryErrorReason.STOCK_RESERVED,
    `on-hand stock must not fall below the ${reserved} units reserved for orders`,
    {
      sku,
      reserved: String(reserved),
    },
  );

export const quantityOverflow = (sku: string) =>
  rpcError(
    'OUT_OF_RANGE',
    InventoryErrorReason.QUANTITY_OVERFLOW,
    'one SKU has at most 1,000,000,000,000 units at one location',
    { sku },
  );

export const reservationNotFound = (reservationId: string) =>
  rpcError('NOT_FOUND', InventoryErrorReason.RESERVATION_NOT_FOUND, 'no reservation has this id', {
    reservation_id: reservationId,
  });

export const reservationExists = (reservationId: string) =>
  rpcError('ALREADY_EXISTS', InventoryErrorReason.RESERVATION_EXISTS, 'another reservation has this id', {
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
