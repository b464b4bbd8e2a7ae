import { watchers } from '@armature/runtime';
import { reservationStore } from './reservation-store.ts';
import { stockStore } from './stock-store.ts';

const watchPollMs = 1_000;

export type InventoryStore = ReturnType<typeof inventoryStore>;

export function inventoryStore({ reservationTtlMs }: { reservationTtlMs: number }) {
  const watching = watchers(watchPollMs);
  return {
    ...stockStore(watching),
    ...reservationStore(watching, reservationTtlMs),
    /** Yields at once, then whenever one of the SKUs may have changed. */
    changes: watching.changes,
  };
}
