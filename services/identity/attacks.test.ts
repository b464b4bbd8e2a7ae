import { connect } from 'node:net';
import { connect as tlsConnect } from 'node:tls';
import * as oidc from 'openid-client';
import t from 'tap';
import {
  ada,
  assertion,
  browser,
  fetchOnce,
  field,
  programKey,
  redirectUri,
  signInWith,
  startIdentity,
  until,
} from './testbed.ts';

t.setTimeout(180_000);
const identity = await startIdentity(t, { env: { ARMATURE_AUTHORIZATION_CODE_S: '3' } });
const { issuer } = identity;
const config = await identity.client();
const web = await identity.client('web-shop');

const challenge = await oidc.calculatePKCECodeChallenge(oidc.randomPKCECodeVerifier());
const request = {
  client_id: 'armature-cli',
  response_type: 'code',
  scope: 'openid',
  redirect_uri: redirectUri,
  code_challenge: challenge,
  code_challenge_method: 'S256',
  state: 's1',
};
const without = (...names: string[]) =>
  Object.fromEntries(Object.entries(request).filter(([name]) => !names.includes(name)));
const authorize = (parameters: Record<string, string>) =>
  fetchOnce(`${issuer}/auth?${new URLSearchParams(parameters)}`, { headers: { accept: 'text/html' } });
const token = (parameters: Record<string, string>) =>
  fetchOnce(`${issuer}/token`, {
    method: 'POST',
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
    body: new URLSearchParams(parameters).toString(),
  });

t.test('authorization requests that get an error by redirect', async (t) => {
  for (const row of [
    { name: 'no PKCE', parameters: without('code_challenge', 'code_challenge_method'), error: 'invalid_request' },
    { name: 'plain PKCE', parameters: { ...request, code_challenge_method: 'plain' }, error: 'invalid_request' },
    {
      name: 'PKCE without a method, which would be plain',
      parameters: without('code_challenge_method'),
      error: 'invalid_request',
    },
    { name: 'implicit flow', parameters: { ...request, response_type: 'token' }, error: 'unsupported_response_type' },
    {
      name: 'hybrid flow',
      parameters: { ...request, response_type: 'code id_token', nonce: 'n' },
      error: 'unsupported_response_type',
    },
    { name: 'another resource', parameters: { ...request, resource: 'https://else.example' }, error: 'invalid_target' },
    { name: 'request object', parameters: { ...request, request: 'e30.e30.' }, error: 'request_not_supported' },
    {
      name: 'request by reference',
      parameters: { ...request, request_uri: 'https://evil.example/r' },
      error: 'request_uri_not_supported',
    },
  ]) {
    const response = await authorize(row.parameters);
    const location = new URL(response.headers.get('location') ?? 'none:');
    const said = new URLSearchParams(location.search || location.hash.slice(1));
    t.equal(`${location.origin}${location.pathname}`, redirectUri, row.name);
    t.equal(said.get('error'), row.error, row.name);
    t.equal(said.get('state'), 's1', `${row.name}: state comes back`);
    t.equal(said.get('iss'), issuer, `${row.name}: and says from whom`);
  }
});

t.test('authorization requests that are never redirected', async (t) => {
  for (const [client, uri] of [
    ['armature-cli', 'http://127.0.0.1:45123/other'],
    ['armature-cli', 'http://127.0.0.1:45123/callback/'],
    ['armature-cli', 'http://127.0.0.1:45123/callback?x=1'],
    ['armature-cli', 'http://127.0.0.1:45123/callback#x'],
    ['armature-cli', 'http://127.0.0.1:45123/a/../callback'],
    ['armature-cli', 'http://127.0.0.1@evil.example/callback'],
    ['armature-cli', 'http://user@127.0.0.1:45123/callback'],
    ['armature-cli', 'http://127.0.0.1.evil.example/callback'],
    ['armature-cli', 'http://localhost:45123/callback'],
    ['armature-cli', 'https://127.0.0.1:45123/callback'],
    ['armature-cli', 'http://127.0.0.1:45123/CALLBACK'],
    ['web-shop', 'https://shop.example:8443/callback'],
    ['web-shop', 'https://shop.example/callback?next=/'],
    ['web-shop', 'https://shop.example.evil.example/callback'],
    ['web-shop', 'https://SHOP.example/callback'],
    ['web-shop', 'http://shop.example/callback'],
    ['web-shop', 'javascript:alert(1)'],
  ] as const) {
    const response = await authorize({ ...request, client_id: client, redirect_uri: uri });
    t.equal(response.status, 400, `${client} ${uri}`);
    t.equal(response.headers.get('location'), null);
    t.match(await response.text(), 'invalid_redirect_uri');
  }
  const unknown = await authorize({ ...request, client_id: 'unknown' });
  t.equal(unknown.status, 400);
  t.match(await unknown.text(), 'invalid_client');
  const none = await authorize(without('redirect_uri'));
  t.equal(none.headers.get('location'), null, 'a redirect_uri is always required');
});

