import { createPrivateKey, generateKeyPairSync, randomUUID } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { inspect } from 'node:util';
import { decodeJwt, exportJWK } from 'jose';
import t from 'tap';
import { programKey, startIdentity } from '../services/identity/testbed.ts';
import { secretText } from '../test/support/arbitrary.ts';
import { developerCredentials } from '../test/support/service.ts';
import {
  type ClientCredentialsOptions,
  clientCredentials,
  clientCredentialsConfig,
  identityClient,
  RpcError,
} from './index.ts';

const lifeS = 5;
const identity = await startIdentity(t, { env: { ARMATURE_ACCESS_TOKEN_S: String(lifeS) } });
const { issuer, service } = identity;
const { certFile, keyFile, caFile } = await developerCredentials();
const admin = await identity.as('admin');
const room = mkdtempSync(join(tmpdir(), 'armature-token-'));
t.teardown(() => rmSync(room, { recursive: true, force: true }));

/** Everything that no error may contain. */
const secrets = [secretText];

/** Registers a program. Returns its options. */
async function program(): Promise<ClientCredentialsOptions> {
  const clientId = `program-${randomUUID().slice(0, 8)}`;
  const { publicJwk, privateKey } = await programKey();
  const jwk = await exportJWK(privateKey);
  secrets.push(jwk.d!);
  const file = join(room, `${clientId}.json`);
  writeFileSync(file, JSON.stringify(jwk));
  await admin.createServiceAccount({ accountId: clientId, displayName: clientId, publicJwk });
  return { issuer, clientId, keyFile: file, caFile };
}

/** Waits for the token that a call would get, and checks that it is still valid. */
async function tokenOf(source: ReturnType<typeof clientCredentials>): Promise<string> {
  const token = await source.token();
  secrets.push(token);
  if (decodeJwt(token).exp! * 1000 <= Date.now()) t.fail('a token that has ended');
  return token;
}

const failureOf = async (source: ReturnType<typeof clientCredentials>): Promise<RpcError> => {
  const error: unknown = await Promise.resolve(source.token()).catch((thrown: unknown) => thrown);
  t.ok(error instanceof RpcError);
  const shown = inspect(error, { depth: 10, showHidden: true });
  for (const secret of secrets) t.notOk(shown.includes(secret), 'no secret in an error');
  t.notMatch(shown, /eyJ/, 'no assertion in an error');
  return error as RpcError;
};

/** Sends a signal to the service's process; it is thawed again when the test ends. */
async function whileFrozen<T>(work: () => Promise<T>): Promise<T> {
  service.process.kill('SIGSTOP');
  try {
    return await work();
  } finally {
    service.process.kill('SIGCONT');
  }
}

t.test('calls that wait share one request', async (t) => {
  const source = clientCredentials(await program());
  const tokens = await Promise.all(Array.from({ length: 50 }, () => tokenOf(source)));
  t.equal(new Set(tokens).size, 1);
  t.equal(source.token(), tokens[0], 'a valid token is returned without a promise');
});

t.test('a client sends the token, and asks for another one when a server refuses it', async (t) => {
  const source = clientCredentials(await program());
  const first = await tokenOf(source);
  // This instance trusts the issuer of the tests.
  const client = identityClient({ addresses: [service.grpc], tls: { certFile, keyFile, caFile }, token: source });
  t.teardown(() => client.close());
  await t.rejects(client.listUsers({}), { code: 'UNAUTHENTICATED', reason: 'CREDENTIALS_INVALID' });
  const [second, third] = await Promise.all([tokenOf(source), tokenOf(source)]);
  t.not(second, first);
  t.equal(third, second);
  source.refused(first);
  t.equal(source.token(), second, 'what is said of an older token changes nothing');
});

t.test('a token is replaced in the background before it ends', async (t) => {
  const source = clientCredentials(await program());
  const seen = new Set<string>();
  for (const deadline = Date.now() + 30_000; seen.size < 3 && Date.now() < deadline; await sleep(20)) {
    const token = source.token();
    if (seen.size > 0 && typeof token !== 'string') t.fail('a call waits');
    seen.add(await tokenOf(source));
  }
  const [first, second, third] = [...seen].map((token) => decodeJwt(token));
  t.ok(second!.iat! < first!.exp! && third!.iat! < second!.exp!, 'before its end');
  t.ok(second!.iat! > first!.iat! + 1, 'not at once');
});

