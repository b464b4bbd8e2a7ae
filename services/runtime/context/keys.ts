/**
 * A typed name for a value that one folder attaches to a call or a transaction. Whoever holds the key can read and
 * replace the value; code without it cannot.
 */
export interface ContextKey<T> {
  readonly name: string;
  /** What `get` returns until a value is set. */
  readonly initial: T;
  readonly index: number;
}

let keys = 0;

/** Makes a key. Called once per key, when its module loads. */
export function contextKey<T>(name: string, initial: T): ContextKey<T> {
  keys += 1;
  return { name, initial, index: keys - 1 };
}

/** Holds one value per key. */
export interface Attachments {
  get<T>(key: ContextKey<T>): T;
  set<T>(key: ContextKey<T>, value: T): void;
}

/** Holds no value yet. An array by index: this runs several times per call. */
export function attachments(): Attachments {
  const values: unknown[] = [];
  return {
    get: <T>({ index, initial }: ContextKey<T>) => (index in values ? (values[index] as T) : initial),
    set({ index }, value) {
      values[index] = value;
    },
  };
}