t.test('codes that are not redeemed', async (t) => {
  const codeFrom = async () => {
    const { back, checks } = await signInWith({ config });
    const code = new URL(back.url).searchParams.get('code') ?? '';
    return {
      grant_type: 'authorization_code',
      code,
      redirect_uri: redirectUri,
      code_verifier: checks.pkceCodeVerifier,
    };
  };
  for (const row of [
    { name: 'wrong verifier', change: { code_verifier: oidc.randomPKCECodeVerifier() }, error: 'invalid_grant' },
    { name: 'no verifier', change: { code_verifier: '' }, error: 'invalid_grant' },
    { name: 'the challenge itself as verifier', change: { code_verifier: challenge }, error: 'invalid_grant' },
    {
      name: 'another port of the redirect',
      change: { redirect_uri: 'http://127.0.0.1:45124/callback' },
      error: 'invalid_grant',
    },
    { name: 'another program', change: { client_id: 'web-shop' }, error: 'invalid_grant' },
    { name: 'no program', change: { client_id: '' }, error: 'invalid_request' },
    { name: 'an invented code', change: { code: 'x'.repeat(43) }, error: 'invalid_grant' },
    { name: 'another grant type', change: { grant_type: 'password' }, error: 'unsupported_grant_type' },
  ]) {
    const response = await token({ client_id: 'armature-cli', ...(await codeFrom()), ...row.change });
    t.match(await response.json(), { error: row.error }, row.name);
    t.ok(response.status === 400 || response.status === 401, row.name);
  }
  const good = { client_id: 'armature-cli', ...(await codeFrom()) };
  t.equal((await token(good)).status, 200, 'the same without any fault is redeemed');
  const late = { client_id: 'armature-cli', ...(await codeFrom()) };
  // The test needs the clock to pass: the code expires after three seconds.
  const issuedAt = Date.now();
  await until('the code to expire', () => Date.now() > issuedAt + 3_500 || undefined);
  t.match(await (await token(late)).json(), { error: 'invalid_grant' }, 'an expired code');
});

t.test('a reused code revokes its tokens', async (t) => {
  const { back, checks } = await signInWith({ config });
  const tokens = await oidc.authorizationCodeGrant(config, new URL(back.url), checks);
  await t.rejects(oidc.authorizationCodeGrant(config, new URL(back.url), checks), { error: 'invalid_grant' } as never);
  await t.rejects(oidc.refreshTokenGrant(config, tokens.refresh_token ?? ''), { error: 'invalid_grant' } as never);
});

t.test('state, nonce and issuer are what the program sent', async (t) => {
  const { back, checks } = await signInWith({ config });
  t.equal(new URL(back.url).searchParams.get('iss'), issuer, 'a program that knows two servers can tell them apart');
  await t.rejects(oidc.authorizationCodeGrant(config, new URL(back.url), { ...checks, expectedState: 'another' }));
  await t.rejects(oidc.authorizationCodeGrant(config, new URL(back.url), { ...checks, expectedNonce: 'another' }));
});

t.test('refresh tokens belong to one program', async (t) => {
  const { back, checks } = await signInWith({ config });
  const tokens = await oidc.authorizationCodeGrant(config, new URL(back.url), checks);
  await t.rejects(oidc.refreshTokenGrant(web, tokens.refresh_token ?? ''), { error: 'invalid_grant' } as never);
  t.ok((await oidc.refreshTokenGrant(config, tokens.refresh_token ?? '')).access_token, 'the attempt did not cost it');
});

t.test('assertions that do not authenticate a program', async (t) => {
  const admin = await identity.as('admin');
  const { publicJwk, privateKey } = await programKey();
  await admin.createServiceAccount({ accountId: 'robot', displayName: 'Robot', publicJwk });
  const send = async (client_assertion: string) =>
    token({
      grant_type: 'client_credentials',
      client_assertion_type: 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer',
      client_assertion,
    });
  const right = { clientId: 'robot', audience: issuer };
  for (const row of [
    { name: 'for another server', claims: { ...right, audience: 'https://elsewhere.example' } },
    { name: 'expired', claims: { ...right, expiresInS: -60 } },
    { name: 'of another program', claims: { ...right, clientId: 'armature-cli' } },
    { name: 'of an unknown client', claims: { ...right, clientId: 'unknown' } },
  ]) {
    const response = await send(await assertion(privateKey, row.claims));
    t.match(await response.json(), { error: 'invalid_client' }, row.name);
  }
  const unsigned = `${Buffer.from('{"alg":"none"}').toString('base64url')}.${(await assertion(privateKey, right)).split('.')[1]}.`;
  t.match(await (await send(unsigned)).json(), { error: 'invalid_client' }, 'not signed');
  const once = await assertion(privateKey, right);
  const responses = await Promise.all(Array.from({ length: 20 }, () => send(once)));
  t.equal(responses.filter(({ status }) => status === 200).length, 1, 'one assertion twenty times at once serves once');
  const impostor = await token({ grant_type: 'client_credentials', client_id: 'armature-cli' });
  t.match(
    await impostor.json(),
    { error: /invalid_request|unauthorized_client/ },
    'a public client has no credentials',
  );
});

