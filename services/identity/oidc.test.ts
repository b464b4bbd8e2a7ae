import { createRemoteJWKSet, customFetch, decodeProtectedHeader, jwtVerify } from 'jose';
import * as oidc from 'openid-client';
import t from 'tap';
import { ada, fetchOnce, programKey, startIdentity, tokensOf } from './testbed.ts';

const identity = await startIdentity(t);
const { issuer } = identity;
const config = await identity.client();
const jwks = createRemoteJWKSet(new URL(`${issuer}/jwks`), { [customFetch]: (url) => fetchOnce(url) });

t.test('the code flow', async (t) => {
  const { tokens } = await tokensOf({ config });
  const { payload, protectedHeader } = await jwtVerify(tokens.access_token, jwks, { issuer, audience: 'armature' });
  t.match(protectedHeader, { alg: 'ES256', typ: 'at+jwt' });
  t.match(payload, { sub: 'ada', client_id: 'armature-cli', aud: 'armature', scope: 'openid email profile' });
  t.equal((payload.exp ?? 0) - (payload.iat ?? 0), 600);
  t.match(tokens.claims(), { sub: 'ada', email: ada.email, email_verified: true, name: 'Ada', aud: 'armature-cli' });
  t.equal(decodeProtectedHeader(tokens.id_token ?? '').alg, 'ES256');
});

t.test('client credentials', async (t) => {
  const admin = await identity.as('admin');
  const { publicJwk, privateKey } = await programKey();
  await admin.createServiceAccount({ accountId: 'importer', displayName: 'Importer', publicJwk });
  const program = await identity.client('importer', oidc.PrivateKeyJwt(privateKey));
  const tokens = await oidc.clientCredentialsGrant(program);
  const { payload } = await jwtVerify(tokens.access_token, jwks, { issuer, audience: 'armature', typ: 'at+jwt' });
  t.match(payload, { sub: 'importer', client_id: 'importer' });
});
