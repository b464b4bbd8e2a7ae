/**
 * Limits how many sagas, and how many calls to one dependency, a worker has in progress at once. Urgent sagas (those
 * that compensate, that must complete, or that are past their pivot) and new ones each get at most a share of a pool,
 * so that neither delays the other, however many there are.
 */

/** One place in a pool, until it is released. */
export interface Place {
  /** Whether the saga of this place is urgent, which may change: places of new sagas are counted separately. */
  urgent: boolean;
  release(): void;
}

export interface Pool {
  /** How many more places may be taken now. */
  room(urgent: boolean): number;
  /** Takes a place, or returns null when there is no room. */
  take(urgent: boolean): Place | null;
  /** Takes a place even when there is no room. */
  force(urgent: boolean): Place;
  /** Whether a place will be free soon, judged by how long the last one was taken. */
  readonly worthWaiting: boolean;
  /** Waits for a place, urgent ones first; null after `waitMs`. */
  wait(urgent: boolean, waitMs: number): Promise<Place | null>;
  /** Has `onRoom` called once a quarter of the places for such sagas is free. */
  want(urgent: boolean): void;
}

interface Waiter {
  readonly urgent: boolean;
  give(place: Place | null): void;
}

/**
 * A pool of `limit` places. New sagas get at most `newShare` (0 to 1) of them, and at least one; urgent ones leave a
 * quarter to new ones, and at least one place where there are several.
 */
export function createPool(
  { limit, newShare, waitMaxMs }: { limit: number; newShare: number; waitMaxMs: number },
  onRoom: () => void,
): Pool {
  const newMax = Math.max(1, Math.floor(limit * newShare));
  const urgentMax = Math.max(1, limit - Math.max(1, Math.floor(limit / 4)));
  const maxOf = (urgent: boolean) => (urgent ? urgentMax : newMax);
  const wanted = new Set<boolean>();
  const taken = new Set<Place>();
  const waiters: Waiter[] = [];
  let lastTakenMs = 0;

  const room = (urgent: boolean) => {
    const alike = [...taken].filter((place) => place.urgent === urgent).length;
    return Math.max(0, Math.min(limit - taken.size, maxOf(urgent) - alike));
  };
  const force = (urgent: boolean): Place => {
    const since = performance.now();
    const place: Place = {
      urgent,
      release() {
        if (!taken.delete(place)) return;
        lastTakenMs = performance.now() - since;
        serve();
        if (![...wanted].some((one) => room(one) >= Math.ceil(maxOf(one) / 4))) return;
        wanted.clear();
        onRoom();
      },
    };
    taken.add(place);
    return place;
  };
  const take = (urgent: boolean) => (room(urgent) > 0 ? force(urgent) : null);
  const serve = () => {
    for (const urgent of [true, false]) {
      while (room(urgent) > 0) {
        const next = waiters.findIndex((waiter) => waiter.urgent === urgent);
        if (next < 0) break;
        waiters.splice(next, 1)[0]!.give(force(urgent));
      }
    }
  };
  return {
    room,
    take,
    force,
    get worthWaiting() {
      return lastTakenMs <= waitMaxMs && waiters.length < limit;
    },
    wait(urgent, waitMs) {
      return new Promise((resolve) => {
        const waiter: Waiter = {
          urgent,
          give(place) {
            clearTimeout(timer);
            resolve(place);
          },
        };
        const timer = setTimeout(() => {
          waiters.splice(waiters.indexOf(waiter), 1);
          resolve(null);
        }, waitMs);
        waiters.push(waiter);
      });
    },
    want(urgent) {
      wanted.add(urgent);
    },
  };
}

export interface SlotLimits {
  /** Most sagas in progress at once. */
  readonly sagasMax: number;
  /** Most calls in progress to one dependency, for all or each by its name. */
  readonly dependencyMax: number | Readonly<Record<string, number>>;
  /** The part of all slots, and of each dependency's, that new sagas may take. */
  readonly newShare: number;
}

export interface Slots {
  readonly sagas: Pool;
  /** Null: calls that are not limited. */
  dependency(name: string): Pool | null;
}

export const defaultDependencyMax = 24;
/** How long a saga keeps its lease while it waits for a slot; longer waits are in the database. */
export const slotWaitMs = 1_000;

/** Makes the pools of one worker. `onRoom` is called when there is room again for sagas that had to wait. */
export function createSlots({ sagasMax, dependencyMax, newShare }: SlotLimits, onRoom: () => void): Slots {
  const pools = new Map<string, Pool>();
  const poolOf = (limit: number) => createPool({ limit, newShare, waitMaxMs: slotWaitMs }, onRoom);
  const limitOf = (name: string) =>
    typeof dependencyMax === 'number' ? dependencyMax : (dependencyMax[name] ?? defaultDependencyMax);
  return {
    sagas: poolOf(sagasMax),
    dependency(name) {
      if (name === '') return null;
      const pool = pools.get(name) ?? poolOf(limitOf(name));
      pools.set(name, pool);
      return pool;
    },
  };
}
