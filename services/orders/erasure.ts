import type { Database, PeriodicJob } from '@armature/runtime';
import type { DueErasure, ErasureStore } from './erasure-store.ts';

const customersMax = 20;
/**
 * Longer than the lifetime of an access token, which is an hour at most: until then a call that began before the erasure
 * may still place an order.
 */
const watchedSeconds = 2 * 3_600;
const waitMinSeconds = 1;
const waitMaxSeconds = 600;

/**
 * When to look at the orders of an erased customer again: soon at first, then less and less often, and never once
 * nothing is left and no call from before the erasure can be in progress.
 */
export function nextLookSeconds(ageSeconds: number, unerased: boolean): number | null {
  if (!unerased && ageSeconds > watchedSeconds) return null;
  return Math.min(Math.max(Math.round(ageSeconds / 10), waitMinSeconds), waitMaxSeconds);
}

/**
 * The periodic job that erases addresses from orders of erased customers. An order that is in progress needs them, so it
 * is erased after its end.
 */
export function erasureJob({ db, erasures }: { db: Database; erasures: ErasureStore }): PeriodicJob {
  return {
    name: 'orders of erased customers',
    everyMs: 1_000,
    async run(call) {
      const due = await db.read(call, (sql) => erasures.due(sql, customersMax));
      const eraseOne = async ({ customerId, ageSeconds }: DueErasure) => {
        while (await db.transaction(call, (tx) => erasures.eraseEnded(tx, customerId)));
        const unerased = await db.read(call, (sql) => erasures.hasUnerased(sql, customerId));
        const next = nextLookSeconds(ageSeconds, unerased);
        await db.transaction(call, (tx) => erasures.schedule(tx, customerId, next));
      };
      for (const one of due) await eraseOne(one);
      return due.length === customersMax ? due.length : 0;
    },
  };
}
