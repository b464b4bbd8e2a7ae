import { amountInvariants } from './amount-invariants.ts';
import { historyInvariants } from './history-invariants.ts';
import type { Invariant } from './invariant.ts';
import { messageInvariants } from './message-invariants.ts';
import type { ShopData } from './shop-data.ts';
import { shopInvariants } from './shop-invariants.ts';

/** All invariants, ordered by id. */
export const invariants: readonly Invariant[] = [
  ...historyInvariants,
  ...shopInvariants,
  ...amountInvariants,
  ...messageInvariants,
].sort((one, other) => Number(one.id.slice(1)) - Number(other.id.slice(1)));

export interface Verdict {
  invariant: Invariant;
  /** What breaks the invariant; empty if it holds. */
  found: readonly unknown[];
}

/** Checks one invariant after another, all by default. Throws if a check cannot run. */
export async function verify(shopData: ShopData, checked: readonly Invariant[] = invariants): Promise<Verdict[]> {
  const verdicts: Verdict[] = [];
  for (const invariant of checked) verdicts.push({ invariant, found: await invariant.find(shopData) });
  return verdicts;
}

/** One sentence for each broken invariant, with the first rows that break it. */
export function broken(verdicts: readonly Verdict[]): string[] {
  return verdicts
    .filter(({ found }) => found.length > 0)
    .map(({ invariant: { id, name }, found }) => {
      const shown = JSON.stringify(found.slice(0, 5), (_, value: unknown) =>
        typeof value === 'bigint' ? String(value) : value,
      );
      return `${id} ${name}: ${found.length} (${shown})`;
    });
}
