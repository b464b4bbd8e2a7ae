import { createPublicKey } from 'node:crypto';
import type { JWK } from 'jose';
import { keyInvalid } from './errors.ts';

/** Reads a program's public key: a JWK of a point on P-256, without its private part. Throws KEY_INVALID. */
export function parsePublicKey(text: string): JWK {
  let jwk: unknown;
  try {
    jwk = JSON.parse(text);
  } catch {
    throw keyInvalid('is not JSON');
  }
  if (typeof jwk !== 'object' || jwk === null) throw keyInvalid('is not a JSON object');
  const { kty, crv, x, y, d } = jwk as Record<string, unknown>;
  if (d !== undefined) throw keyInvalid('holds a private key, which must stay with its owner; make a new one');
  if (kty !== 'EC' || crv !== 'P-256') throw keyInvalid('is not an EC key on P-256');
  if (typeof x !== 'string' || typeof y !== 'string') throw keyInvalid('lacks x or y');
  try {
    createPublicKey({ key: { kty, crv, x, y }, format: 'jwk' });
  } catch {
    throw keyInvalid('is not a point on P-256');
  }
  // Nothing else of it is kept: kid, alg and use follow from what it is for.
  return { kty, crv, x, y, alg: 'ES256', use: 'sig' };
}
