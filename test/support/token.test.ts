import { readFileSync, statSync } from 'node:fs';
import { createLocalJWKSet, decodeJwt, jwtVerify } from 'jose';
import t from 'tap';
import { openState } from '../../scripts/devmesh/state.ts';
import { ensureTokenKey, mintToken, tokenAudience, tokenFiles, tokenIssuer } from './token.ts';

t.test('a token verifies by the published keys', async (t) => {
  const state = openState(t.testdir());
  t.ok(await ensureTokenKey(state));
  t.notOk(await ensureTokenKey(state), 'the key stays');
  const { key, jwks } = tokenFiles(state);
  t.equal(statSync(key).mode & 0o777, 0o600);
  const published = JSON.parse(readFileSync(jwks, 'utf8'));
  t.equal(published.keys[0].d, undefined, 'the private half is not published');
  const token = await mintToken(state.dir, { subject: 'ada', expiresInSeconds: 60 });
  const { payload } = await jwtVerify(token, createLocalJWKSet(published), {
    algorithms: ['ES256'],
    issuer: tokenIssuer,
    audience: tokenAudience,
    typ: 'at+jwt',
  });
  t.equal(payload.sub, 'ada');
  t.equal(payload.exp! - payload.iat!, 60);
  t.match(payload, { jti: String, client_id: String });
});

t.test('a claim can be set wrong, or left out', async (t) => {
  const state = openState(t.testdir());
  await ensureTokenKey(state);
  const token = await mintToken(state.dir, {
    subject: 'ada',
    expiresInSeconds: -60,
    issuer: 'x',
    claims: { jti: undefined },
  });
  const { exp, iss, jti } = decodeJwt(token);
  t.ok(exp! < Date.now() / 1000);
  t.same([iss, jti], ['x', undefined]);
});
