import { setTimeout as sleep } from 'node:timers/promises';
import { catalogClient, RpcError, signingKeys, signingKeysClient } from '@armature/clients';
import { openDatabase } from '@armature/runtime/db';
import { createLogger, Registry } from '@armature/runtime/telemetry';
import { createLocalJWKSet, decodeProtectedHeader, jwtVerify } from 'jose';
import * as oidc from 'openid-client';
import t, { type Test } from 'tap';
import { developerCredentials, startService, token } from '../../test/support/service.ts';
import { inLongTier } from '../../test/support/tier.ts';
import { fetchOnce, type Identity, startIdentity, tokensOf, until } from './testbed.ts';

t.setTimeout(180_000);

const periods = {
  ARMATURE_SIGNING_KEY_PERIOD_S: '6',
  ARMATURE_SIGNING_KEY_LEAD_S: '3',
  ARMATURE_SIGNING_KEY_KEPT_S: '5',
};

type Keys = { keys: { kid: string }[] };
const keysOf = async (issuer: string) => (await (await fetchOnce(`${issuer}/jwks`)).json()) as Keys;
const kidOf = (token: string) => decodeProtectedHeader(token).kid ?? '';

const phases = {
  CURRENT: signingKeys.SigningKeyPhase.SIGNING_KEY_PHASE_CURRENT,
  RETIRED: signingKeys.SigningKeyPhase.SIGNING_KEY_PHASE_RETIRED,
};

const phasesIn = ({ signingKeys: keys }: signingKeys.ListSigningKeysResponse) =>
  Object.fromEntries(keys.map(({ kid, phase }) => [kid, phase]));
const fixed = async (issued: Promise<string>) => {
  const value = await issued;
  return () => value;
};

t.test('keys rotate without failing calls', async (t) => {
  const identity = await startIdentity(t, { env: periods });
  const config = await identity.client();
  const { tokens, user } = await tokensOf({ config });
  const first = kidOf(tokens.access_token);
  let refresh = tokens.refresh_token ?? '';
  const published = new Map<string, number>();
  const signed: { kid: string; publishedBeforeMs: number }[] = [];
  const seen = new Set<string>([first]);

  await until('three more keys', async () => {
    const { keys } = await keysOf(identity.issuer);
    for (const { kid } of keys) if (!published.has(kid)) published.set(kid, Date.now());
    const next = await oidc.refreshTokenGrant(config, refresh);
    refresh = next.refresh_token ?? '';
    const kid = kidOf(next.access_token);
    await jwtVerify(next.access_token, createLocalJWKSet(await keysOf(identity.issuer)), { audience: 'armature' });
    if (!seen.has(kid)) {
      seen.add(kid);
      signed.push({ kid, publishedBeforeMs: Date.now() - (published.get(kid) ?? Date.now()) });
      if (seen.size === 2) {
        const { payload } = await jwtVerify(tokens.access_token, createLocalJWKSet({ keys }), { audience: 'armature' });
        t.equal(payload.sub, 'ada', 'what the elder key signed is still verified');
      }
    }
    return seen.size >= 3 || undefined;
  });
  for (const { publishedBeforeMs } of signed) t.ok(publishedBeforeMs > 1_000, 'a key is published before it signs');
  await until('the first key to go', async () =>
    (await keysOf(identity.issuer)).keys.some(({ kid }) => kid === first) ? undefined : true,
  );
  t.ok((await tokensOf({ config, user })).tokens.access_token, 'the session of before the rotation still counts');
});

t.test('two instances have the same keys, sessions and tokens, and private keys are sealed', async (t) => {
  const one = await startIdentity(t, { env: periods });
  const database = one.service.database;
  if (!database) throw new Error('identity has a database');
  const two = await startIdentity(t, {
    database,
    ...(one.service.vhost ? { vhost: one.service.vhost } : {}),
    env: { ...periods, ARMATURE_TOKEN_ISSUER: one.issuer },
  });
  const second = `https://localhost:${two.service.http.split(':')[1]}`;
  const config = await one.client();
  const { tokens } = await tokensOf({ config });
  const kids = async (issuer: string) => (await keysOf(issuer)).keys.map(({ kid }) => kid).sort();
  await until('both to publish the same keys, more than one', async () => {
    const [a, b] = [await kids(one.issuer), await kids(second)];
    return (a.length > 1 && a.join() === b.join()) || undefined;
  });
  const body = new URLSearchParams({
    grant_type: 'refresh_token',
    client_id: 'armature-cli',
    refresh_token: tokens.refresh_token ?? '',
  }).toString();
  const headers = { 'content-type': 'application/x-www-form-urlencoded' };
  const responses = await Promise.all(
    [one.issuer, second, one.issuer, second].map((issuer) =>
      fetchOnce(`${issuer}/token`, { method: 'POST', headers, body }),
    ),
  );
  const successors = await Promise.all(
    responses.map(async (response) => ((await response.json()) as { refresh_token?: string }).refresh_token),
  );
  t.match(successors[0], /^[\w-]{43}$/);
  t.equal(new Set(successors).size, 1, 'one refresh token has one successor at both instances');

  const db = await openDatabase({ url: database.url, log: createLogger('test', 'error'), registry: new Registry() });
  t.teardown(() => db.close());
  const rows = await db.read(null, (sql) => sql.query<{ private_jwk: Buffer }>('select private_jwk from signing_key'));
  for (const { private_jwk } of rows) t.notMatch(private_jwk.toString('latin1'), /"d"|P-256/);
});

