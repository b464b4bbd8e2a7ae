import type { Tx } from '@armature/runtime';
import { hasEnded, type Order } from './order.ts';

/** At most this many orders are cached. */
const ordersMax = 10_000;

/**
 * A cache of orders that have not ended, as this process last wrote them. A saga changes its order many times. With the
 * cached order, the store updates the row on the condition that its sequence is unchanged, and reads only when that
 * fails.
 */
export interface RecentOrders {
  /** The order as this transaction wrote it, or as this process last committed it. */
  expected(tx: Tx, orderId: string): Order | undefined;
  /** Caches the order within the transaction at once, and for other transactions after the commit. */
  remember(tx: Tx, order: Order): void;
}

export function recentOrders(): RecentOrders {
  const committed = new Map<string, Order>();
  const written = new WeakMap<Tx, Order>();
  return {
    expected(tx, orderId) {
      const own = written.get(tx);
      return own?.orderId === orderId ? own : committed.get(orderId);
    },
    remember(tx, order) {
      written.set(tx, order);
      tx.afterCommit(() => {
        committed.delete(order.orderId);
        if (!hasEnded(order)) committed.set(order.orderId, order);
        const [oldest] = committed.keys();
        if (committed.size > ordersMax && oldest !== undefined) committed.delete(oldest);
      });
    },
  };
}
