import { InventoryServiceContract } from '@armature/proto/inventory/v1/contract.ts';
import {
  type Reservation as ReservationMessage,
  ReservationState,
  type StockLevel,
} from '@armature/proto/inventory/v1/inventory.ts';
import { type Database, implement, runIdempotent } from '@armature/runtime';
import { skuUnknown } from './errors.ts';
import { type Level, mergeLines, type Reservation } from './reservation.ts';
import type { InventoryStore } from './store.ts';

export const inventoryService = (db: Database, store: InventoryStore) =>
  implement(InventoryServiceContract, {
    async receiveStock(message, call) {
      const lines = mergeLines(message.lines);
      return runIdempotent(db, call, async (tx) => {
        const levels = await store.receive(tx, message.locationId, lines);
        return { levels: levels.map(toStockLevel) };
      });
    },

    async adjustStock(message, call) {
      return runIdempotent(db, call, async (tx) => toStockLevel(await store.adjust(tx, message)));
    },

    async batchGetStock({ skus }, call) {
      const levels = await db.read(call, (sql) => store.levels(sql, skus));
      return { levels: levels.map(toStockLevel), unknownSkus: unknownOf(skus, levels) };
    },

    async reserveStock({ reservationId, orderId, lines }, call) {
      const merged = mergeLines(lines);
      return runIdempotent(db, call, async (tx) =>
        toReservation(await store.reserve(tx, { reservationId, orderId, lines: merged })),
      );
    },

    async getReservation({ reservationId }, call) {
      return db.read(call, async (sql) => toReservation(await store.reservation(sql, reservationId)));
    },

    async commitReservation({ reservationId }, call) {
      return runIdempotent(db, call, async (tx) => toReservation(await store.commit(tx, reservationId)));
    },

    async releaseReservation({ reservationId, orderId }, call) {
      return runIdempotent(db, call, async (tx) => toReservation(await store.release(tx, reservationId, orderId)));
    },

    async *watchStock({ skus }, call) {
      const sent = new Map<string, bigint>();
      for await (const _ of store.changes(skus, call.signal)) {
        const levels = await db.read(call, (sql) => store.levels(sql, skus));
        const unknown = unknownOf(skus, levels);
        if (unknown.length > 0) throw skuUnknown(unknown);
        for (const level of levels) {
          const key = `${level.sku} ${level.locationId}`;
          if ((sent.get(key) ?? 0n) >= level.version) continue;
          sent.set(key, level.version);
          yield toStockLevel(level);
        }
      }
    },
  });

function unknownOf(skus: readonly string[], levels: readonly Level[]): string[] {
  const known = new Set(levels.map((level) => level.sku));
  return skus.filter((sku) => !known.has(sku));
}

function toStockLevel({ sku, locationId, onHand, reserved, version }: Level): StockLevel {
  return { sku, locationId, onHand, reserved, available: onHand - reserved, version };
}

function toReservation(reservation: Reservation): ReservationMessage {
  return {
    reservationId: reservation.reservationId,
    orderId: reservation.orderId,
    state: ReservationState[`RESERVATION_STATE_${reservation.state}`],
    allocations: reservation.allocations,
    expireTime: reservation.expiresAt,
    createTime: reservation.createdAt,
    updateTime: reservation.updatedAt,
    version: reservation.version,
  };
}
