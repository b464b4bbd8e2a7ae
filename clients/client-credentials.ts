import { domain, RuntimeErrorReason } from '@armature/proto/runtime/v1/contract.ts';
import { equalSecrets } from '@armature/runtime/client';
import type { TokenOptions, TokenSource } from '@armature/runtime/client-types';
import { RpcError } from '@armature/runtime/errors';
import { backoffMs } from '@armature/runtime/time';
import { TokenRequestError, tokenRequests } from './token-request.ts';

/** How a program signs in by itself. */
export interface ClientCredentialsOptions {
  /** The issuer of tokens, such as "https://localhost:7408". */
  issuer: string;
  /** The id of the program's service account. */
  clientId: string;
  /** The account's private key: EC on P-256, PEM or JWK. */
  keyFile: string;
  /**
   * The authorities of the mesh, PEM: the server must then have identity's certificate. Left out: public authorities, and
   * the host name of the issuer.
   */
  caFile?: string | undefined;
  /** SPIFFE trust domain, "armature.local" when left out. */
  trustDomain?: string | undefined;
  /** The scope to ask for; the account's own when left out. */
  scope?: string | undefined;
}

/** A token source that signs a program in by its key. */
export interface ClientCredentials extends TokenSource {
  /** Returns the current token, or waits for one. Rejects with an RpcError, and with the signal's reason. */
  token(options?: Partial<TokenOptions>): string | Promise<string>;
  refused(token: string): void;
}

/** The part of a token's life after which it is replaced, and the part after which it is no longer sent. */
const refreshAfter = 0.7;
const endsAfter = 0.95;
const retry = { initialBackoffMs: 200, maxBackoffMs: 10_000 };
/** How long a call waits for an issuer that does not respond. Its own deadline may be earlier. */
const waitMaxMs = 1_000;
/** Tokens that servers refuse are replaced at most once in this time. */
const refusedPauseMs = 1_000;

interface HeldToken {
  token: string;
  /** Epoch milliseconds. */
  since: number;
  refreshAt: number;
  endsAt: number;
}

interface Waiter {
  since: number;
  resolve(token: string): void;
  reject(error: unknown): void;
}

/**
 * Makes a token source for a program that runs for days. It asks for a token at the first call, keeps it, and replaces
 * it in the background by the first call after 70 % of its life. All calls that wait share one request. A request that
 * fails is repeated with growing pauses of up to 10 s; a call waits for it for 1 s at most, and then fails with
 * UNAVAILABLE. A request that the issuer refuses fails with UNAUTHENTICATED. The source needs no closing, and keeps the
 * process alive only while a call waits. Throws an RpcError when an option cannot be used.
 */
export function clientCredentials(options: ClientCredentialsOptions): ClientCredentials {
  const requests = checked(options);
  const waiters = waitingCalls();
  let held: HeldToken | null = null;
  let failure: { error: TokenRequestError; count: number } | null = null;
  /** When the next request may be sent, by the monotonic clock. */
  let nextAt = 0;
  let busy = false;

  const attempt = async (): Promise<void> => {
    const since = Date.now();
    try {
      const { token, lifeMs } = await requests();
      held = { token, since, refreshAt: since + refreshAfter * lifeMs, endsAt: since + endsAfter * lifeMs };
      failure = null;
      nextAt = performance.now();
      waiters.resolve(token);
    } catch (error) {
      failure = { error: requestErrorOf(error), count: (failure?.count ?? 0) + 1 };
      nextAt = performance.now() + Math.max(failure.error.retryAfterMs, backoffMs(failure.count, retry));
      waiters.reject((waiter) => hopeless(waiter.since), rpcErrorOf(failure.error, nextAt));
    }
  };
  /** Whether a call that waits since then has nothing to wait for. */
  const hopeless = (since: number): boolean =>
    failure !== null && (failure.error.permanent || nextAt > since + waitMaxMs);
  /** Asks until there is a token or no call waits. */
  const ask = async (): Promise<void> => {
    busy = true;
    do {
      await pause(nextAt - performance.now());
      await attempt();
    } while (waiters.any());
    busy = false;
  };
  return {
    token(options = {}) {
      const now = Date.now();
      // A clock that was set back says nothing about the age of the token.
      if (held && held.since <= now && now < held.endsAt) {
        if (now >= held.refreshAt && !busy && performance.now() >= nextAt) void ask();
        return held.token;
      }
      const since = performance.now();
      if (failure && since < nextAt && hopeless(since)) return Promise.reject(rpcErrorOf(failure.error, nextAt));
      const waiting = waiters.add(since, options.signal);
      if (!busy) void ask();
      return waiting;
    },
    refused(token) {
      if (!held || !equalSecrets(held.token, token)) return;
      nextAt = performance.now() + Math.max(0, held.since + refusedPauseMs - Date.now());
      held = null;
    },
  };
}

function checked(options: ClientCredentialsOptions): ReturnType<typeof tokenRequests> {
  try {
    return tokenRequests(options);
  } catch (error) {
    throw new RpcError('INVALID_ARGUMENT', '', `no token source can be made: ${(error as Error).message}`);
  }
}

const requestErrorOf = (error: unknown): TokenRequestError =>
  error instanceof TokenRequestError ? error : new TokenRequestError('the request for a token could not be made');

/** The calls that wait for a token. They keep the process alive. */
function waitingCalls() {
  const waiters = new Set<Waiter>();
  let alive: NodeJS.Timeout | undefined;
  const leave = (waiter: Waiter) => {
    waiters.delete(waiter);
    if (waiters.size === 0) clearInterval(alive);
  };
  return {
    any: () => waiters.size > 0,
    add(since: number, signal: TokenOptions['signal'] | undefined): Promise<string> {
      return new Promise((resolve, reject) => {
        if (signal?.aborted) return reject(signal.reason);
        const abort = () => {
          leave(waiter);
          reject(signal?.reason);
        };
        const done = () => {
          leave(waiter);
          signal?.removeEventListener('abort', abort);
        };
        const waiter: Waiter = {
          since,
          resolve(token) {
            done();
            resolve(token);
          },
          reject(error) {
            done();
            reject(error);
          },
        };
        if (waiters.size === 0) alive = setInterval(() => {}, 60_000);
        waiters.add(waiter);
        signal?.addEventListener('abort', abort, { once: true });
      });
    },
    resolve(token: string): void {
      for (const waiter of [...waiters]) waiter.resolve(token);
    },
    reject(which: (waiter: Waiter) => boolean, error: RpcError): void {
      for (const waiter of [...waiters].filter(which)) waiter.reject(error);
    },
  };
}

const pause = (ms: number): Promise<void> =>
  new Promise((resolve) => {
    if (ms <= 0) resolve();
    else setTimeout(resolve, ms).unref();
  });

function rpcErrorOf({ permanent, message }: TokenRequestError, nextAt: number): RpcError {
  if (permanent) return new RpcError('UNAUTHENTICATED', RuntimeErrorReason.CREDENTIALS_INVALID, message, { domain });
  return new RpcError('UNAVAILABLE', RuntimeErrorReason.DEPENDENCY_UNAVAILABLE, message, {
    domain,
    metadata: { dependency: 'identity' },
    details: { retryDelayMs: Math.max(0, Math.ceil(nextAt - performance.now())) },
  });
}
