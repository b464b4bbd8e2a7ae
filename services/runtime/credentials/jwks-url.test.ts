import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { exportJWK, generateKeyPair, SignJWT } from 'jose';
import t, { type Test } from 'tap';
import { workloadCertificate } from '../../../test/support/service.ts';
import { RpcError } from '../errors/errors.ts';
import { createLogger } from '../telemetry/log.ts';
import { until } from '../testing/policy.ts';
import { keyUrl } from './jwks-url.ts';
import { lastGoodCopy } from './last-good-copy.ts';
import { tokenVerifier } from './tokens.ts';

const log = createLogger('test', 'fatal');
const issuer = 'https://localhost:7408';
const [old, fresh] = [await generateKeyPair('ES256'), await generateKeyPair('ES256')];
const jwkOf = async (kid: string, { publicKey }: typeof old) => ({
  ...(await exportJWK(publicKey)),
  kid,
  alg: 'ES256',
});
const [oldJwk, freshJwk] = [await jwkOf('old', old), await jwkOf('fresh', fresh)];
const setOf = (...keys: object[]) => JSON.stringify({ keys });

const tokenBy = (kid: string, { privateKey }: typeof old = old) => {
  const seconds = Math.floor(Date.now() / 1000);
  const claims = { iss: issuer, aud: 'armature', sub: 'ada', client_id: 'web', iat: seconds, exp: seconds + 300 };
  return new SignJWT(claims).setProtectedHeader({ alg: 'ES256', typ: 'at+jwt', kid }).sign(privateKey);
};

type Respond = (request: IncomingMessage, response: ServerResponse) => void;
const sends =
  (body: string): Respond =>
  (_request, response) =>
    response.end(body);

