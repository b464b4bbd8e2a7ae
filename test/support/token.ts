import { randomUUID } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { calculateJwkThumbprint, exportJWK, generateKeyPair, importJWK, type JWK, SignJWT } from 'jose';
import { type State, writeAtomically } from '../../scripts/devmesh/state.ts';

export const tokenIssuer = 'https://identity.armature.local';
export const tokenAudience = 'armature';

/** Content of a token; every part can be set wrong on purpose, for tests of refusal. */
export interface TokenRequest {
  subject: string;
  expiresInSeconds?: number;
  issuer?: string;
  audience?: string | string[];
  type?: string;
  clientId?: string;
  tokenId?: string;
  issuedAt?: Date;
  /** When the subject signed in; not given: when the token is issued. */
  signedInAt?: Date;
  notBefore?: Date;
  algorithm?: string;
  keyId?: string;
  /** A private JWK to sign with instead of the tests' own key. */
  key?: JWK;
  /** Additional claims; undefined removes a claim. */
  claims?: Record<string, unknown>;
}

export function tokenFiles(state: { dir: string }): { jwks: string; key: string } {
  return { jwks: join(state.dir, 'tokens', 'jwks.json'), key: join(state.dir, 'tokens', 'key.json') };
}

/** Creates the tests' signing key and its public key set if they are missing. */
export async function ensureTokenKey(state: State): Promise<boolean> {
  const files = tokenFiles(state);
  if (existsSync(files.key) && existsSync(files.jwks)) return false;
  const { privateKey, publicKey } = await generateKeyPair('ES256', { extractable: true });
  const published = await exportJWK(publicKey);
  const kid = await calculateJwkThumbprint(published);
  writeAtomically(files.key, JSON.stringify({ ...(await exportJWK(privateKey)), kid, alg: 'ES256' }, null, 2), 0o600);
  writeAtomically(files.jwks, JSON.stringify({ keys: [{ ...published, kid, alg: 'ES256', use: 'sig' }] }, null, 2));
  return true;
}

/** Signs an access token (RFC 9068) with the tests' key of a state folder. */
export async function mintToken(stateDir: string, request: TokenRequest): Promise<string> {
  const jwk = request.key ?? (JSON.parse(readFileSync(tokenFiles({ dir: stateDir }).key, 'utf8')) as JWK);
  const algorithm = request.algorithm ?? jwk.alg ?? 'ES256';
  const issuedAt = Math.floor((request.issuedAt?.getTime() ?? Date.now()) / 1000);
  const claims: Record<string, unknown> = {
    iss: request.issuer ?? tokenIssuer,
    aud: request.audience ?? tokenAudience,
    sub: request.subject,
    iat: issuedAt,
    auth_time: request.signedInAt ? Math.floor(request.signedInAt.getTime() / 1000) : issuedAt,
    exp: issuedAt + (request.expiresInSeconds ?? 3600),
    jti: request.tokenId ?? randomUUID(),
    client_id: request.clientId ?? 'armature-tests',
    scope: 'all',
    ...(request.notBefore ? { nbf: Math.floor(request.notBefore.getTime() / 1000) } : {}),
    ...request.claims,
  };
  const kept = Object.fromEntries(Object.entries(claims).filter(([, value]) => value !== undefined));
  return new SignJWT(kept)
    .setProtectedHeader({ alg: algorithm, typ: request.type ?? 'at+jwt', kid: request.keyId ?? jwk.kid })
    .sign(await importJWK(jwk, algorithm));
}
