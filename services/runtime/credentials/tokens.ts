import { hash } from 'node:crypto';
import { decodeProtectedHeader, type JWTPayload, jwtVerify, type ProtectedHeaderParameters } from 'jose';
import type { Subject } from '../context/call-context.ts';
import { type TokenScope, tokenScopeOf } from '../context/token-scope.ts';
import { credentialsInvalid, RpcError } from '../errors/errors.ts';
import type { KeySource } from './jwks.ts';
import { lruMap } from './lru.ts';

/**
 * The subject of a verified token. A token that was issued to a program for itself names that program: sub and
 * client_id are equal.
 */
export interface VerifiedToken extends Subject {
  /**
   * When the subject signed in, epoch milliseconds: the claim auth_time of a person's token (RFC 9068, section 2.2.1).
   * A program signs in for each token. Undefined where the token does not say.
   */
  readonly signedInAtMs?: number | undefined;
  /** What the token may be used for: the claim scope (RFC 9068, section 2.2.3). */
  readonly scope: TokenScope;
  /** Epoch milliseconds after which the token is refused, leeway included. */
  readonly expiresAtMs: number;
}

export interface TokenVerifier {
  /**
   * Returns without a promise for a token that it has verified before, otherwise a promise. Whatever is wrong with a
   * token, the promise is rejected with the same UNAUTHENTICATED; only its cause, for the log, differs. When the keys
   * are missing it is UNAVAILABLE: a token that may be valid is not refused for a fault of the service.
   */
  verify(token: string): VerifiedToken | Promise<VerifiedToken>;
}

export interface TokenVerifierOptions {
  issuer: string;
  /** The one audience a token must be for. */
  audience: string;
  keys: KeySource;
  leewaySeconds?: number;
  now?: () => number;
  /** The number of verified tokens that are cached. */
  cacheSize?: number;
}

const maxTokenLength = 8192;
const subjectPattern = /^[a-z0-9][a-z0-9._-]{0,63}$/;
// An allowlist, because a denylist of dangerous headers (jku, x5u, jwk, crit) would miss new ones.
const headerNames = new Set(['alg', 'typ', 'kid']);

/** Verifies RFC 9068 access tokens. */
export function tokenVerifier(options: TokenVerifierOptions): TokenVerifier {
  const { issuer, audience, keys, leewaySeconds = 5, now = Date.now, cacheSize = 10_000 } = options;
  const verified = lruMap<string, VerifiedToken>(cacheSize);
  const underWay = new Map<string, Promise<VerifiedToken>>();
  // A key that was removed from the set may have been stolen. So the tokens that it signed are forgotten, and a token
  // that is being verified at that moment is not cached.
  let keySet = 0;
  keys.onChange(() => {
    keySet++;
    verified.clear();
  });
  const checks: Checks = { issuer, audience, leewaySeconds, now, keys };

  async function verifyAnew(token: string, digest: string): Promise<VerifiedToken> {
    const startedWith = keySet;
    try {
      const fresh = await check(token, checks);
      if (keySet === startedWith) verified.set(digest, fresh);
      return fresh;
    } catch (error) {
      throw error instanceof RpcError ? error : credentialsInvalid(causeOf(error));
    } finally {
      underWay.delete(digest);
    }
  }

  return {
    verify(token) {
      if (token.length > maxTokenLength) {
        return Promise.reject(credentialsInvalid(`the token is longer than ${maxTokenLength} characters`));
      }
      const digest = hash('sha256', token, 'base64');
      const known = verified.get(digest);
      if (known) {
        if (now() < known.expiresAtMs) return known;
        verified.delete(digest);
      }
      let pending = underWay.get(digest);
      if (!pending) {
        pending = verifyAnew(token, digest);
        underWay.set(digest, pending);
      }
      return pending;
    },
  };
}

interface Checks {
  issuer: string;
  audience: string;
  leewaySeconds: number;
  now: () => number;
  keys: KeySource;
}

async function check(token: string, { issuer, audience, leewaySeconds, now, keys }: Checks): Promise<VerifiedToken> {
  const kid = checkHeader(decodeProtectedHeader(token));
  const key = await keys.find(kid);
  if (!key) throw new Error('the token names a key that the key set does not have');
  const { payload } = await jwtVerify(token, key, {
    algorithms: ['ES256'],
    typ: 'at+jwt',
    issuer,
    audience,
    clockTolerance: leewaySeconds,
    currentDate: new Date(now()),
    requiredClaims: ['iss', 'aud', 'sub', 'exp', 'iat', 'client_id'],
  });
  return checkClaims(payload, audience, leewaySeconds, now());
}

/** Refuses a header that no valid token has before any signature is verified; returns the key id. */
function checkHeader(header: ProtectedHeaderParameters): string {
  for (const name of Object.keys(header)) {
    if (!headerNames.has(name)) throw new Error('the token header says more than alg, typ and kid');
  }
  if (header.alg !== 'ES256') throw new Error('the token is not signed with ES256');
  if (header.typ !== 'at+jwt') throw new Error('the token is not an access token: typ is not at+jwt');
  if (typeof header.kid !== 'string' || header.kid === '') throw new Error('the token names no key');
  return header.kid;
}

/** Checks what jose accepts: several audiences, times in the future or not integers, malformed subjects. */
function checkClaims(payload: JWTPayload, audience: string, leewaySeconds: number, nowMs: number): VerifiedToken {
  const { aud, iat, exp, sub, client_id: client, auth_time: authTime, scope = '' } = payload;
  if (aud !== audience) throw new Error('aud is not exactly our audience');
  if (!Number.isSafeInteger(iat) || !Number.isSafeInteger(exp)) throw new Error('iat or exp is not a whole number');
  const latest = Math.floor(nowMs / 1000) + leewaySeconds;
  if (iat! > latest) throw new Error('iat is in the future');
  if (authTime !== undefined && !Number.isSafeInteger(authTime)) throw new Error('auth_time is not a whole number');
  // A sign-in in the future would stay recent for as long as it is.
  if (authTime !== undefined && (authTime as number) > latest) throw new Error('auth_time is in the future');
  if (typeof sub !== 'string' || !subjectPattern.test(sub)) throw new Error('sub is not the id of a user or client');
  if (typeof client !== 'string' || client === '') throw new Error('client_id is not the id of a client');
  if (typeof scope !== 'string') throw new Error('scope is not a text');
  const kind = sub === client ? 'client' : 'user';
  const signedInAt = kind === 'client' ? iat : (authTime as number | undefined);
  return {
    ...{ kind, subject: sub, scope: tokenScopeOf(scope), expiresAtMs: (exp! + leewaySeconds) * 1000 },
    ...(signedInAt === undefined ? {} : { signedInAtMs: signedInAt * 1000 }),
  };
}

function causeOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
