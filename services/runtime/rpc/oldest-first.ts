/**
 * A set with a maximum size for things that should end soon. When one more is added to a full set, the oldest makes
 * room: an honest one ends within milliseconds, so that the oldest is of a peer that sends nothing more.
 */
export class OldestFirst<T> {
  readonly #since = new Map<T, number>();
  readonly #sizeMax: number;
  readonly #graceMs: number;

  /** One that is younger than `graceMs` stays; the set may then be larger than `sizeMax` for as long. */
  constructor(sizeMax: number, graceMs = 0) {
    this.#sizeMax = sizeMax;
    this.#graceMs = graceMs;
  }

  get size(): number {
    return this.#since.size;
  }

  /** Adds one. Returns the one that it removed to make room. */
  add(one: T): T | undefined {
    this.#since.set(one, performance.now());
    if (this.#since.size <= this.#sizeMax) return undefined;
    for (const [oldest, since] of this.#since) {
      if (oldest === one || performance.now() - since < this.#graceMs) return undefined;
      this.#since.delete(oldest);
      return oldest;
    }
    return undefined;
  }

  delete(one: T): boolean {
    return this.#since.delete(one);
  }
}