t.test('identity is away for a while', async (t) => {
  const source = clientCredentials(await program());
  const since = Date.now();
  const first = await tokenOf(source);
  await whileFrozen(async () => {
    t.equal(source.token(), first, 'a token that is valid stays in use');
    await sleep(0.6 * lifeS * 1000);
    const beside = await Promise.race([source.token(), 'it waits']);
    if (Date.now() - since < 0.7 * lifeS * 1000) t.equal(beside, first, 'also while its successor is waited for');
    await sleep(0.3 * lifeS * 1000);
    t.match(await failureOf(source), {
      code: 'UNAVAILABLE',
      reason: 'DEPENDENCY_UNAVAILABLE',
      message: /does not respond \(nothing within 5000 ms\)/,
      metadata: { dependency: 'identity' },
    });
    await t.rejects(async () => source.token({ signal: AbortSignal.timeout(100) }), { name: 'TimeoutError' });
  });
  t.not(await tokenOf(source), first, 'the next call has a token again');
});

t.test('a call to an issuer that is not there fails in time', async (t) => {
  const source = clientCredentials({ ...(await program()), issuer: 'https://127.0.0.1:1' });
  const since = performance.now();
  const error = await failureOf(source);
  t.match(error, { code: 'UNAVAILABLE', message: /https:\/\/127\.0\.0\.1:1 does not respond \(ECONNREFUSED\)/ });
  t.ok(performance.now() - since < 4_000);
  t.ok(error.details.retryDelayMs! > 0);
  const client = identityClient({ addresses: [service.grpc], tls: { certFile, keyFile, caFile }, token: source });
  t.teardown(() => client.close());
  await t.rejects(client.listUsers({}), {
    name: 'RpcError',
    code: 'UNAVAILABLE',
    message: /^\/arm.* was not sent: https/,
  });
});

t.test('a program that identity does not know is refused at once, and let in when it is known', async (t) => {
  const options = await program();
  const { publicJwk } = await programKey();
  const clientId = `late-${randomUUID().slice(0, 8)}`;
  const late = clientCredentials({ ...options, clientId });
  const refused = {
    code: 'UNAUTHENTICATED',
    reason: 'CREDENTIALS_INVALID',
    message: /\(401 invalid_client\): it has no/,
  };
  t.match(await failureOf(late), refused);
  await admin.createServiceAccount({ accountId: clientId, displayName: clientId, publicJwk });
  const other = clientCredentials({ ...(await program()), clientId });
  t.match(await failureOf(other), refused, 'another key');
  await admin.disableServiceAccount({ accountId: options.clientId });
  t.match(await failureOf(clientCredentials(options)), refused, 'a disabled account');
});

t.test('the key file may be replaced, in PEM too', async (t) => {
  const options = await program();
  const jwk = createPrivateKey({ key: JSON.parse(readFileSync(options.keyFile, 'utf8')), format: 'jwk' });
  const pem = join(room, 'key.pem');
  writeFileSync(pem, jwk.export({ type: 'pkcs8', format: 'pem' }));
  const source = clientCredentials({ ...options, keyFile: pem });
  const first = await tokenOf(source);
  writeFileSync(pem, 'half a k');
  source.refused(first);
  t.not(await tokenOf(source), first, 'half a file is not used');
});

t.test('options that cannot be used', async (t) => {
  const options = await program();
  const file = (name: string, content: string) => {
    writeFileSync(join(room, name), content);
    return join(room, name);
  };
  const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ type: 'pkcs8', format: 'pem' });
  const noKey = /is not a private key on P-256, in PEM or as a JWK/;
  for (const [wrong, message] of [
    [{ issuer: 'http://localhost:7408' }, /issuer "http:\/\/localhost:7408" is not an https URL/],
    [{ issuer: undefined as never }, /issuer undefined is not an https URL/],
    [{ clientId: '' }, /clientId is empty/],
    [{ keyFile: '/nowhere/key' }, /keyFile \/nowhere\/key cannot be read \(ENOENT\)/],
    [{ caFile: '/nowhere/ca' }, /caFile \/nowhere\/ca cannot be read/],
    [{ keyFile: file('text', secretText) }, noKey],
    [{ keyFile: file('json', `{"d": ${secretText}`) }, noKey],
    [{ keyFile: file('rsa', String(rsa)) }, noKey],
  ] as const) {
    try {
      clientCredentials({ ...options, ...wrong });
      t.fail(`${message} was not thrown`);
    } catch (error) {
      t.match(error, { name: 'RpcError', code: 'INVALID_ARGUMENT', message });
      t.notMatch(inspect(error, { depth: 10, showHidden: true }), secretText);
    }
  }
  t.throws(() => clientCredentialsConfig({ ARMATURE_CLIENT_ID: 'reports' }), {
    name: 'ConfigError',
    message: /TOKEN_ISSUER is not set.*CLIENT_KEY_FILE is not set.*TLS_CA_FILE is not set/s,
  });
});

t.test('a server with the certificate of another service is refused', async (t) => {
  const source = clientCredentials({ ...(await program()), trustDomain: 'other.local' });
  t.match(await failureOf(source), { code: 'UNAVAILABLE', message: /expected service:identity on the other end/ });
});
