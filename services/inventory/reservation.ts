/** The states of a reservation. Only a HELD reservation counts in the `reserved` units of a level. */
export type State = 'HELD' | 'COMMITTED' | 'RELEASED' | 'EXPIRED' | 'RETURNED';

export interface Line {
  sku: string;
  quantity: bigint;
}

export interface ShortLine extends Line {
  available: bigint;
}

/** Units of one SKU taken at one location. */
export interface Allocation extends Line {
  locationId: string;
}

export interface Reservation {
  reservationId: string;
  orderId: string;
  state: State;
  allocations: Allocation[];
  expiresAt: Date;
  createdAt: Date;
  updatedAt: Date;
  version: bigint;
}

export interface Level {
  sku: string;
  locationId: string;
  onHand: bigint;
  reserved: bigint;
  version: bigint;
}

/** What a transition does to the stock, per unit of the reservation. */
export interface StockEffect {
  onHand: -1n | 0n | 1n;
  reserved: -1n | 0n;
  /** The kind of the movement in the journal; null when no units leave or enter the stock. */
  movement: 'SHIP' | 'RETURN' | null;
}

/** Adds up lines of the same SKU, so that a limit applies to their sum. The result is sorted by SKU. */
export function mergeLines(lines: readonly Line[]): Line[] {
  const sums = new Map<string, bigint>();
  for (const { sku, quantity } of lines) sums.set(sku, (sums.get(sku) ?? 0n) + quantity);
  return [...sums].map(([sku, quantity]) => ({ sku, quantity })).sort((a, b) => (a.sku < b.sku ? -1 : 1));
}

/**
 * Takes each line from the locations in their order and splits it where one location has too few units.
 * `levels` are sorted by SKU and location. The caller uses the allocations only when `short` and `unknown` are empty.
 */
export function allocate(
  lines: readonly Line[],
  levels: readonly Level[],
): { allocations: Allocation[]; short: ShortLine[]; unknown: string[] } {
  const allocations: Allocation[] = [];
  const short: ShortLine[] = [];
  const unknown: string[] = [];
  for (const { sku, quantity } of lines) {
    const at = levels.filter((level) => level.sku === sku);
    if (at.length === 0) unknown.push(sku);
    let missing = quantity;
    for (const level of at) {
      const free = level.onHand - level.reserved;
      const take = free < missing ? free : missing;
      if (take > 0n) allocations.push({ sku, locationId: level.locationId, quantity: take });
      missing -= take;
    }
    if (missing > 0n && at.length > 0) short.push({ sku, quantity, available: quantity - missing });
  }
  return { allocations, short, unknown };
}

export type Act = 'commit' | 'release' | 'expire';
export type Transition =
  | { kind: 'change'; to: State; effect: StockEffect }
  /** Already applied: nothing changes, and the response is the reservation as it is. */
  | { kind: 'same' }
  | { kind: 'refuse'; because: 'released' | 'expired' };

const unreserve: StockEffect = { onHand: 0n, reserved: -1n, movement: null };
const same: Transition = { kind: 'same' };
const change = (to: State, effect: StockEffect): Transition => ({ kind: 'change', to, effect });
const refuse = (because: 'released' | 'expired'): Transition => ({ kind: 'refuse', because });

/** The state machine of a reservation: what each act does in each state. */
const transitions: Record<Act, Record<State, Transition>> = {
  commit: {
    HELD: change('COMMITTED', { onHand: -1n, reserved: -1n, movement: 'SHIP' }),
    COMMITTED: same,
    RELEASED: refuse('released'),
    EXPIRED: refuse('expired'),
    RETURNED: refuse('released'),
  },
  release: {
    HELD: change('RELEASED', unreserve),
    COMMITTED: change('RETURNED', { onHand: 1n, reserved: 0n, movement: 'RETURN' }),
    RELEASED: same,
    EXPIRED: same,
    RETURNED: same,
  },
  expire: { HELD: change('EXPIRED', unreserve), COMMITTED: same, RELEASED: same, EXPIRED: same, RETURNED: same },
};

export const transition = (act: Act, state: State): Transition => transitions[act][state];
