// Signs people and programs in to a real identity, by armature token.

import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { decodeJwt, decodeProtectedHeader } from 'jose';
import t from 'tap';
import { testServers } from '../../../test/support/infra.ts';
import { startMesh } from '../../../test/support/service.ts';
import { type Ended, startArmature } from '../../cli/testbed.ts';
import { certificateFiles } from '../certificates.ts';
import { identityTrust, policyFile } from '../environment.ts';
import { commandLine, personPassword } from '../people.ts';
import { connectMysql } from '../servers/mysql.ts';
import { signInPerson } from './flows.ts';
import { httpsTo } from './https.ts';
import { keepToken, keptToken } from './token-cache.ts';

const dir = mkdtempSync(join(tmpdir(), 'armature-sign-in-'));
t.teardown(() => rmSync(dir, { recursive: true, force: true }));

const { state } = await testServers();
const { identity } = await startMesh(t, ['identity'], {}, { realIdentity: true });
const tokens = identityTrust(identity!.http);
const caFile = certificateFiles(state, 'ca').cert;
const mesh = {
  services: { identity: { name: 'identity', state: 'ready', restarts: 0, grpc: identity!.grpc, http: identity!.http } },
  certificates: { developer: certificateFiles(state, 'developer'), ca: caFile },
  tokens,
  policy: policyFile,
};
writeFileSync(join(dir, 'mesh.json'), JSON.stringify(mesh));
// Passwords follow from the secret, and identity was told those of the tests' state.
writeFileSync(join(dir, 'secret'), state.secret, { mode: 0o600 });

const print = (as: string): Promise<Ended> => startArmature(['token', '--as', as], dir).ended;

t.test('a person signs in, and is not asked again while the token lives', async (t) => {
  const first = await print('customer:ada');
  t.equal(first.code, 0, first.stderr);
  const token = first.stdout.trim();
  t.match(decodeProtectedHeader(token), { alg: 'ES256', typ: 'at+jwt' });
  t.match(decodeJwt(token), { sub: 'ada', iss: tokens.issuer, aud: 'armature', client_id: commandLine.clientId });
  t.equal(statSync(join(dir, 'tokens', 'user-ada.json')).mode & 0o777, 0o600);
  t.equal((await print('customer:ada')).stdout, first.stdout);
});

t.test('a call that needs a recent sign-in signs the person in again', async (t) => {
  const keptFile = join(dir, 'tokens', 'user-ada.json');
  const kept = readFileSync(keptFile, 'utf8');
  const database = await connectMysql(identity!.database!.url);
  t.teardown(() => database.end());
  // Times of sign-ins have whole seconds, so one in the second in which sessions end counts as later.
  const { auth_time: signedInAt } = decodeJwt(JSON.parse(kept).token);
  while (Math.floor(Date.now() / 1000) <= (signedInAt as number)) await sleep(20);
  await database.query("update account set sessions_ended_at = utc_timestamp(6) where user_id = 'ada'");
  const call = ['call', 'IdentityService/ExportUserData', '--data', '{"user_id":"ada"}', '--as', 'customer:ada'];
  const exported = await startArmature(call, dir).ended;
  t.equal(exported.code, 0, exported.stderr);
  t.match(exported.stderr, /ada signs in again: this needs a sign-in of the last 300 s/);
  t.match(exported.stdout, 'ada@example.org');
  t.not(readFileSync(keptFile, 'utf8'), kept);
});

t.test('a program signs in with a key of its own, and gets its account when it has none', async (t) => {
  const printed = await print('client:reports');
  t.equal(printed.code, 0, printed.stderr);
  t.match(decodeJwt(printed.stdout.trim()), { sub: 'reports', client_id: 'reports', aud: 'armature' });
  t.equal(statSync(join(dir, 'identity', 'reports.key.json')).mode & 0o777, 0o600);
  rmSync(join(dir, 'tokens', 'client-reports.json'));
  const again = await print('client:reports');
  t.match(decodeJwt(again.stdout.trim()), { sub: 'reports' }, 'the account stays');
});

const https = httpsTo('service:identity', caFile);
const ada = { issuer: tokens.issuer, https, ...commandLine, email: 'ada@example.org' };

t.test('a wrong password is said to be one', async (t) => {
  await t.rejects(signInPerson({ ...ada, password: 'not hers' }), {
    message: /does not let ada@example\.org in \(401\): That address and password do not belong together/,
  });
});

t.test('an unknown program is told what identity says', async (t) => {
  const signing = { ...ada, clientId: 'unknown', password: personPassword(state, 'ada') };
  await t.rejects(signInPerson(signing), { message: /responded 400: .*not known here/ });
});

t.test('nothing is said to a server of another workload or authority', async (t) => {
  const ask = (to: ReturnType<typeof httpsTo>) => to(`${tokens.issuer}/jwks`, { method: 'GET', headers: {} });
  t.equal((await ask(https)).status, 200);
  await t.rejects(ask(httpsTo('service:orders', caFile)), {
    cause: { message: 'expected service:orders on the other end, found service:identity' },
  });
  const other = certificateFiles(state, 'developer').cert;
  await t.rejects(ask(httpsTo('service:identity', other)), { message: /does not respond/ });
});

t.test('tokens are kept until a minute before they end', async (t) => {
  const kept = t.testdir();
  const owner = { kind: 'user', id: 'ada' } as const;
  const now = Date.now();
  t.equal(keptToken(kept, 'https://a', owner), undefined);
  keepToken(kept, 'https://a', owner, { token: 'x', expiresAt: now + 120_000 });
  t.equal(keptToken(kept, 'https://a', owner, now), 'x');
  t.equal(keptToken(kept, 'https://a', owner, now + 59_000), 'x');
  t.equal(keptToken(kept, 'https://a', owner, now + 60_000), undefined);
  t.equal(keptToken(kept, 'https://b', owner, now), undefined, 'of another issuer');
  t.equal(keptToken(kept, 'https://a', { kind: 'client', id: 'ada' }, now), undefined, 'of another owner');
});
