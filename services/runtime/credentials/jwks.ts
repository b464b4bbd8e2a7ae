import { createPublicKey, type KeyObject } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';

export const maxKeySetBytes = 256 * 1024;
const maxKeys = 64;
/** How often a key set is read again, so that a revoked key is refused within a minute. */
export const refreshMs = 20_000;
/** Shortest time between two lookups that tokens can cause: a new key may sign before its next regular reading. */
export const minLookIntervalMs = 5_000;

/** Public keys that tokens are verified with. */
export interface KeySource {
  /**
   * Returns the ES256 key of this id; null when there is none, after a new lookup at most every 5 s. Rejects with
   * UNAVAILABLE when the keys could not be read.
   */
  find(kid: string): KeyObject | null | Promise<KeyObject | null>;
  /** Calls the listener at every change: a key that was removed may have been stolen. */
  onChange(listener: () => void): void;
}

export interface KeyFile extends KeySource {
  /** Reads the file again. Rejects when it cannot be used; then the keys are unchanged. */
  refresh(): Promise<void>;
}

/**
 * Provides the public keys of a JWKS file. Throws at once when the file is missing, invalid or has no key to verify
 * with. At run time a file that cannot be read leaves the keys unchanged and fails the lookup that needed more. The
 * owner calls `refresh` every 20 s, so that removed keys are noticed.
 */
export function keyFile(file: string, now: () => number = Date.now): KeyFile {
  let text = readFileSync(file, 'utf8');
  let keys = parseKeys(text, file);
  let readAt = now();
  let reading: Promise<void> | null = null;
  const listeners: (() => void)[] = [];
  const reread = async (): Promise<void> => {
    readAt = now();
    const fresh = await readFile(file, 'utf8');
    if (fresh === text) return;
    keys = parseKeys(fresh, file);
    text = fresh;
    for (const listener of listeners) listener();
  };
  const refresh = (): Promise<void> => {
    reading ??= reread().finally(() => {
      reading = null;
    });
    return reading;
  };
  return {
    find(kid) {
      const key = keys.get(kid);
      if (key) return key;
      if (!reading && now() - readAt < minLookIntervalMs) return null;
      return refresh().then(() => keys.get(kid) ?? null);
    },
    refresh,
    onChange: (listener) => void listeners.push(listener),
  };
}

/** Returns the ES256 verification keys of a key set by their id; keys of other kinds are left out. */
export function parseKeys(text: string, file: string): Map<string, KeyObject> {
  if (Buffer.byteLength(text) > maxKeySetBytes) throw new Error(`${file} is longer than ${maxKeySetBytes} bytes`);
  const set = attempt<unknown>(`${file} is not JSON`, () => JSON.parse(text));
  const listed = isRecord(set) ? set.keys : undefined;
  if (!Array.isArray(listed)) throw new Error(`${file} is not a JSON Web Key Set: it has no array "keys"`);
  if (listed.length > maxKeys) throw new Error(`${file} holds ${listed.length} keys; at most ${maxKeys} are read`);
  const keys = new Map<string, KeyObject>();
  for (const [index, key] of listed.entries()) {
    const at = `${file}: keys[${index}]`;
    if (!isRecord(key)) throw new Error(`${at} is not an object`);
    if ('d' in key || 'k' in key) throw new Error(`${at} holds a private key; only public keys belong here`);
    if (!verifiesEs256(key)) continue;
    if (typeof key.kid !== 'string' || key.kid === '') throw new Error(`${at} has no kid`);
    if (keys.has(key.kid)) throw new Error(`${at} repeats the kid ${key.kid}`);
    keys.set(
      key.kid,
      attempt(`${at} is not a valid key`, () => createPublicKey({ key, format: 'jwk' })),
    );
  }
  if (keys.size === 0) throw new Error(`${file} has no key that verifies ES256`);
  return keys;
}

function verifiesEs256(key: Record<string, unknown>): boolean {
  return (
    key.kty === 'EC' &&
    key.crv === 'P-256' &&
    (key.alg === undefined || key.alg === 'ES256') &&
    (key.use === undefined || key.use === 'sig') &&
    (key.key_ops === undefined || (Array.isArray(key.key_ops) && key.key_ops.includes('verify')))
  );
}

/** Adds the name of the fault to an error that does not say it. */
function attempt<T>(fault: string, act: () => T): T {
  try {
    return act();
  } catch (cause) {
    throw new Error(fault, { cause });
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
