import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { type Agent, type RequestOptions, request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { identityClient } from '@armature/clients';
import type { Database } from '@armature/runtime';
import { openDatabase } from '@armature/runtime/db';
import { createLogger, Registry } from '@armature/runtime/telemetry';
import { exportJWK, generateKeyPair, SignJWT } from 'jose';
import * as oidc from 'openid-client';
import { reservePorts } from '../../scripts/devmesh/ports.ts';
import { type Teardown, testServers } from '../../test/support/infra.ts';
import {
  developerCredentials,
  type RunningService,
  type StartOptions,
  startService,
  token,
} from '../../test/support/service.ts';
import type { TokenRequest } from '../../test/support/token.ts';

export const ada = { email: 'ada@example.org', password: 'violet anchors drift at noon' };
export const bea = { email: 'bea@example.org', password: 'seven lanterns under water' };
export const redirectUri = 'http://127.0.0.1:45123/callback';

const bootstrapFile = {
  accounts: [
    { user_id: 'ada', display_name: 'Ada', ...ada },
    { user_id: 'bea', display_name: 'Bea', ...bea },
  ],
  clients: [
    {
      client_id: 'armature-cli',
      display_name: 'Armature tools',
      redirect_uris: ['http://127.0.0.1/callback'],
      post_logout_redirect_uris: ['http://127.0.0.1/bye'],
      first_party: true,
    },
    { client_id: 'web-shop', redirect_uris: ['https://shop.example/callback'], first_party: true },
    { client_id: 'stranger', display_name: 'Some <b>other</b> program', redirect_uris: ['https://other.example/cb'] },
  ],
};

export type Fetch = (url: string, init?: FetchInit) => Promise<Response>;
interface FetchInit {
  method?: string;
  headers?: Record<string, string>;
  body?: string;
  /** Keeps connections; without it each request has a connection of its own. */
  agent?: Agent | undefined;
}

const { ca } = await developerCredentials();

/** Fetches over HTTPS with the development CA; redirects are responses like others. */
export const fetchOnce: Fetch = (url, init = {}) =>
  new Promise((resolve, reject) => {
    const { method = 'GET', headers = {}, body, agent = false } = init;
    const length = body === undefined ? {} : { 'content-length': String(Buffer.byteLength(body)) };
    const options: RequestOptions = { method, headers: { ...headers, ...length }, ca, agent };
    const sent = request(url, options, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('error', reject);
      response.on('end', () => {
        const pairs = Object.entries(response.headersDistinct).flatMap(([name, values]) =>
          (values ?? []).map((value): [string, string] => [name, value]),
        );
        const status = response.statusCode ?? 0;
        const empty = status === 204 || status === 304;
        resolve(new Response(empty ? null : Buffer.concat(chunks), { status, headers: pairs }));
      });
    });
    sent.on('error', reject);
    sent.end(body);
  });

export interface Identity {
  service: RunningService;
  issuer: string;
  /** A client of the gRPC service with a token of this subject, who has just signed in, or without one. */
  as(subject: string | null, overrides?: Partial<TokenRequest>): Promise<ReturnType<typeof identityClient>>;
  /** The database of the service, with its own rights. */
  database(): Promise<Database>;
  /** The configuration of an OpenID client that was found by discovery. */
  client(clientId?: string, auth?: oidc.ClientAuth): Promise<oidc.Configuration>;
  /** The mails to an address so far. */
  mails(to: string): string[];
  /** Waits for a mail to this address that matches. */
  mail(to: string, pattern: RegExp): Promise<string>;
}