async function setUp(
  t: Test,
  {
    respond = sends(setOf(oldJwk)),
    as = 'identity',
    everyMs,
  }: { respond?: Respond; as?: string; everyMs?: number } = {},
) {
  const { cert, key, caFile } = await workloadCertificate(as);
  const state = { respond, fetches: 0 };
  const server = createServer({ cert, key }, (request, response) => {
    state.fetches += 1;
    state.respond(request, response);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  const clock = { ms: 0 };
  const file = join(t.testdir({}), 'keys');
  const start = async () => {
    const keys = await keyUrl({
      url: `https://127.0.0.1:${(server.address() as AddressInfo).port}/jwks`,
      caFile,
      expectWorkload: 'service:identity',
      trustDomain: 'armature.local',
      copy: lastGoodCopy(file, log),
      log,
      now: () => clock.ms,
      ...(everyMs === undefined ? {} : { everyMs }),
    });
    t.teardown(() => keys.stop());
    return { keys, verifier: tokenVerifier({ issuer, audience: 'armature', keys }) };
  };
  return { state, clock, start };
}

/** The code and reason of a refusal; "ok" when the token was accepted. */
async function verdict(verifier: ReturnType<typeof tokenVerifier>, token: string): Promise<string> {
  try {
    await verifier.verify(token);
    return 'ok';
  } catch (error) {
    if (!(error instanceof RpcError)) throw error;
    if (error.code === 'UNAVAILABLE' && !error.details.retryDelayMs) return 'UNAVAILABLE without a time to come back';
    return error.code;
  }
}

t.test('verifies with the keys that were fetched', async (t) => {
  const { state, start } = await setUp(t);
  const { keys, verifier } = await start();
  t.equal(await verdict(verifier, await tokenBy('old')), 'ok', 'the first one waits for the keys');
  t.equal(keys.ready(), true);
  t.equal(state.fetches, 1);
});

t.test('1,000 unknown keys are one fetch, and none within 5 s of the last', async (t) => {
  const { state, clock, start } = await setUp(t);
  const { verifier } = await start();
  await verdict(verifier, await tokenBy('old'));
  const unknown = await Promise.all(Array.from({ length: 1_000 }, (_, index) => tokenBy(`unknown-${index}`)));
  const verdicts = async () => new Set(await Promise.all(unknown.map((token) => verdict(verifier, token))));
  clock.ms += 4_999;
  t.strictSame([...(await verdicts())], ['UNAUTHENTICATED']);
  t.equal(state.fetches, 1, 'the keys are fresh, so no key has this id');
  clock.ms += 1;
  t.strictSame([...(await verdicts())], ['UNAUTHENTICATED']);
  t.equal(state.fetches, 2);
});

t.test('a new key is found, and one that was withdrawn is forgotten with the tokens it verified', async (t) => {
  const { state, clock, start } = await setUp(t);
  const { verifier } = await start();
  const token = await tokenBy('old');
  t.equal(await verdict(verifier, token), 'ok');
  state.respond = sends(setOf(freshJwk));
  clock.ms += 5_000;
  t.equal(await verdict(verifier, await tokenBy('fresh', fresh)), 'ok');
  t.equal(await verdict(verifier, token), 'UNAUTHENTICATED');
});

t.test(
  'unchanged keys are not sent again, and a revoked key is refused without a token that asks for it',
  async (t) => {
    let set = setOf(oldJwk, freshJwk);
    const statuses: number[] = [];
    const respond: Respond = (request, response) => {
      const tag = `"${Buffer.byteLength(set)}"`;
      const status = request.headers['if-none-match'] === tag ? 304 : 200;
      statuses.push(status);
      response.writeHead(status, { etag: tag }).end(status === 200 ? set : undefined);
    };
    const { state, clock, start } = await setUp(t, { respond, everyMs: 20 });
    const { keys, verifier } = await start();
    const token = await tokenBy('old');
    t.equal(await verdict(verifier, token), 'ok');
    await until('two more fetches', () => state.fetches >= 3);
    t.strictSame(statuses.slice(0, 3), [200, 304, 304]);
    clock.ms += 3_000_000;
    const before = state.fetches;
    await until('another fetch at this time', () => state.fetches >= before + 2);
    clock.ms += 3_000_000;
    t.equal(await verdict(verifier, await tokenBy('fresh', fresh)), 'ok', 'a 304 confirms the keys');
    let changes = 0;
    keys.onChange(() => changes++);
    set = setOf(freshJwk);
    await until('the change', () => changes === 1);
    clock.ms += 1;
    t.equal(await verdict(verifier, token), 'UNAUTHENTICATED');
  },
);

t.test('without keys the outcome for a token is UNAVAILABLE, until there are some', async (t) => {
  const { state, start } = await setUp(t, { respond: (_request, response) => response.writeHead(503).end() });
  const { keys, verifier } = await start();
  const token = await tokenBy('old');
  t.equal(await verdict(verifier, token), 'UNAVAILABLE');
  t.equal(keys.ready(), false);
  t.match(keys.problem(), /^https:.* responded 503$/);
  state.respond = sends(setOf(oldJwk));
  await until('keys are there', () => keys.ready());
  t.equal(keys.problem(), '');
  t.equal(await verdict(verifier, token), 'ok');
});

t.test('when fetching fails, keys stay, and the outcome for an unknown key is UNAVAILABLE', async (t) => {
  const { state, clock, start } = await setUp(t);
  const { verifier } = await start();
  await verdict(verifier, await tokenBy('old'));
  state.respond = (request) => request.destroy();
  clock.ms += 5_000;
  t.equal(await verdict(verifier, await tokenBy('fresh', fresh)), 'UNAVAILABLE');
  t.equal(await verdict(verifier, await tokenBy('old')), 'ok');
  clock.ms += 3_600_000;
  t.equal(await verdict(verifier, `${await tokenBy('old')}`), 'UNAVAILABLE', 'but for an hour at most');
});

t.test('takes no keys from', async (t) => {
  const tooLong = ' '.repeat(256 * 1024);
  for (const row of [
    { name: 'a redirect', respond: (_, r) => r.writeHead(302, { location: '/elsewhere' }).end(setOf(oldJwk)) },
    { name: 'a 304 to a request without If-None-Match', respond: (_, r) => r.writeHead(304).end() },
    { name: 'an error', respond: (_, r) => r.writeHead(500).end(setOf(oldJwk)) },
    { name: 'more than 256 KiB', respond: (_, r) => r.end(setOf(oldJwk) + tooLong) },
    { name: 'a response that is cut off', respond: (_, r) => r.writeHead(200, { 'content-length': 9_999 }).end('{"k') },
    { name: 'no JSON', respond: sends('<html>') },
    { name: 'a set without keys', respond: sends(setOf()) },
    { name: 'a private key', respond: sends(setOf({ ...oldJwk, d: 'AAAA' })) },
    { name: 'another service of the mesh', as: 'catalog' },
  ] as { name: string; respond?: Respond; as?: string }[]) {
    t.test(row.name, async (t) => {
      const { start } = await setUp(t, row);
      const { keys, verifier } = await start();
      t.equal(await verdict(verifier, await tokenBy('old')), 'UNAVAILABLE');
      t.equal(keys.ready(), false);
    });
  }
});

t.test('a restart goes on with the copy', async (t) => {
  const { state, start } = await setUp(t);
  const first = await start();
  await verdict(first.verifier, await tokenBy('old'));
  await first.keys.stop();
  state.respond = (request) => request.destroy();
  const { verifier } = await start();
  t.equal(await verdict(verifier, await tokenBy('old')), 'ok');
});
