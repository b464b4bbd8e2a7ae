import { sessionsClient } from '@armature/clients';
import { createRemoteJWKSet, customFetch, decodeProtectedHeader, jwtVerify } from 'jose';
import * as oidc from 'openid-client';
import t from 'tap';
import { refusal } from '../../test/support/refusal.ts';
import { developerCredentials, token } from '../../test/support/service.ts';
import {
  ada,
  bea,
  browser,
  fetchOnce,
  field,
  programKey,
  signInWith,
  startIdentity,
  tokensOf,
  until,
} from './testbed.ts';

t.setTimeout(180_000);
const identity = await startIdentity(t, { env: { ARMATURE_REFRESH_REUSE_S: '60' } });
const { issuer } = identity;
const config = await identity.client();
const jwks = createRemoteJWKSet(new URL(`${issuer}/jwks`), { [customFetch]: (url) => fetchOnce(url) });
const admin = await identity.as('admin');
const database = identity.database();

/** Registers a program with its own key and connects to the service as that program. */
async function program(name: string, scopes: string[] = []) {
  const { publicJwk, privateKey } = await programKey();
  await admin.createServiceAccount({ accountId: name, displayName: name, publicJwk, scopes });
  return identity.client(name, oidc.PrivateKeyJwt(privateKey));
}

const refused = (error: string) => ({ error }) as unknown as Error;

t.test('discovery offers what is supported, and nothing else', async (t) => {
  const server = config.serverMetadata();
  t.strictSame(server.grant_types_supported?.sort(), ['authorization_code', 'client_credentials', 'refresh_token']);
  t.strictSame(server.response_types_supported, ['code']);
  t.strictSame(server.code_challenge_methods_supported, ['S256']);
  t.strictSame(server.token_endpoint_auth_methods_supported?.sort(), ['none', 'private_key_jwt']);
  t.strictSame(server.token_endpoint_auth_signing_alg_values_supported, ['ES256']);
  t.strictSame(server.id_token_signing_alg_values_supported, ['ES256']);
  for (const absent of ['registration_endpoint', 'device_authorization_endpoint', 'userinfo_endpoint']) {
    t.equal(server[absent], undefined, absent);
  }
  const keys = (await (await fetchOnce(`${issuer}/jwks`)).json()) as { keys: Record<string, unknown>[] };
  t.ok(keys.keys.length >= 1);
  t.notOk(
    keys.keys.some((key) => 'd' in key),
    'no private part is published',
  );
});

t.test('the code flow', async (t) => {
  const { tokens } = await tokensOf({ config });
  const { payload, protectedHeader } = await jwtVerify(tokens.access_token, jwks, { issuer, audience: 'armature' });
  t.match(protectedHeader, { alg: 'ES256', typ: 'at+jwt' });
  t.match(payload, { sub: 'ada', client_id: 'armature-cli', aud: 'armature', scope: 'openid email profile all' });
  t.equal((payload.exp ?? 0) - (payload.iat ?? 0), 600);
  t.match(tokens.claims(), { sub: 'ada', email: ada.email, email_verified: true, name: 'Ada', aud: 'armature-cli' });
  t.equal(decodeProtectedHeader(tokens.id_token ?? '').alg, 'ES256');
});

