// One request for an access token: client credentials (RFC 6749, 4.4) with a private key JWT (RFC 7523, OpenID Connect
// Core 9). Errors never quote a response, a token, an assertion or the key.
import { createPrivateKey, type KeyObject, randomUUID, sign } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { type RequestOptions, request } from 'node:https';
import { checkServerIdentity } from 'node:tls';
import { workloadOf } from '@armature/runtime/client';

/** An access token, and how long it is valid from the request on. */
export interface IssuedToken {
  token: string;
  lifeMs: number;
}

export interface TokenRequests {
  issuer: string;
  clientId: string;
  keyFile: string;
  caFile?: string | undefined;
  trustDomain?: string | undefined;
  scope?: string | undefined;
}

/** Why there is no token. `permanent`: the same request would be refused again. */
export class TokenRequestError extends Error {
  override readonly name = 'TokenRequestError';
  readonly permanent: boolean;
  readonly retryAfterMs: number;

  constructor(message: string, how: { permanent?: boolean; retryAfterMs?: number } = {}) {
    super(message);
    this.permanent = how.permanent ?? false;
    this.retryAfterMs = how.retryAfterMs ?? 0;
  }
}

const timeoutMs = 5_000;
const responseMax = 64 * 1024;
const assertionLifeS = 60;
const retryAfterMaxMs = 60_000;

/** RFC 6750, 2.1. */
const tokenPattern = /^[A-Za-z0-9._~+/-]{1,8191}=*$/;

/**
 * Returns the function that asks for a token. It throws a TokenRequestError. The files are read again for each request,
 * and their last usable content stays in use, so that they can be replaced while the program runs. Throws an Error that
 * names the option when one cannot be used.
 */
export function tokenRequests(options: TokenRequests): () => Promise<IssuedToken> {
  const issuer = readIssuer(options.issuer);
  if (typeof options.clientId !== 'string' || options.clientId === '') throw new Error('clientId is empty');
  const key = latest('keyFile', options.keyFile, readKey);
  const ca = options.caFile === undefined ? () => undefined : latest('caFile', options.caFile, (text) => text);
  let endpoint: URL | null = null;
  return async () => {
    const server = { ca: ca(), trustDomain: options.trustDomain ?? 'armature.local' };
    endpoint ??= await discover(issuer, server);
    const form = new URLSearchParams({
      grant_type: 'client_credentials',
      client_id: options.clientId,
      client_assertion_type: 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer',
      client_assertion: assertion(options.clientId, issuer, key()),
      ...(options.scope === undefined ? {} : { scope: options.scope }),
    });
    const { status, body, retryAfterMs } = await exchange(endpoint, server, form.toString());
    if (status === 200) return readToken(body, endpoint);
    // The endpoint may have moved.
    endpoint = null;
    throw refusal(issuer, status, body, retryAfterMs);
  };
}

function readIssuer(text: unknown): string {
  try {
    const { protocol, search, hash } = new URL(String(text));
    if (protocol === 'https:' && search === '' && hash === '') return String(text);
  } catch {
    // Not a URL: the same error.
  }
  throw new Error(`issuer ${JSON.stringify(text)} is not an https URL`);
}

/** Reads a file at each call. Where that fails later, the last usable content is returned. */
function latest<T>(option: string, path: string, parse: (text: string) => T): () => T {
  const read = (): T => {
    let text: string;
    try {
      text = readFileSync(path, 'utf8');
    } catch (error) {
      throw new Error(`${option} ${path} cannot be read (${(error as NodeJS.ErrnoException).code ?? 'not a path'})`);
    }
    try {
      return parse(text);
    } catch {
      // The error of the parser may quote the key.
      throw new Error(`${option} ${path} is not a private key on P-256, in PEM or as a JWK`);
    }
  };
  let content = read();
  return () => {
    try {
      content = read();
    } catch {
      // Being replaced just now.
    }
    return content;
  };
}

interface SigningKey {
  key: KeyObject;
  kid: string | undefined;
}

function readKey(text: string): SigningKey {
  const jwk = text.trimStart().startsWith('{') ? JSON.parse(text) : undefined;
  const key = jwk ? createPrivateKey({ key: jwk, format: 'jwk' }) : createPrivateKey(text);
  if (key.asymmetricKeyDetails?.namedCurve !== 'prime256v1') throw new Error('another kind of key');
  return { key, kid: typeof jwk?.kid === 'string' ? jwk.kid : undefined };
}

function assertion(clientId: string, issuer: string, { key, kid }: SigningKey): string {
  const now = Math.floor(Date.now() / 1000);
  const claims = { iss: clientId, sub: clientId, aud: issuer, jti: randomUUID(), iat: now, exp: now + assertionLifeS };
  const signed = [{ alg: 'ES256', typ: 'JWT', kid }, claims]
    .map((part) => Buffer.from(JSON.stringify(part)).toString('base64url'))
    .join('.');
  const signature = sign('sha256', Buffer.from(signed), { key, dsaEncoding: 'ieee-p1363' });
  return `${signed}.${signature.toString('base64url')}`;
}

