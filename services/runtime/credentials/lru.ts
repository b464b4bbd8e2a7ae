/** A map that never contains more than `limit` entries, and always the most recently used half of that. */
export interface LruMap<K, V> {
  readonly size: number;
  get(key: K): V | undefined;
  set(key: K, value: V): void;
  delete(key: K): void;
  clear(): void;
}

/**
 * Keeps two generations instead of an exact order: an entry that is used moves to the young one. When that has half of
 * the limit, the old one is dropped. An exact order would cost two writes at every read.
 */
export function lruMap<K, V>(limit: number): LruMap<K, V> {
  if (!Number.isSafeInteger(limit) || limit < 2) throw new RangeError(`limit must be at least 2, not ${limit}`);
  const half = Math.floor(limit / 2);
  let young = new Map<K, V>();
  let old = new Map<K, V>();
  const set = (key: K, value: V): void => {
    old.delete(key);
    young.set(key, value);
    if (young.size < half) return;
    old = young;
    young = new Map();
  };
  return {
    get size() {
      return young.size + old.size;
    },
    get(key) {
      const value = young.get(key);
      if (value !== undefined) return value;
      const older = old.get(key);
      if (older !== undefined) set(key, older);
      return older;
    },
    set,
    delete(key) {
      young.delete(key);
      old.delete(key);
    },
    clear() {
      young = new Map();
      old = new Map();
    },
  };
}