t.test('a token has the scope that was requested, within what its client is registered for', async (t) => {
  const scopeOf = async (token: string) =>
    (await jwtVerify(token, jwks, { issuer, audience: 'armature' })).payload.scope;
  const { tokens } = await tokensOf({ config, parameters: { scope: 'openid orders.read catalog' } });
  t.equal(
    await scopeOf(tokens.access_token),
    'openid orders.read catalog',
    'an application of ours that asks for less',
  );
  t.equal(tokens.scope, 'openid orders.read catalog');
  const refreshed = await oidc.refreshTokenGrant(config, tokens.refresh_token ?? '');
  t.equal(await scopeOf(refreshed.access_token), 'openid orders.read catalog', 'and keeps it');
  const usual = await tokensOf({ config, parameters: { scope: 'openid' } });
  const again = await oidc.refreshTokenGrant(config, usual.tokens.refresh_token ?? '');
  t.equal(await scopeOf(again.access_token), 'openid all', 'one that asks for none has all');

  const robot = await program('scoped', ['orders', 'catalog.read']);
  const asking = async (scope?: string) => {
    const { access_token, scope: said } = await oidc.clientCredentialsGrant(robot, scope ? { scope } : {});
    t.equal(await scopeOf(access_token), said, 'the response says the scope');
    return said;
  };
  t.equal(await asking(), 'orders catalog.read');
  t.equal(await asking('orders.read'), 'orders.read');
  t.equal(await asking('catalog.read orders'), 'catalog.read orders');
  for (const scope of ['all', 'catalog', 'payments.refund', 'orders.read ops']) {
    await t.rejects(asking(scope), refused('invalid_scope'), scope);
  }
  t.equal((await oidc.clientCredentialsGrant(await program('unscoped'))).scope, 'all');
  await t.rejects(program('wrong', ['orders', 'moon.land']), refusal({ reason: 'FIELDS_INVALID' }));
  t.match(
    (await admin.listServiceAccounts({ pageSize: 200 })).accounts.find((one) => one.accountId === 'scoped'),
    {
      scopes: ['orders', 'catalog.read'],
    },
  );
});

t.test('an application of others is registered for nothing unless it says so', async (t) => {
  const stranger = await identity.client('stranger');
  const url = oidc.buildAuthorizationUrl(stranger, {
    ...{
      redirect_uri: 'https://other.example/cb',
      scope: 'openid orders.read',
      state: 's',
      code_challenge_method: 'S256',
    },
    code_challenge: await oidc.calculatePKCECodeChallenge(oidc.randomPKCECodeVerifier()),
  });
  const response = await fetchOnce(url.href);
  t.match(response.headers.get('location'), /^https:\/\/other\.example\/cb\?error=invalid_scope&/);
});

t.test('a signed-in person is not asked again, except with prompt=login', async (t) => {
  const { user } = await tokensOf({ config });
  const second = await signInWith({ config, user });
  t.notMatch(second.page.text, 'password');
  t.ok((await oidc.authorizationCodeGrant(config, new URL(second.back.url), second.checks)).access_token);
  const third = await signInWith({ config, user, parameters: { prompt: 'login' } });
  t.match(third.page.text, 'name="password"');
  t.notMatch((await signInWith({ config, user, parameters: { max_age: '300' } })).page.text, 'password');
  const silent = await signInWith({ config, user: browser(), parameters: { prompt: 'none' } });
  t.match(silent.back.url, /error=login_required/);
});

/** Makes all uses of refresh tokens so many seconds old. */
const usedAgo = async (seconds: number) =>
  (await database).write(null, (sql) =>
    sql.execute(
      "update artifact set consumed_at = utc_timestamp(6) - interval ? second where model = 'RefreshToken' and consumed_at is not null",
      [seconds],
    ),
  );

t.test('an access token says when its owner signed in, and only a new sign-in changes that', async (t) => {
  const authTimeOf = async (accessToken: string) => {
    const { payload } = await jwtVerify(accessToken, jwks, { issuer, audience: 'armature' });
    return Number(payload.auth_time);
  };
  const { tokens, user } = await tokensOf({ config });
  const signedInAt = await authTimeOf(tokens.access_token);
  t.ok(Math.abs(Date.now() / 1000 - signedInAt) < 30);
  // The claim has whole seconds.
  await until('another second', () => Math.floor(Date.now() / 1000) > signedInAt + 1 || undefined);
  const { access_token: refreshed } = await oidc.refreshTokenGrant(config, tokens.refresh_token ?? '');
  t.equal(await authTimeOf(refreshed), signedInAt);
  t.equal(await authTimeOf((await tokensOf({ config, user })).tokens.access_token), signedInAt);
  for (const [name, value] of [
    ['prompt', 'login'],
    ['max_age', '0'],
  ] as const) {
    const { tokens: renewed } = await tokensOf({ config, user, parameters: { [name]: value } });
    t.ok((await authTimeOf(renewed.access_token)) > signedInAt, name);
  }
  const { payload } = await jwtVerify((await oidc.clientCredentialsGrant(await program('clock'))).access_token, jwks);
  t.equal(payload.auth_time, undefined, 'a program signs in for each token');
});

