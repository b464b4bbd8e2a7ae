import { hash, timingSafeEqual } from 'node:crypto';

type Secret = string | Uint8Array;

/**
 * Compares secrets, codes, signatures and tokens: the time it takes does not depend on how much of `given` is right, or
 * on its length. Both sides are hashed first, because timingSafeEqual throws for different lengths.
 */
export function equalSecrets(given: Secret, expected: Secret): boolean {
  return timingSafeEqual(hash('sha256', given, 'buffer'), hash('sha256', expected, 'buffer'));
}
