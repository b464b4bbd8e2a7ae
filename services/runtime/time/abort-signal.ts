/** The part of an AbortSignal that clients use. */
interface MinimalAbortSignal {
  readonly aborted: boolean;
  readonly reason: unknown;
  addEventListener(type: 'abort', listener: () => void, options?: { once?: boolean }): void;
  removeEventListener(type: 'abort', listener: () => void): void;
}

/**
 * AbortSignal, for declarations that consumers of the published clients compile: a project that has neither the DOM
 * library nor @types/node has no type of that name, and gets its minimal form.
 */
export type CompatibleAbortSignal = typeof globalThis extends { AbortSignal: { prototype: infer Signal } }
  ? Signal
  : MinimalAbortSignal;