t.test('people list their sessions and revoke one of them', async (t) => {
  const tls = await developerCredentials();
  const connect = async (subject: string) => {
    const bearer = await token(subject, { issuer });
    const client = sessionsClient({ addresses: [identity.service.grpc], tls, token: () => bearer });
    t.teardown(() => client.close());
    return client;
  };
  const [own, stranger, administrator] = await Promise.all(['bea', 'ada', 'admin'].map(connect));
  if (!own || !stranger || !administrator) throw new Error('three clients');
  const userId = 'bea';
  const stolen = await tokensOf({ config, person: bea });
  const [first] = (await own.listSessions({ userId })).sessions;
  const kept = await tokensOf({ config, person: bea });

  const page = await own.listSessions({ userId, pageSize: 1 });
  const rest = await own.listSessions({ userId, pageSize: 1, pageToken: page.nextPageToken });
  const listed = [...page.sessions, ...rest.sessions];
  t.equal(listed.length, 2);
  t.equal(rest.nextPageToken, '');
  t.ok(listed.some(({ sessionId }) => sessionId === first?.sessionId));
  for (const { clientIds, signInTime, lastUseTime } of listed) {
    t.strictSame(clientIds, ['armature-cli']);
    t.ok(Math.abs(Date.now() - (signInTime?.getTime() ?? 0)) < 60_000);
    t.ok((lastUseTime?.getTime() ?? 0) >= (signInTime?.getTime() ?? 0));
  }
  const usedAt = first?.lastUseTime?.getTime() ?? 0;
  const refreshed = await oidc.refreshTokenGrant(config, stolen.tokens.refresh_token ?? '');
  const again = (await administrator.listSessions({ userId })).sessions;
  const used = again.find(({ sessionId }) => sessionId === first?.sessionId);
  t.ok((used?.lastUseTime?.getTime() ?? 0) > usedAt, 'a new token is a use');

  const request = { userId, sessionId: first?.sessionId ?? '', requestId: crypto.randomUUID() };
  const denied = { code: 'PERMISSION_DENIED' };
  await t.rejects(stranger.listSessions({ userId }), denied);
  await t.rejects(stranger.revokeSession(request), denied);
  const notFound = { code: 'NOT_FOUND', reason: 'SESSION_NOT_FOUND' };
  await t.rejects(stranger.revokeSession({ ...request, userId: 'ada' }), notFound, 'of another person');
  await own.revokeSession(request);
  await own.revokeSession(request);
  await t.rejects(own.revokeSession({ ...request, requestId: crypto.randomUUID() }), notFound, 'it has ended');

  await t.rejects(oidc.refreshTokenGrant(config, refreshed.refresh_token ?? ''), refused('invalid_grant'));
  const state = await oidc.tokenIntrospection(config, refreshed.access_token).catch(() => ({ active: false }));
  t.equal(state.active, false);
  t.match((await signInWith({ config, user: stolen.user })).page.text, 'name="password"', 'its browser signs in again');
  const remaining = (await own.listSessions({ userId })).sessions.map(({ sessionId }) => sessionId);
  t.equal(remaining.length, 1);
  t.not(remaining[0], first?.sessionId);
  t.ok((await oidc.refreshTokenGrant(config, kept.tokens.refresh_token ?? '')).access_token, 'others continue');
});

t.test('a refresh token is replaced by each use, and its later reuse ends the whole family', async (t) => {
  const { tokens } = await tokensOf({ config });
  const first = tokens.refresh_token ?? '';
  const rotated = await oidc.refreshTokenGrant(config, first);
  const second = rotated.refresh_token ?? '';
  t.not(first, second);
  const { payload } = await jwtVerify(rotated.access_token, jwks, { issuer, audience: 'armature' });
  t.equal(payload.sub, 'ada');
  await usedAgo(61);
  const newest = (await oidc.refreshTokenGrant(config, second)).refresh_token ?? '';
  await t.rejects(oidc.refreshTokenGrant(config, first), refused('invalid_grant'), 'the oldest again');
  await t.rejects(oidc.refreshTokenGrant(config, newest), refused('invalid_grant'), 'and the newest is gone too');
  t.match(await oidc.tokenIntrospection(config, rotated.access_token), { active: false });
});

