import { createHash, createHmac } from 'node:crypto';

/**
 * How the hash of a request is made. Version 1 is over the bytes as they came, under a key that is not recorded: a
 * repeat is recognised when its bytes are the same, or when the first request came in the canonical encoding.
 * Version 2 is over the canonical encoding of the decoded message: another order of fields, fields that this service
 * does not know, defaults that are written out and longer varints are the same request.
 */
export const hashVersion = 2;

/** A request's hash as a table keeps it. */
export interface StoredHash {
  readonly version: number;
  /** Names the key, without telling it; empty where there was none, and in version 1. */
  readonly keyId: string;
  readonly digest: Buffer;
}

/** 'unknown': the stored hash was made by a key or a version that is not known here. */
export type Comparison = 'same' | 'different' | 'unknown';

export interface RequestHash extends StoredHash {
  /** Whether a stored hash is of the same request, under the key and the version that it was made with. */
  compare(stored: StoredHash): Comparison;
}

export interface HashKeys {
  /** Makes HMACs of hashes, so that the table does not let anyone guess a password offline; empty: a bare hash. */
  readonly current: string;
  /** Keys that stored hashes may have been made with. */
  readonly previous: readonly string[];
}

export const noHashKeys: HashKeys = { current: '', previous: [] };

/** Hashes a request from the bytes as they came and from its canonical encoding. */
export type RequestHasher = (received: Uint8Array, canonical: Uint8Array) => RequestHash;

export function requestHasher(keys: HashKeys): RequestHasher {
  // What was stored before there was a key has a bare hash.
  const known = new Map([keys.current, ...keys.previous, ''].map((key) => [keyIdOf(key), key]));
  const keyId = keyIdOf(keys.current);
  return (received, canonical) => ({
    version: hashVersion,
    keyId,
    digest: digest(keys.current, canonical),
    compare(stored) {
      if (stored.version === 1) {
        const same = [received, canonical].some((bytes) =>
          [...known.values()].some((key) => stored.digest.equals(digest(key, bytes))),
        );
        return same ? 'same' : 'different';
      }
      const key = known.get(stored.keyId);
      if (stored.version !== hashVersion || key === undefined) return 'unknown';
      return stored.digest.equals(digest(key, canonical)) ? 'same' : 'different';
    },
  });
}

function digest(key: string, bytes: Uint8Array): Buffer {
  return (key ? createHmac('sha256', key) : createHash('sha256')).update(bytes).digest();
}

const keyIdOf = (key: string): string => (key ? digest(key, Buffer.from('key id')).toString('hex').slice(0, 16) : '');
