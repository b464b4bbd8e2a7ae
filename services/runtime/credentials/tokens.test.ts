import { createHmac, randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { exportJWK, generateKeyPair, type JWTHeaderParameters, type JWTPayload, SignJWT } from 'jose';
import t, { type Test } from 'tap';
import { RpcError } from '../errors/errors.ts';
import { keyFile } from './jwks.ts';
import { tokenVerifier, type VerifiedToken } from './tokens.ts';

type Key = Awaited<ReturnType<typeof generateKeyPair>>['privateKey'];

const issuer = 'https://identity.armature.local';
const startMs = Date.parse('2026-01-02T03:04:05Z');
const nowSeconds = startMs / 1000;

const es256 = await generateKeyPair('ES256', { extractable: true });
const stranger = await generateKeyPair('ES256', { extractable: true });
const rs256 = await generateKeyPair('RS256', { extractable: true });
const publicJwk = { ...(await exportJWK(es256.publicKey)), kid: 'k1', alg: 'ES256', use: 'sig' };
const strangerJwk = { ...(await exportJWK(stranger.publicKey)), kid: 'k2', alg: 'ES256', use: 'sig' };
const rsaJwk = { ...(await exportJWK(rs256.publicKey)), kid: 'rsa', alg: 'RS256', use: 'sig' };

const goodClaims: JWTPayload = {
  iss: issuer,
  aud: 'armature',
  sub: 'ada',
  client_id: 'web',
  iat: nowSeconds,
  exp: nowSeconds + 300,
};
const goodHeader: JWTHeaderParameters = { alg: 'ES256', typ: 'at+jwt', kid: 'k1' };

function sign(claims: JWTPayload = {}, header: Partial<JWTHeaderParameters> = {}, key: Key = es256.privateKey) {
  const jwt = new SignJWT({ ...goodClaims, ...claims }).setProtectedHeader({ ...goodHeader, ...header });
  return jwt.sign(key, { crit: { exp: true } });
}

const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url');

/** Makes a token in a form that no library would make. */
function forge(header: object, claims: object, signature: (input: string) => string): string {
  const input = `${encode(header)}.${encode(claims)}`;
  return `${input}.${signature(input)}`;
}

function setUp(t: Test, keys: object[] = [publicJwk, rsaJwk]) {
  const jwksFile = join(t.testdir({}), 'jwks.json');
  const clock = { ms: startMs };
  const publish = (published: object[]) => writeFileSync(jwksFile, JSON.stringify({ keys: published }));
  publish(keys);
  const make = (cacheSize?: number) =>
    tokenVerifier({
      issuer,
      audience: 'armature',
      keys: keyFile(jwksFile, () => clock.ms),
      now: () => clock.ms,
      cacheSize,
    });
  return { jwksFile, clock, publish, make };
}

/** Every refusal must look the same to the client; the cause is only logged. */
async function refusal(t: Test, verify: () => VerifiedToken | Promise<VerifiedToken>): Promise<string> {
  try {
    await verify();
  } catch (error) {
    if (!(error instanceof RpcError)) throw error;
    t.same(
      [error.code, error.reason, error.message, error.metadata, error.details],
      ['UNAUTHENTICATED', 'CREDENTIALS_INVALID', 'no valid credentials', {}, {}],
      'says the same as every other refusal',
    );
    return (error.cause as Error).message;
  }
  t.fail('the token was accepted');
  return '';
}

t.test('accepts', async (t) => {
  for (const row of [
    { name: 'an access token', claims: {} },
    { name: 'one that expired 4 s ago', claims: { exp: nowSeconds - 4 } },
    { name: 'one issued 5 s ahead of our clock', claims: { iat: nowSeconds + 5 } },
    { name: 'one that begins 5 s ahead of our clock', claims: { nbf: nowSeconds + 5 } },
    { name: 'a subject of 64 characters', claims: { sub: 'a'.repeat(64) } },
    { name: 'a subject with dots and dashes', claims: { sub: '0198f.a_b-c' } },
    { name: 'claims we do not know', claims: { groups: ['admin'], jti: 'x' } },
    { name: 'a scope', claims: { scope: 'openid orders' }, scope: new Set(['openid', 'orders']) },
    { name: 'a scope for everything', claims: { scope: 'openid all' }, scope: 'all' as const },
    { name: 'one that names its sign-in', claims: { auth_time: nowSeconds - 86_400 }, signedInAt: nowSeconds - 86_400 },
    {
      name: 'one of a sign-in 5 s ahead of our clock',
      claims: { auth_time: nowSeconds + 5 },
      signedInAt: nowSeconds + 5,
    },
    {
      name: 'one of a client, whose sub is its client_id; it signs in for each token',
      claims: { sub: 'web', iat: nowSeconds - 60, auth_time: nowSeconds - 1 },
      kind: 'client',
      signedInAt: nowSeconds - 60,
    },
  ]) {
    t.test(row.name, async (t) => {
      const verified = await setUp(t)
        .make()
        .verify(await sign(row.claims));
      const claims = { ...goodClaims, ...row.claims };
      t.same(verified, {
        ...{ kind: row.kind ?? 'user', subject: claims.sub, expiresAtMs: (claims.exp! + 5) * 1000 },
        scope: row.scope ?? new Set(['']),
        ...(row.signedInAt === undefined ? {} : { signedInAtMs: row.signedInAt * 1000 }),
      });
    });
  }
});

t.test('refuses', async (t) => {
  const publicPem = JSON.stringify(publicJwk);
  const good = await sign();
  const [head, body, signature] = good.split('.') as [string, string, string];
  const rows: { name: string; token: string | Promise<string>; cause: RegExp }[] = [
    { name: 'nothing', token: '', cause: /./ },
    { name: 'words', token: 'not a token', cause: /./ },
    { name: 'two parts', token: `${head}.${body}`, cause: /./ },
    { name: 'random bytes', token: randomBytes(300).toString('base64url'), cause: /./ },
    { name: 'alg none', token: forge({ ...goodHeader, alg: 'none' }, goodClaims, () => ''), cause: /ES256/ },
    { name: 'alg NoNe', token: forge({ ...goodHeader, alg: 'NoNe' }, goodClaims, () => ''), cause: /ES256/ },
    { name: 'ES256 without a signature', token: forge(goodHeader, goodClaims, () => ''), cause: /signature/ },
    {
      name: 'a signature of zeroes',
      token: forge(goodHeader, goodClaims, () => Buffer.alloc(64).toString('base64url')),
      cause: /signature/,
    },
    {
      name: 'HS256 with the public key as its secret',
      token: forge({ ...goodHeader, alg: 'HS256' }, goodClaims, (input) =>
        createHmac('sha256', publicPem).update(input).digest('base64url'),
      ),
      cause: /ES256/,
    },
    {
      name: 'RS256, though the key file has that key',
      token: sign({}, { alg: 'RS256', kid: 'rsa' }, rs256.privateKey),
      cause: /ES256/,
    },
    { name: 'ES256 that names the RSA key', token: sign({}, { kid: 'rsa' }), cause: /key set/ },
    { name: "a stranger's signature", token: sign({}, {}, stranger.privateKey), cause: /signature/ },
    { name: "a stranger's key id", token: sign({}, { kid: 'k2' }, stranger.privateKey), cause: /key set/ },
    { name: 'no key id', token: sign({}, { kid: undefined }), cause: /names no key/ },
    { name: 'an empty key id', token: sign({}, { kid: '' }), cause: /names no key/ },
    {
      name: 'a changed claim',
      token: `${head}.${encode({ ...goodClaims, sub: 'admin' })}.${signature}`,
      cause: /signature/,
    },
    { name: 'jku', token: sign({}, { jku: 'https://evil.example/jwks' }), cause: /header says more/ },
    { name: 'x5u', token: sign({}, { x5u: 'https://evil.example/cert' }), cause: /header says more/ },
    { name: 'x5c', token: sign({}, { x5c: ['AAAA'] }), cause: /header says more/ },
    { name: 'jwk', token: sign({}, { kid: 'k2', jwk: strangerJwk }, stranger.privateKey), cause: /header says more/ },
    { name: 'crit', token: sign({}, { crit: ['exp'], exp: 1 }), cause: /header says more/ },
    { name: 'no type', token: sign({}, { typ: undefined }), cause: /typ/ },
    { name: 'an ID token', token: sign({ nonce: 'n' }, { typ: 'JWT' }), cause: /typ/ },
    { name: 'application/at+jwt', token: sign({}, { typ: 'application/at+jwt' }), cause: /typ/ },
    { name: 'AT+JWT', token: sign({}, { typ: 'AT+JWT' }), cause: /typ/ },
    { name: 'another issuer', token: sign({ iss: 'https://evil.example' }), cause: /"iss"/ },
    { name: 'our issuer with a slash', token: sign({ iss: `${issuer}/` }), cause: /"iss"/ },
    { name: 'no issuer', token: sign({ iss: undefined }), cause: /"iss"/ },
    { name: 'another audience', token: sign({ aud: 'someone-else' }), cause: /"aud"/ },
    { name: 'no audience', token: sign({ aud: undefined }), cause: /"aud"/ },
    { name: 'an array of our audience alone', token: sign({ aud: ['armature'] }), cause: /aud is not exactly/ },
    { name: 'our audience among others', token: sign({ aud: ['x', 'armature'] }), cause: /aud is not exactly/ },
    { name: 'expired by 6 s', token: sign({ exp: nowSeconds - 6 }), cause: /"exp"/ },
    { name: 'expired by the whole leeway', token: sign({ exp: nowSeconds - 5 }), cause: /"exp"/ },
    { name: 'no expiry', token: sign({ exp: undefined }), cause: /"exp"/ },
    { name: 'an expiry that is no whole number', token: sign({ exp: 1e300 }), cause: /whole number/ },
    { name: 'no time of issue', token: sign({ iat: undefined }), cause: /"iat"/ },
    { name: 'issued 6 s ahead of our clock', token: sign({ iat: nowSeconds + 6 }), cause: /iat is in the future/ },
    {
      name: 'a sign-in 6 s ahead of our clock',
      token: sign({ auth_time: nowSeconds + 6 }),
      cause: /auth_time is in the future/,
    },
    { name: 'a sign-in at a fraction', token: sign({ auth_time: 1.5 }), cause: /auth_time is not a whole number/ },
    { name: 'a sign-in as a text', token: sign({ auth_time: 'now' }), cause: /auth_time is not a whole number/ },
    { name: 'valid from 6 s ahead of our clock', token: sign({ nbf: nowSeconds + 6 }), cause: /"nbf"/ },
    { name: 'no subject', token: sign({ sub: undefined }), cause: /"sub"/ },
    { name: 'an empty subject', token: sign({ sub: '' }), cause: /sub is not/ },
    { name: 'a subject with a colon', token: sign({ sub: 'role:admin' }), cause: /sub is not/ },
    { name: 'a subject with a space', token: sign({ sub: 'ada bo' }), cause: /sub is not/ },
    { name: 'a subject that ends a line', token: sign({ sub: 'ada\n' }), cause: /sub is not/ },
    { name: 'an upper-case subject', token: sign({ sub: 'Ada' }), cause: /sub is not/ },
    { name: 'a subject of 65 characters', token: sign({ sub: 'a'.repeat(65) }), cause: /sub is not/ },
    { name: 'a subject that is a number', token: sign({ sub: 7 as never }), cause: /sub is not/ },
    { name: 'no client id', token: sign({ client_id: undefined }), cause: /"client_id"/ },
    { name: 'an empty client id', token: sign({ client_id: '' }), cause: /client_id is not/ },
    { name: 'a client id that is a number', token: sign({ client_id: 7 }), cause: /client_id is not/ },
    { name: 'more than 8 KiB, signed', token: sign({ filling: 'x'.repeat(8192) }), cause: /longer/ },
    { name: '64 KiB', token: 'x'.repeat(65536), cause: /longer/ },
  ];
  const { make } = setUp(t);
  const verifier = make();
  for (const row of rows) {
    t.test(row.name, async (t) => {
      const token = await row.token;
      t.match(await refusal(t, () => verifier.verify(token)), row.cause);
      t.match(await refusal(t, () => verifier.verify(token)), row.cause, 'and again: nothing was remembered');
    });
  }
});

t.test('remembers verified tokens until they expire', async (t) => {
  const { clock, make } = setUp(t);
  const verifier = make();
  const token = await sign();
  const first = verifier.verify(token);
  t.ok(first instanceof Promise, 'the first result takes time');
  t.equal(verifier.verify(token), first, 'a concurrent question shares the work');
  t.equal((await first).subject, 'ada');
  t.same(verifier.verify(token), await first, 'the second result is there at once');
  clock.ms = (nowSeconds + 300 + 5) * 1000 - 1;
  t.notOk(verifier.verify(token) instanceof Promise, 'up to the last millisecond of the leeway');
  clock.ms += 1;
  t.match(await refusal(t, () => verifier.verify(token)), /"exp"/, 'and not one longer');
});

t.test('remembers a bounded number', async (t) => {
  const { make } = setUp(t);
  const verifier = make(4);
  const tokens = await Promise.all(Array.from({ length: 8 }, (_, index) => sign({ jti: String(index) })));
  for (const token of tokens) await verifier.verify(token);
  const remembered = tokens.filter((token) => !(verifier.verify(token) instanceof Promise));
  t.ok(remembered.length >= 1 && remembered.length <= 4, `${remembered.length} of 8 are remembered`);
});

t.test('a refresh of the key file notices that a key is gone, without a token that asks for it', async (t) => {
  const { clock, publish, jwksFile } = setUp(t);
  const keys = keyFile(jwksFile, () => clock.ms);
  publish([strangerJwk]);
  await keys.refresh();
  t.equal(await keys.find('k1'), null);
  t.ok(await keys.find('k2'));
});

t.test('the key file', async (t) => {
  t.test('is read anew for an unknown key, at most every 5 s', async (t) => {
    const { clock, publish, make } = setUp(t);
    const verifier = make();
    const token = await sign({}, { kid: 'k2' }, stranger.privateKey);
    publish([publicJwk, strangerJwk]);
    clock.ms += 4_999;
    for (let attempt = 0; attempt < 1000; attempt++) {
      const result = verifier.verify(attempt === 0 ? token : await sign({}, { kid: `unknown-${attempt}` }));
      t.match(await refusal(t, () => result), /key set/);
    }
    clock.ms += 1;
    t.equal((await verifier.verify(token)).subject, 'ada', 'the new key counts 5 s after the last reading');
  });

  t.test('one request for keys serves all callers that wait', async (t) => {
    const { clock, publish, make } = setUp(t);
    const verifier = make();
    publish([publicJwk, strangerJwk]);
    clock.ms += 5_000;
    const tokens = await Promise.all(
      Array.from({ length: 50 }, (_, index) => sign({ jti: String(index) }, { kid: 'k2' }, stranger.privateKey)),
    );
    const results = await Promise.all(tokens.map((token) => verifier.verify(token)));
    t.equal(results.length, 50);
  });

  t.test('forgets the tokens of a key when the key is gone', async (t) => {
    const { clock, publish, make } = setUp(t);
    const verifier = make();
    const token = await sign();
    await verifier.verify(token);
    publish([strangerJwk]);
    clock.ms += 5_000;
    await verifier.verify(await sign({}, { kid: 'k2' }, stranger.privateKey));
    t.match(await refusal(t, () => verifier.verify(token)), /key set/);
  });

  t.test('remembers nothing that was being verified with a key while the key went', async (t) => {
    const { clock, publish, make } = setUp(t);
    const verifier = make();
    const tokens = await Promise.all(Array.from({ length: 300 }, (_, index) => sign({ jti: String(index) })));
    const afterwards = await sign({}, { kid: 'k2' }, stranger.privateKey);
    publish([strangerJwk]);
    clock.ms += 5_000;
    let rotated = false;
    const rotation = Promise.resolve(verifier.verify(afterwards)).finally(() => {
      rotated = true;
    });
    const asked: string[] = [];
    const results: Promise<unknown>[] = [];
    while (!rotated && asked.length < tokens.length) {
      const token = tokens[asked.length]!;
      asked.push(token);
      results.push(Promise.allSettled([verifier.verify(token)]));
      await setImmediate();
    }
    await rotation;
    await Promise.all(results);
    for (const token of asked) await refusal(t, () => verifier.verify(token));
  });

  t.test('keeps the keys it had when the file breaks', async (t) => {
    const { clock, jwksFile, make } = setUp(t);
    const verifier = make();
    const unknown = await sign({}, { kid: 'k2' }, stranger.privateKey);
    for (const broken of ['', '{"keys":', '{"keys":[]}', readFileSync(jwksFile, 'utf8').replace('"keys"', '"key"')]) {
      writeFileSync(jwksFile, broken);
      clock.ms += 5_000;
      await refusal(t, () => verifier.verify(unknown));
      t.equal((await verifier.verify(await sign({ jti: broken }))).subject, 'ada');
    }
  });

  const { jwksFile } = setUp(t);
  for (const row of [
    { name: 'missing', keys: null, problem: /ENOENT/ },
    { name: 'not JSON', text: 'keys', keys: [], problem: /jwks.json is not JSON/ },
    { name: 'without keys', keys: [], problem: /no key that verifies ES256/ },
    { name: 'with RSA keys only', keys: [rsaJwk], problem: /no key that verifies ES256/ },
    { name: 'with a key for encryption only', keys: [{ ...publicJwk, use: 'enc' }], problem: /no key/ },
    { name: 'with a private key', keys: [{ ...publicJwk, d: 'AAAA' }], problem: /keys\[0\] holds a private key/ },
    {
      name: 'with a shared secret',
      keys: [publicJwk, { kty: 'oct', k: 'AAAA' }],
      problem: /keys\[1\] holds a private/,
    },
    { name: 'with a key without id', keys: [{ ...publicJwk, kid: undefined }], problem: /keys\[0\] has no kid/ },
    { name: 'with one id twice', keys: [publicJwk, { ...strangerJwk, kid: 'k1' }], problem: /repeats the kid k1/ },
    { name: 'with 65 keys', keys: Array(65).fill(rsaJwk), problem: /65 keys/ },
    {
      name: 'with a point that is not on the curve',
      keys: [{ ...publicJwk, y: publicJwk.x }],
      problem: /keys\[0\] is not a valid key/,
    },
  ]) {
    t.test(`refuses to start with a file ${row.name}`, async (t) => {
      if (row.keys) writeFileSync(jwksFile, row.text ?? JSON.stringify({ keys: row.keys }));
      const file = row.keys ? jwksFile : `${jwksFile}.missing`;
      t.throws(() => keyFile(file), { message: row.problem });
    });
  }
});
