/**
 * A typed name for a value that one folder attaches to a call or a transaction. Code that has the key can read and
 * replace the value; other code cannot.
 */
export interface ContextKey<T> {
  readonly name: string;
  /** The value that `get` returns until one is set. */
  readonly initial: T;
  readonly index: number;
}

let keys = 0;

/** Makes a key. Called once per key, when its module loads. */
export function contextKey<T>(name: string, initial: T): ContextKey<T> {
  keys += 1;
  return { name, initial, index: keys - 1 };
}

/** Stores one value per key. */
export interface Attachments {
  get<T>(key: ContextKey<T>): T;
  set<T>(key: ContextKey<T>, value: T): void;
}

/** Makes an empty store. It is an array by index, because this runs several times per call. */
export function attachments(): Attachments {
  const values: unknown[] = [];
  return {
    get: <T>({ index, initial }: ContextKey<T>) => (index in values ? (values[index] as T) : initial),
    set({ index }, value) {
      values[index] = value;
    },
  };
}
