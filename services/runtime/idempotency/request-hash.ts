import { createHash, createHmac } from 'node:crypto';
import { equalSecrets } from '../credentials/equal-secrets.ts';
import { hashKeyVersion } from '../credentials/secret-version.ts';

/**
 * The version of a request's hash. Version 1 is over the received bytes, under a key that is not recorded: a duplicate
 * is recognised when its bytes are the same, or when the first request came in the canonical encoding. Version 2 is
 * over the canonical encoding of the decoded message: another order of fields, unknown fields, explicit defaults and
 * longer varints are the same request.
 */
export const hashVersion = 2;

/** A request's hash as stored in a table. */
export interface StoredHash {
  readonly version: number;
  /** Identifies the key without revealing it; empty where there was none, and in version 1. */
  readonly keyId: string;
  readonly digest: Buffer;
}

/** 'unknown': the stored hash was made by a key or a version that is not known here. */
export type Comparison = 'same' | 'different' | 'unknown';

export interface RequestHash extends StoredHash {
  /** Compares a stored hash with the same request, under the key and version of the stored hash. */
  compare(stored: StoredHash): Comparison;
}

export interface HashKeys {
  /**
   * Keys for HMACs of hashes, so that the table does not allow an offline guess of a password. Empty: an unkeyed hash.
   */
  readonly current: string;
  /** Earlier keys, which stored hashes may have been made with. */
  readonly previous: readonly string[];
}

export const noHashKeys: HashKeys = { current: '', previous: [] };

/** Hashes a request from the received bytes and from its canonical encoding. */
export type RequestHasher = (received: Uint8Array, canonical: Uint8Array) => RequestHash;

export function requestHasher(keys: HashKeys): RequestHasher {
  // Hashes that were stored before there was a key are unkeyed.
  const known = new Map([keys.current, ...keys.previous, ''].map((key) => [keyIdOf(key), key]));
  const keyId = keyIdOf(keys.current);
  return (received, canonical) => ({
    version: hashVersion,
    keyId,
    digest: digest(keys.current, canonical),
    compare(stored) {
      if (stored.version === 1) {
        const same = [received, canonical].some((bytes) =>
          [...known.values()].some((key) => equalSecrets(stored.digest, digest(key, bytes))),
        );
        return same ? 'same' : 'different';
      }
      const key = known.get(stored.keyId);
      if (stored.version !== hashVersion || key === undefined) return 'unknown';
      return equalSecrets(stored.digest, digest(key, canonical)) ? 'same' : 'different';
    },
  });
}

function digest(key: string, bytes: Uint8Array): Buffer {
  return (key ? createHmac('sha256', key) : createHash('sha256')).update(bytes).digest();
}

const keyIdOf = (key: string): string => (key ? hashKeyVersion(key) : '');