/** Starts the service with people and programs of its own, as its own issuer. */
export async function startIdentity(t: Teardown, options: StartOptions = {}): Promise<Identity> {
  const { state } = await testServers();
  const [port] = await reservePorts(state, 1);
  const folder = mkdtempSync(join(tmpdir(), 'armature-identity-bootstrap-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  writeFileSync(join(folder, 'bootstrap.json'), JSON.stringify(bootstrapFile));
  const issuer = options.env?.ARMATURE_TOKEN_ISSUER ?? `https://localhost:${port}`;
  const service = await startService(t, 'identity', {
    http: `127.0.0.1:${port}`,
    ...options,
    env: {
      ARMATURE_TOKEN_ISSUER: issuer,
      ARMATURE_IDENTITY_BOOTSTRAP_FILE: join(folder, 'bootstrap.json'),
      ...options.env,
    },
  });
  const tls = await developerCredentials();
  const mails = (to: string) => {
    const box = join(service.dir, 'mail', 'new');
    return (existing(box) ?? [])
      .map((name) => decoded(readFileSync(join(box, name), 'utf8')))
      .filter((mail) => mail.toLowerCase().includes(`to: ${to.toLowerCase()}\n`));
  };
  return {
    service,
    issuer,
    async as(subject, overrides = {}) {
      const accessToken = subject === null ? undefined : await token(subject, { issuer, ...overrides });
      const client = identityClient({ addresses: [service.grpc], tls, token: () => accessToken });
      t.teardown(() => client.close());
      return client;
    },
    database: once(async () => {
      const url = service.database?.url ?? '';
      const db = await openDatabase({ url, log: createLogger('test', 'error'), registry: new Registry() });
      t.teardown(() => db.close());
      return db;
    }),
    client: (clientId = 'armature-cli', auth = oidc.None()) => discover(issuer, clientId, auth),
    mails,
    mail: (to, pattern) =>
      until(`a mail to ${to} that matches ${pattern}`, () => mails(to).find((mail) => pattern.test(mail))),
  };
}

function once<T>(make: () => Promise<T>): () => Promise<T> {
  let made: Promise<T> | null = null;
  return () => {
    made ??= make();
    return made;
  };
}

function discover(issuer: string, clientId: string, auth: oidc.ClientAuth): Promise<oidc.Configuration> {
  const customFetch: oidc.CustomFetch = (url, init) =>
    fetchOnce(url, {
      method: init.method,
      headers: init.headers,
      ...(init.body == null ? {} : { body: String(init.body) }),
    });
  return oidc.discovery(new URL(issuer), clientId, undefined, auth, { [oidc.customFetch]: customFetch });
}

const existing = (folder: string): string[] | null => {
  try {
    return readdirSync(folder);
  } catch {
    return null;
  }
};

/** Long lines of mails are folded by "=" at their end, and "=" itself is written as its number. */
const decoded = (mail: string) => mail.replace(/=\n/g, '').replace(/=3D/g, '=');

/** Calls `ask` until it returns a value; the time limit is only for tests that would fail anyway. */
export async function until<T>(what: string, ask: () => T | undefined | Promise<T | undefined>): Promise<T> {
  const deadline = Date.now() + 20_000;
  for (;;) {
    const value = await ask();
    if (value !== undefined) return value;
    if (Date.now() > deadline) throw new Error(`waited in vain for ${what}`);
    await sleep(30);
  }
}

/** The token in a mail's link. */
export function tokenIn(mail: string): string {
  const found = /token=([\w.-]+)/.exec(mail)?.[1];
  if (!found) throw new Error(`no link in the mail:\n${mail}`);
  return found;
}

/** A browser without scripts: it keeps cookies, follows what it is told to, and sends forms. `extra`: further headers. */
export function browser(extra: Record<string, string> = {}, agent?: Agent) {
  const cookies = new Map<string, { value: string; path: string }>();
  const visit = async (url: string, form?: Record<string, string>): Promise<Response> => {
    const { pathname } = new URL(url);
    const matching = [...cookies].filter(([, { path }]) => pathname === path || pathname.startsWith(path));
    const headers: Record<string, string> = { accept: 'text/html', ...extra };
    if (matching.length > 0) headers.cookie = matching.map(([name, { value }]) => `${name}=${value}`).join('; ');
    if (form) headers['content-type'] = 'application/x-www-form-urlencoded';
    const body = form && new URLSearchParams(form).toString();
    const response = await fetchOnce(url, { method: form ? 'POST' : 'GET', headers, agent, ...(body ? { body } : {}) });
    for (const cookie of response.headers.getSetCookie()) {
      const [pair = '', ...attributes] = cookie.split('; ');
      const [name = '', value = ''] = [pair.slice(0, pair.indexOf('=')), pair.slice(pair.indexOf('=') + 1)];
      const path = attributes.find((attribute) => /^path=/i.test(attribute))?.slice(5) ?? '/';
      if (value) cookies.set(name, { value, path });
      else cookies.delete(name);
    }
    return response;
  };
  return {
    cookies,
    visit,
    /** Visits and follows redirects, as long as they stay with this server. Returns the last URL and its page. */
    async follow(url: string, form?: Record<string, string>): Promise<{ url: string; status: number; text: string }> {
      let [at, sent] = [url, form];
      for (let hop = 0; hop < 10; hop += 1) {
        const response = await visit(at, sent);
        const location = response.headers.get('location');
        if (!location) return { url: at, status: response.status, text: await response.text() };
        const next = new URL(location, at);
        if (next.origin !== new URL(url).origin) return { url: next.href, status: response.status, text: '' };
        [at, sent] = [next.href, undefined];
      }
      throw new Error(`${url} redirects for ever`);
    },
  };
}

export type Browser = ReturnType<typeof browser>;

/** The value of a form's hidden field. */
export const field = (page: string, name: string): string =>
  new RegExp(`name="${name}"[^>]*value="([^"]*)"`).exec(page)?.[1] ?? '';

export interface CodeRequest {
  config: oidc.Configuration;
  person?: { email: string; password: string };
  user?: Browser;
  parameters?: Record<string, string>;
}

/** Signs a person in up to the program's callback. */
export async function signInWith({ config, person = ada, user = browser(), parameters = {} }: CodeRequest) {
  const verifier = oidc.randomPKCECodeVerifier();
  const state = oidc.randomState();
  const nonce = oidc.randomNonce();
  const url = oidc.buildAuthorizationUrl(config, {
    redirect_uri: redirectUri,
    scope: 'openid email profile',
    code_challenge: await oidc.calculatePKCECodeChallenge(verifier),
    code_challenge_method: 'S256',
    state,
    nonce,
    ...parameters,
  });
  const page = await user.follow(url.href);
  const back = page.text.includes('name="password"')
    ? await user.follow(page.url, { csrf: field(page.text, 'csrf'), ...person })
    : page;
  return { back, page, user, checks: { pkceCodeVerifier: verifier, expectedState: state, expectedNonce: nonce } };
}

/** The whole code flow: tokens of a person who has signed in. */
export async function tokensOf(request: CodeRequest) {
  const { back, checks, user } = await signInWith(request);
  const tokens = await oidc.authorizationCodeGrant(request.config, new URL(back.url), checks);
  return { tokens, user };
}

/** A program's key pair: the public part as it is registered, and the private one to sign assertions with. */
export async function programKey() {
  const { publicKey, privateKey } = await generateKeyPair('ES256', { extractable: true });
  return { publicJwk: JSON.stringify(await exportJWK(publicKey)), privateKey };
}

/** A signed assertion by which a program authenticates, with every part free to be wrong. */
export function assertion(
  privateKey: Parameters<SignJWT['sign']>[0],
  claims: { clientId: string; audience: string; jti?: string; expiresInS?: number },
): Promise<string> {
  return new SignJWT({ jti: claims.jti ?? crypto.randomUUID() })
    .setProtectedHeader({ alg: 'ES256' })
    .setIssuer(claims.clientId)
    .setSubject(claims.clientId)
    .setAudience(claims.audience)
    .setIssuedAt()
    .setExpirationTime(`${claims.expiresInS ?? 60}s`)
    .sign(privateKey);
}
