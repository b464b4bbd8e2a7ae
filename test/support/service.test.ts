import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { splitCa } from '@armature/runtime/credentials';
import t from 'tap';
import { connectMysql } from '../../scripts/devmesh/servers/mysql.ts';
import { developerCredentials, startMesh, startService, token } from './service.ts';
import { tokenIssuer } from './token.ts';

/** A program that does only what `startService` requires of a service. */
const program = `
import { createServer } from 'node:http';
import { renameSync, writeFileSync } from 'node:fs';
import { readFileSync } from 'node:fs';
import { createConnection } from ${JSON.stringify(import.meta.resolve('mysql2/promise'))};
const env = process.env;
const db = await createConnection({ uri: env.ARMATURE_DATABASE_URL, ssl: { ca: readFileSync(env.ARMATURE_DATABASE_CA_FILE) } });
if (process.argv[2] === 'migrate') {
  await db.query('CREATE TABLE thing (id INT PRIMARY KEY)');
  process.exit(0);
}
await db.query('SELECT * FROM thing');
if (env.BREAK) throw new Error('broken on purpose');
const server = createServer((_, response) => response.end(JSON.stringify(env))).listen(0, '127.0.0.1', () => {
  const admin = '127.0.0.1:' + server.address().port;
  const state = { name: 'fake', pid: process.pid, grpc: env.ARMATURE_GRPC_ADDRESS, admin };
  writeFileSync(env.ARMATURE_STATE_FILE + '.new', JSON.stringify(state));
  renameSync(env.ARMATURE_STATE_FILE + '.new', env.ARMATURE_STATE_FILE);
});
process.on('SIGTERM', () => { console.log('draining'); process.exit(0); });
`;

function fakeProgram(dir: string): string {
  mkdirSync(dir, { recursive: true });
  const path = join(dir, 'main.mts');
  writeFileSync(path, program);
  return path;
}

t.test('a service is migrated, started, and gets its environment', async (t) => {
  const service = await startService(t, 'orders', { program: fakeProgram(t.testdir()), peers: { catalog: 'x:1' } });
  const env = (await (await fetch(`http://${service.admin}`)).json()) as Record<string, string>;
  t.match(env, {
    ARMATURE_DATABASE_URL: splitCa(service.database!.url).url,
    ARMATURE_DATABASE_CA_FILE: /ca\.pem$/,
    ARMATURE_BROKER_URL: /^amqps:\/\/orders:/,
    ARMATURE_BROKER_CA_FILE: /ca\.pem$/,
    ARMATURE_PEER_CATALOG: 'x:1',
    ARMATURE_TRUST_DOMAIN: 'armature.local',
    ARMATURE_TLS_CERT_FILE: /orders\.pem$/,
    ARMATURE_TOKEN_JWKS: /jwks\.json$/,
    ARMATURE_TOKEN_ISSUER: tokenIssuer,
    ARMATURE_POLICY_FILE: /deploy\/policy\.csv$/,
  });
  t.equal(await service.stop(), 0);
  t.match(service.logs(), /draining/);
});

t.test('a service that cannot start shows its log', async (t) => {
  const start = startService(t, 'orders', { program: fakeProgram(t.testdir()), env: { BREAK: '1' } });
  await t.rejects(start, { message: /orders ended with 1 before it was ready.*broken on purpose/s });
});

t.test('a killed service restarts with its data', async (t) => {
  const path = fakeProgram(t.testdir());
  const first = await startService(t, 'orders', { program: path });
  const connection = await connectMysql(first.database!.url);
  t.teardown(() => connection.end());
  await connection.query('INSERT INTO thing VALUES (7)');
  t.equal(await first.kill(), 'SIGKILL');
  const second = await startService(t, 'orders', { program: path, database: first.database, vhost: first.vhost });
  t.not(second.pid, first.pid);
  t.match(await connection.query('SELECT * FROM thing'), [[{ id: 7 }]]);
});

t.test('services of a mesh get the addresses of the others', async (t) => {
  const mesh = await startMesh(t, ['orders', 'catalog'], { program: fakeProgram(t.testdir()) });
  const env = (await (await fetch(`http://${mesh.orders!.admin}`)).json()) as Record<string, string>;
  t.equal(env.ARMATURE_PEER_CATALOG, mesh.catalog!.grpc);
  t.equal(env.ARMATURE_PEER_ORDERS, undefined);
  t.match(env.ARMATURE_POLICY_FILE, /policy\.csv$/, 'without access among them, the policy is a file');
  t.equal(mesh.orders!.vhost!.name, mesh.catalog!.vhost!.name);
});

t.test('services follow access if the mesh has it, and trust its identity if a test asks for it', async (t) => {
  const program = fakeProgram(t.testdir());
  const environment = async ({ admin }: { admin: string }) =>
    (await (await fetch(`http://${admin}`)).json()) as Record<string, string>;
  const mesh = await startMesh(t, ['orders', 'access', 'identity'], { program }, { realIdentity: true });
  const [orders, access, identity] = await Promise.all([mesh.orders!, mesh.access!, mesh.identity!].map(environment));
  const issuer = `https://localhost:${identity!.ARMATURE_IDENTITY_ADDRESS!.split(':')[1]}`;
  t.match(orders, {
    ARMATURE_PEER_ACCESS: mesh.access!.grpc,
    ARMATURE_TOKEN_ISSUER: issuer,
    ARMATURE_TOKEN_JWKS: `${issuer}/jwks`,
  });
  t.equal(orders!.ARMATURE_POLICY_FILE, undefined);
  t.match(access, { ARMATURE_POLICY_SEED_FILE: /policy\.csv$/, ARMATURE_TOKEN_ISSUER: issuer });
  t.match(identity, { ARMATURE_IDENTITY_BOOTSTRAP_FILE: /bootstrap\.json$/, ARMATURE_TOKEN_ISSUER: issuer });
  const { orders: without } = await startMesh(t, ['orders', 'identity'], { program });
  t.match(await environment(without!), { ARMATURE_TOKEN_ISSUER: tokenIssuer, ARMATURE_TOKEN_JWKS: /jwks\.json$/ });
  await t.rejects(startMesh(t, ['orders'], { program }, { realIdentity: true }), { message: /needs identity/ });
});

t.test('credentials', async (t) => {
  const { cert, key, ca } = await developerCredentials();
  for (const [pem, kind] of [
    [cert, 'CERTIFICATE'],
    [ca, 'CERTIFICATE'],
    [key, 'PRIVATE KEY'],
  ] as const) {
    t.match(pem.toString(), `-----BEGIN ${kind}-----`);
  }
  t.match(await token('ada'), /^[\w-]+\.[\w-]+\.[\w-]+$/);
});
