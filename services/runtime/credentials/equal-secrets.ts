import { createHash, timingSafeEqual } from 'node:crypto';

type Secret = string | Uint8Array;

/**
 * Compares secrets, codes, signatures and tokens: the time it takes does not depend on how much of `given` is right, or
 * on its length. Both sides are hashed first, because timingSafeEqual throws for different lengths.
 */
export function equalSecrets(given: Secret, expected: Secret): boolean {
  return timingSafeEqual(digest(given), digest(expected));
}

/** Not `hash` of node:crypto: the published clients run on Node 20.0 too, which lacks it. */
const digest = (secret: Secret): Buffer => createHash('sha256').update(secret).digest();