interface Server {
  ca: string | undefined;
  trustDomain: string;
}

/** OpenID Connect Discovery 1.0, 4. */
async function discover(issuer: string, server: Server): Promise<URL> {
  const { status, body, retryAfterMs } = await exchange(
    new URL(`${issuer.replace(/\/$/, '')}/.well-known/openid-configuration`),
    server,
  );
  if (status !== 200)
    throw new TokenRequestError(`the issuer ${issuer} responded ${status} to discovery`, { retryAfterMs });
  const found = parsed(body);
  if (found.issuer !== issuer) throw new TokenRequestError(`${issuer} is not the issuer that its discovery names`);
  try {
    const endpoint = new URL(String(found.token_endpoint));
    if (endpoint.protocol === 'https:') return endpoint;
  } catch {
    // Not a URL: the same error.
  }
  throw new TokenRequestError(`the discovery of ${issuer} has no token endpoint with https`);
}

function parsed(body: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(body);
    if (typeof value === 'object' && value !== null) return value as Record<string, unknown>;
  } catch {
    // The error would quote the body.
  }
  return {};
}

function readToken(body: string, { origin }: URL): IssuedToken {
  const { access_token: token, token_type: type, expires_in: seconds } = parsed(body);
  if (typeof token !== 'string' || !tokenPattern.test(token) || String(type).toLowerCase() !== 'bearer') {
    throw new TokenRequestError(`${origin} responded 200 without a bearer token`);
  }
  if (typeof seconds !== 'number' || !(seconds > 0)) {
    throw new TokenRequestError(`${origin} does not say how long its token is valid`);
  }
  // The end that a JWT names has whole seconds: it may be up to a second earlier.
  return { token, lifeMs: Math.max(Math.min(seconds, 86_400) - 1, seconds / 2) * 1000 };
}

/** RFC 6749, 5.2. Only the error code is quoted. */
function refusal(issuer: string, status: number, body: string, retryAfterMs: number): TokenRequestError {
  const { error } = parsed(body);
  const code = typeof error === 'string' && /^[a-z_]{1,40}$/.test(error) ? error : '';
  const permanent = status >= 400 && status < 500 && status !== 408 && status !== 429;
  const hint = code === 'invalid_client' ? ': it has no active account with this clientId and the key of keyFile' : '';
  const words = `the issuer ${issuer} ${permanent ? 'refused the request for a token' : 'gave no token'}`;
  return new TokenRequestError(`${words} (${[status, code].join(' ').trim()})${hint}`, { permanent, retryAfterMs });
}

interface Exchange {
  status: number;
  body: string;
  retryAfterMs: number;
}

/** Sends a form, or asks without one. Keeps no process alive: a caller that waits does. */
function exchange(url: URL, { ca, trustDomain }: Server, form?: string): Promise<Exchange> {
  const secure: RequestOptions = ca === undefined ? {} : { ca, checkServerIdentity: identityOf(trustDomain) };
  const headers =
    form === undefined
      ? {}
      : { 'content-type': 'application/x-www-form-urlencoded', 'content-length': Buffer.byteLength(form) };
  return new Promise((resolve, reject) => {
    const fail = (error: NodeJS.ErrnoException) => {
      clearTimeout(timer);
      const why = error instanceof TokenRequestError || !error.code ? error.message : error.code;
      reject(new TokenRequestError(`${url.origin} does not respond (${why})`));
    };
    const options = { ...secure, method: form === undefined ? 'GET' : 'POST', headers, agent: false };
    const sent = request(url, options, (response) => {
      const chunks: Buffer[] = [];
      let length = 0;
      response.on('data', (chunk: Buffer) => {
        length += chunk.length;
        chunks.push(chunk);
        if (length > responseMax) response.destroy(new Error(`a response of more than ${responseMax} bytes`));
      });
      response.on('error', fail);
      response.on('end', () => {
        clearTimeout(timer);
        const seconds = Number(response.headers['retry-after'] ?? 0);
        const retryAfterMs = seconds > 0 ? Math.min(seconds * 1000, retryAfterMaxMs) : 0;
        resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks).toString(), retryAfterMs });
      });
    });
    const late = () => sent.destroy(new Error(`nothing within ${timeoutMs} ms`));
    const timer = setTimeout(late, timeoutMs).unref();
    sent.on('socket', (socket) => socket.unref());
    sent.on('error', fail);
    sent.end(form);
  });
}

/** The mesh's own authority issues certificates for every service: the server must be identity. */
function identityOf(trustDomain: string): typeof checkServerIdentity {
  return (host, certificate) => {
    const found = workloadOf(certificate, trustDomain);
    if (found === 'service:identity') return checkServerIdentity(host, certificate);
    return new Error(`expected service:identity on the other end, found ${found ?? 'no workload'}`);
  };
}