t.test('of fifty requests with one code exactly one succeeds, and its grant ends', async (t) => {
  const { back, checks } = await signInWith({ config });
  const tries = await Promise.allSettled(
    Array.from({ length: 50 }, () => oidc.authorizationCodeGrant(config, new URL(back.url), checks)),
  );
  const won = tries.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []));
  t.equal(won.length, 1);
  for (const one of tries) if (one.status === 'rejected') t.match(one.reason, { error: 'invalid_grant' });
  await t.rejects(oidc.refreshTokenGrant(config, won[0]?.refresh_token ?? ''), refused('invalid_grant'));
});

t.test('requests that use one refresh token at the same time get one successor', async (t) => {
  const { tokens } = await tokensOf({ config });
  const first = tokens.refresh_token ?? '';
  const both = await Promise.all(Array.from({ length: 20 }, () => oidc.refreshTokenGrant(config, first)));
  const successors = new Set(both.map(({ refresh_token }) => refresh_token));
  t.equal(successors.size, 1);
  t.equal(new Set(both.map(({ access_token }) => access_token)).size, 20);
  await usedAgo(30);
  const afterLoss = await oidc.refreshTokenGrant(config, first);
  t.ok(successors.has(afterLoss.refresh_token), 'a client whose response was lost gets the same');
  const next = await oidc.refreshTokenGrant(config, afterLoss.refresh_token ?? '');
  t.notOk(successors.has(next.refresh_token));
  await usedAgo(61);
  await t.rejects(oidc.refreshTokenGrant(config, first), refused('invalid_grant'), 'too late');
  await t.rejects(oidc.refreshTokenGrant(config, next.refresh_token ?? ''), refused('invalid_grant'));
});

t.test(
  'a thief who uses a refresh token in time shares one family with its owner, until one of them is late',
  async (t) => {
    const { tokens } = await tokensOf({ config });
    const owner = await oidc.refreshTokenGrant(config, tokens.refresh_token ?? '');
    const thief = await oidc.refreshTokenGrant(config, tokens.refresh_token ?? '');
    const used = await oidc.refreshTokenGrant(config, thief.refresh_token ?? '');
    await usedAgo(61);
    await t.rejects(oidc.refreshTokenGrant(config, owner.refresh_token ?? ''), refused('invalid_grant'));
    await t.rejects(oidc.refreshTokenGrant(config, used.refresh_token ?? ''), refused('invalid_grant'));
  },
);

t.test('programs sign in with a key, and their tokens are about themselves', async (t) => {
  const importer = await program('importer');
  const tokens = await oidc.clientCredentialsGrant(importer);
  const { payload } = await jwtVerify(tokens.access_token, jwks, { issuer, audience: 'armature', typ: 'at+jwt' });
  t.match(payload, { sub: 'importer', client_id: 'importer' });
  t.equal(tokens.refresh_token, undefined);
  const { privateKey } = await programKey();
  const impostor = await identity.client('importer', oidc.PrivateKeyJwt(privateKey));
  await t.rejects(oidc.clientCredentialsGrant(impostor), refused('invalid_client'), 'another key');
  await t.rejects(
    oidc.clientCredentialsGrant(importer, { resource: 'https://elsewhere.example' }),
    refused('invalid_target'),
    'another audience',
  );
  await admin.disableServiceAccount({ accountId: 'importer' });
  await t.rejects(oidc.clientCredentialsGrant(importer), refused('invalid_client'), 'a disabled program');
});