t.test('sign-in forms are accepted only from our page, in the browser that it was shown in', async (t) => {
  const begin = async () => {
    const user = browser();
    const url = oidc.buildAuthorizationUrl(config, { ...without('client_id', 'response_type') });
    const page = await user.follow(url.href);
    return { user, page, csrf: field(page.text, 'csrf') };
  };
  const { page, csrf } = await begin();
  const other = await begin();
  const forms = [
    { name: 'without any cookie', user: browser(), form: { csrf, ...ada }, status: 400 },
    { name: 'with the cookie of another sign-in', user: other.user, form: { csrf, ...ada }, status: 400 },
  ];
  for (const { name, user, form, status } of forms) {
    const response = await user.visit(page.url, form);
    t.equal(response.status, status, name);
    t.equal(response.headers.get('location'), null, name);
  }
  for (const [name, form] of [
    ['without the token', ada],
    ['with the token of another sign-in', { csrf: other.csrf, ...ada }],
    ['with an empty token', { csrf: '', ...ada }],
  ] as const) {
    const { user, page } = await begin();
    const response = await user.visit(page.url, form);
    t.equal(response.status, 403, name);
  }
  const { user, page: mine, csrf: own } = await begin();
  const signed = [...user.cookies].map(([cookie, { value }]) => `${cookie}=${value}`);
  const headers = { 'content-type': 'application/x-www-form-urlencoded', cookie: signed.join('; ') };
  const body = new URLSearchParams({ csrf: own, ...ada }).toString();
  const across = await fetchOnce(mine.url, {
    method: 'POST',
    headers: { ...headers, 'sec-fetch-site': 'cross-site' },
    body,
  });
  t.equal(across.status, 403, 'sent by a page of another site');
  const unsigned = signed.filter((pair) => !pair.includes('.sig')).join('; ');
  const tampered = await fetchOnce(mine.url, { method: 'POST', headers: { ...headers, cookie: unsigned }, body });
  t.equal(tampered.status, 400, 'with a cookie whose signature is gone');
  const good = await fetchOnce(mine.url, { method: 'POST', headers, body });
  t.equal(good.status, 303, 'the same without any fault is accepted');
});

t.test('every response has security headers', async (t) => {
  const user = browser();
  const url = oidc.buildAuthorizationUrl(config, { ...without('client_id', 'response_type') });
  const started = await user.visit(url.href);
  const page = await user.visit(new URL(started.headers.get('location') ?? '', issuer).href);
  const policy = page.headers.get('content-security-policy') ?? '';
  t.match(policy, "default-src 'none'");
  t.match(policy, "frame-ancestors 'none'");
  t.match(policy, /script-src(;|$)/, 'no script may run');
  t.notMatch(policy, 'unsafe-inline');
  t.match(policy, "form-action 'self' http://127.0.0.1:45123", 'the form may redirect to the program');
  t.equal(page.headers.get('cache-control'), 'no-store');
  t.equal(page.headers.get('x-frame-options'), 'DENY');
  t.equal(page.headers.get('x-content-type-options'), 'nosniff');
  t.notMatch(await page.text(), '<script');
  const back = await user.visit(started.url || new URL(started.headers.get('location') ?? '', issuer).href, {
    csrf: 'none',
    ...ada,
  });
  t.equal(back.headers.get('cache-control'), 'no-store');
  const cookies = started.headers.getSetCookie();
  t.ok(cookies.length >= 2);
  for (const cookie of cookies) {
    t.match(cookie.toLowerCase(), 'httponly');
    t.match(cookie.toLowerCase(), 'secure');
    t.match(cookie.toLowerCase(), /samesite=(lax|strict)/);
  }
  const wrong = await fetchOnce(`${issuer}/token`, { method: 'POST' });
  t.equal(wrong.headers.get('cache-control'), 'no-store');
});

t.test('what is too large or too slow is refused', async (t) => {
  const large = await fetchOnce(`${issuer}/token`, {
    method: 'POST',
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
    body: `code=${'x'.repeat(200_000)}`,
  });
  t.equal(large.status, 413);
  const headers = await fetchOnce(`${issuer}/jwks`, { headers: { 'x-large': 'x'.repeat(20_000) } });
  t.equal(headers.status, 431);
  const [host = '', port] = identity.service.http.split(':');
  const silent = connect(Number(port), host);
  const dribbling = tlsConnect({ port: Number(port), host, rejectUnauthorized: false });
  dribbling.write('POST /token HTTP/1.1\r\nHost: localhost\r\nX-Slow:');
  const ended = (socket: { once(event: 'close', listener: () => void): unknown; resume(): unknown }) =>
    new Promise<boolean>((resolve) => {
      socket.once('close', () => resolve(true));
      socket.resume();
    });
  for (const socket of [silent, dribbling]) socket.on('error', () => undefined);
  t.ok(await ended(silent), 'a handshake that never begins is ended');
  t.ok(dribbling.destroyed || (await ended(dribbling)), 'and so is a request that never ends');
});