t.test('a revoked key is not published any more, and another one signs', async (t) => {
  const identity = await startIdentity(t);
  const config = await identity.client();
  const before = await tokensOf({ config });
  const kid = kidOf(before.tokens.access_token);
  const revoking = await keysClient(t, identity);
  const { CURRENT, RETIRED } = phases;
  t.strictSame(phasesIn(await revoking.listSigningKeys({})), { [kid]: CURRENT });
  const tag = (await fetchOnce(`${identity.issuer}/jwks`)).headers.get('etag') ?? '';
  const again = (header: string) => fetchOnce(`${identity.issuer}/jwks`, { headers: { 'if-none-match': header } });
  for (const header of [tag, `W/${tag}`, `"another", ${tag}`]) t.equal((await again(header)).status, 304, header);

  const requestId = crypto.randomUUID();
  const remaining = await revoking.revokeSigningKey({ kid, requestId });
  const [{ kid: next = '' } = {}] = remaining.signingKeys;
  t.strictSame(phasesIn(remaining), { [next]: CURRENT });
  t.not(next, kid);
  t.strictSame(await revoking.revokeSigningKey({ kid, requestId }), remaining, 'a repeat gets the same response');
  await t.rejects(revoking.revokeSigningKey({ kid }), { code: 'NOT_FOUND', reason: 'SIGNING_KEY_NOT_FOUND' });
  t.strictSame((await again(tag)).status, 200);
  t.strictSame(
    (await keysOf(identity.issuer)).keys.map((key) => key.kid),
    [next],
  );

  const { tokens } = await tokensOf({ config, user: before.user });
  t.equal(kidOf(tokens.access_token), next, 'the session of before is still valid');
  const refreshed = await oidc.refreshTokenGrant(config, before.tokens.refresh_token ?? '');
  t.equal(kidOf(refreshed.access_token), next, 'and so is its refresh token');
  const state = await oidc.tokenIntrospection(config, before.tokens.access_token).catch(() => ({ active: false }));
  t.equal(state.active, false, 'a token of the revoked key is not active');
  t.notOk(Object.values(phasesIn(await revoking.listSigningKeys({}))).includes(RETIRED));

  const staff = signingKeysClient({
    addresses: [identity.service.grpc],
    tls: await developerCredentials(),
    token: await fixed(token('admin', { issuer: identity.issuer })),
  });
  t.teardown(() => staff.close());
  await t.rejects(staff.revokeSigningKey({ kid: next }), { code: 'PERMISSION_DENIED' }, 'administrators may not');
});

t.test('a service refuses tokens of a revoked key within a minute', inLongTier, async (t) => {
  const identity = await startIdentity(t);
  const tls = await developerCredentials();
  const catalog = await startService(t, 'catalog', {
    env: { ARMATURE_TOKEN_ISSUER: identity.issuer, ARMATURE_TOKEN_JWKS: `${identity.issuer}/jwks` },
  });
  const { tokens } = await tokensOf({ config: await identity.client() });
  const client = catalogClient({ addresses: [catalog.grpc], tls, token: () => tokens.access_token });
  t.teardown(() => client.close());
  await client.listProducts({});
  await (await keysClient(t, identity)).revokeSigningKey({ kid: kidOf(tokens.access_token) });
  const revokedAt = Date.now();
  const code = async () => {
    try {
      await client.listProducts({});
    } catch (error) {
      if (error instanceof RpcError) return error.code;
      throw error;
    }
    return undefined;
  };
  let refusedAs: string | undefined;
  while (!refusedAs && Date.now() - revokedAt < 60_000) {
    refusedAs = await code();
    await sleep(250);
  }
  t.equal(refusedAs, 'UNAUTHENTICATED');
});

async function keysClient(t: Test, { issuer, service }: Identity) {
  const client = signingKeysClient({
    addresses: [service.grpc],
    tls: await developerCredentials(),
    token: await fixed(token('olga', { issuer })),
  });
  t.teardown(() => client.close());
  return client;
}