t.test('tokens can be introspected and revoked', async (t) => {
  const auditor = await program('auditor');
  const { tokens } = await tokensOf({ config });
  const about = await oidc.tokenIntrospection(auditor, tokens.access_token);
  t.match(about, { active: true, sub: 'ada', client_id: 'armature-cli', aud: 'armature', iss: issuer });
  t.match(await oidc.tokenIntrospection(auditor, tokens.refresh_token ?? ''), { active: true, sub: 'ada' });
  t.match(await oidc.tokenIntrospection(config, tokens.access_token), { active: true }, 'its own client may ask');
  const { tokens: others } = await tokensOf({ config, person: bea });
  const web = await identity.client('web-shop');
  t.strictSame(await oidc.tokenIntrospection(web, others.access_token), { active: false }, 'another public client');
  const forged = `${tokens.access_token.slice(0, -8)}AAAAAAAA`;
  t.strictSame(await oidc.tokenIntrospection(auditor, forged), { active: false }, 'a forged one');

  await oidc.tokenRevocation(web, others.access_token);
  t.match(await oidc.tokenIntrospection(auditor, others.access_token), { active: true }, 'not taken back by others');
  await oidc.tokenRevocation(config, tokens.access_token);
  t.strictSame(await oidc.tokenIntrospection(auditor, tokens.access_token), { active: false });
  await t.rejects(oidc.refreshTokenGrant(config, tokens.refresh_token ?? ''), refused('invalid_grant'));
  await oidc.tokenRevocation(config, others.refresh_token ?? '');
  await t.rejects(oidc.refreshTokenGrant(config, others.refresh_token ?? ''), refused('invalid_grant'));
});

t.test('signing out ends the session and its grants', async (t) => {
  const { tokens, user } = await tokensOf({ config });
  const url = oidc.buildEndSessionUrl(config, {
    id_token_hint: tokens.id_token ?? '',
    post_logout_redirect_uri: 'http://127.0.0.1:45999/bye',
    state: 'kept',
  });
  const page = await user.follow(url.href);
  t.match(page.text, 'Sign out?');
  const done = await user.follow(`${issuer}/session/end/confirm`, { xsrf: field(page.text, 'xsrf'), logout: 'yes' });
  t.equal(done.url, 'http://127.0.0.1:45999/bye?state=kept');
  await t.rejects(oidc.refreshTokenGrant(config, tokens.refresh_token ?? ''), refused('invalid_grant'));
  t.match((await signInWith({ config, user })).page.text, 'name="password"', 'a sign-in is needed again');
  const foreign = await user.follow(
    oidc.buildEndSessionUrl(config, { post_logout_redirect_uri: 'https://evil.example/' }).href,
  );
  t.match(foreign.text, 'That did not work');
});

t.test('a third-party program needs the consent of the person each time', async (t) => {
  const stranger = await identity.client('stranger');
  const parameters = { redirect_uri: 'https://other.example/cb' };
  const user = browser();
  const { back: consent, checks } = await signInWith({ config: stranger, user, parameters });
  t.match(consent.text, 'Let this program in?');
  t.match(consent.text, 'Some &lt;b&gt;other&lt;/b&gt; program', 'its name is shown as text');
  const allowed = await user.follow(consent.url, { csrf: field(consent.text, 'csrf') });
  const tokens = await oidc.authorizationCodeGrant(stranger, new URL(allowed.url), checks);
  t.equal(tokens.claims()?.sub, 'ada');
  const again = await signInWith({ config: stranger, user, parameters });
  t.match(again.page.text, 'Let this program in?');
  const denied = await user.follow(`${again.page.url}/abort`, { csrf: field(again.page.text, 'csrf') });
  t.match(denied.url, /^https:\/\/other\.example\/cb\?error=access_denied/);
});

t.test('closing an account ends its sessions, grants and tokens at once', async (t) => {
  const auditor = await program('watcher');
  const { tokens, user } = await tokensOf({ config, person: bea });
  await admin.deactivateUser({ userId: 'bea' });
  t.strictSame(await oidc.tokenIntrospection(auditor, tokens.access_token), { active: false });
  t.strictSame(await oidc.tokenIntrospection(auditor, tokens.refresh_token ?? ''), { active: false });
  await t.rejects(oidc.refreshTokenGrant(config, tokens.refresh_token ?? ''), refused('invalid_grant'));
  const { page, back } = await signInWith({ config, user, person: bea });
  t.match(page.text, 'name="password"', 'the session is gone');
  t.match(back.text, 'role="alert"', 'and the right password opens nothing');
  await admin.reactivateUser({ userId: 'bea' });
  t.ok((await tokensOf({ config, person: bea })).tokens.access_token);
});
