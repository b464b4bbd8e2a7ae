// Brings a whole mesh up and down, with small programs in the place of the services, on servers of its own.
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { inLongTier } from '../../test/support/tier.ts';
import { lockHolder } from './lock.ts';
import { identityOf, type Mesh, meshServices, readMesh } from './mesh.ts';
import { plainState } from './plain-path.ts';
import { identify, isAlive, signal, stoppedBySignal } from './processes.ts';
import { brokerUrl, databaseUrl, serviceAccounts, vhost } from './provision.ts';
import { BrokerApi } from './servers/broker-api.ts';
import { connectMysql, mysqlInstance } from './servers/mysql.ts';
import { rabbitmqInstance } from './servers/rabbitmq.ts';
import { openState, openTestState, repository } from './state.ts';
import { runsDirectory, stopEverything } from './stop.ts';
import { presentSupervisor, runningSupervisor, upLock } from './supervisor-process.ts';

const program = `
import { createServer } from 'node:http';
import { createServer as createTlsServer } from 'node:tls';
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { createConnection } from ${JSON.stringify(import.meta.resolve('mysql2/promise'))};
const env = process.env;
if (env.ARMATURE_DATABASE_URL) {
  const db = await createConnection({ uri: env.ARMATURE_DATABASE_URL, ssl: { ca: readFileSync(env.ARMATURE_DATABASE_CA_FILE) } });
  if (process.argv[2] === 'migrate') await db.query('CREATE TABLE IF NOT EXISTS thing (id INT PRIMARY KEY)');
  else await db.query('SELECT * FROM thing');
  await db.end();
}
if (process.argv[2] === 'migrate') process.exit(0);
const [host, port] = (env.ARMATURE_ADMIN_ADDRESS ?? env.ARMATURE_ACQUIRER_ADDRESS).split(':');
if (env.ARMATURE_GRPC_ADDRESS) {
  const [grpcHost, grpcPort] = env.ARMATURE_GRPC_ADDRESS.split(':');
  const [cert, key] = [env.ARMATURE_TLS_CERT_FILE, env.ARMATURE_TLS_KEY_FILE].map((file) => readFileSync(file));
  createTlsServer({ cert, key }, (socket) => socket.on('error', () => undefined)).listen(Number(grpcPort), grpcHost);
}
createServer((_, response) => response.end(JSON.stringify(env))).listen(Number(port), host, () => {
  writeFileSync(env.ARMATURE_STATE_FILE + '.new', JSON.stringify({ pid: process.pid }));
  renameSync(env.ARMATURE_STATE_FILE + '.new', env.ARMATURE_STATE_FILE);
});
process.on('SIGTERM', () => process.exit(0));
`;

// Under a path that neither shells nor the servers' own programs take without quotes.
const dir = join(runsDirectory(openTestState()), `up-${process.pid} a b ü%20'x`);
const state = openState(dir);
const services = join(dir, 'programs');
const env = { ...process.env, ARMATURE_RUN_DIR: dir, ARMATURE_SERVICES_DIR: services, ARMATURE_LIVENESS_MS: '1000' };
t.teardown(async () => {
  await stopEverything(state);
  rmSync(dir, { recursive: true, force: true });
});

function addService(name: string, text = program): void {
  mkdirSync(join(services, name), { recursive: true });
  writeFileSync(join(services, name, 'package.json'), '{"type":"module"}');
  writeFileSync(join(services, name, 'main.ts'), text);
}

function armature(...args: string[]): { status: number | null; output: string } {
  const main = join(repository, 'scripts', 'cli', 'main.ts');
  const run = spawnSync(process.execPath, [main, ...args], { env, encoding: 'utf8' });
  return { status: run.status, output: run.stdout + run.stderr };
}

const mesh = (): Mesh => readMesh(state)!;
const pids = () => Object.fromEntries(meshServices(mesh()).map(({ name, pid }) => [name, pid]));

async function until(what: string, condition: () => boolean): Promise<void> {
  const deadline = Date.now() + 20_000;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`waited in vain until ${what}`);
    await sleep(25);
  }
}

/** Runs `armature up` and interrupts it, as Ctrl-C does, once `condition` holds. */
async function interruptUp(condition: () => boolean): Promise<{ code: number | null; output: string }> {
  const main = join(repository, 'scripts', 'cli', 'main.ts');
  const child = spawn(process.execPath, [main, 'up'], { env, stdio: ['ignore', 'ignore', 'pipe'] });
  let output = '';
  child.stderr.setEncoding('utf8').on('data', (text) => (output += text));
  const closed = once(child, 'close');
  await until('armature up has come so far', condition);
  child.kill('SIGINT');
  const [code] = (await closed) as [number | null];
  return { code, output };
}

/** The processes of this state folder: its path, or that of the link to it, is in their command line or environment. */
function processesHere(): string[] {
  const paths = [dir, plainState(state).dir];
  return readdirSync('/proc').filter((pid) => {
    try {
      const text = ['cmdline', 'environ'].map((file) => readFileSync(`/proc/${pid}/${file}`, 'utf8')).join('\0');
      return Number(pid) !== process.pid && paths.some((path) => text.includes(path));
    } catch {
      // Not a process, or gone.
      return false;
    }
  });
}

t.test('status shows what an interrupted up has started', async (t) => {
  for (const name of ['orders', 'payments', 'acquirer']) addService(name);
  const { code, output } = await interruptUp(() => Boolean(mysqlInstance(state) && rabbitmqInstance(state)));
  t.equal(code, 130, output);
  t.match(output, /interrupted; what was started goes on: armature status shows it, armature down ends it\n$/);
  t.match(armature('status'), {
    status: 1,
    output: /^mysql +running .*^rabbitmq +running .*^Only servers run; armature up starts the services/ms,
  });
});

t.test('down ends what an interrupted up has started, at any point', inLongTier, async (t) => {
  const points: [string, () => boolean][] = [
    ['the lock', () => lockHolder(upLock(state)) !== undefined],
    ['the database', () => isAlive(mysqlInstance(state)?.process)],
    ['the broker', () => isAlive(rabbitmqInstance(state)?.broker)],
    ['migrations', () => existsSync(join(dir, 'logs', 'orders-migrate.log'))],
    ['the supervisor', () => presentSupervisor(state) !== undefined],
    ['a service', () => existsSync(join(dir, 'mesh.json'))],
  ];
  for (const [name, condition] of points) {
    rmSync(join(dir, 'logs', 'orders-migrate.log'), { force: true });
    t.equal((await interruptUp(condition)).code, 130, name);
    t.equal(armature('status').status, 1, name);
    t.equal(armature('down').status, 0, name);
    await until(`${name}: nothing is left`, () => processesHere().length === 0);
    t.match(armature('status').output, /^Nothing runs/, name);
  }
});

t.test('up starts everything', async (t) => {
  const { status, output } = armature('up');
  t.equal(status, 0, output);
  t.match(output, /ok services: payments orders acquirer \([\d.]+ s\)\nArmature is up/);
  t.same(Object.keys(mesh().services).sort(), ['orders', 'payments']);
  t.match(mesh(), {
    services: { orders: { name: 'orders', state: 'ready', restarts: 0, grpc: /^127\.0\.0\.1:\d+$/, admin: /:\d+$/ } },
    acquirer: { state: 'ready', http: /^127\.0\.0\.1:\d+$/ },
    mysql: { url: /^mysql:/ },
    rabbitmq: { url: /^amqps:/, management: /^https:/ },
    tokens: { issuer: /^https:\/\/localhost:\d+$/, jwks: /^https:\/\/localhost:\d+\/jwks$/ },
    policy: /policy\.csv$/,
  });
  t.ok(existsSync(mesh().certificates.ca));
  t.equal(statSync(join(dir, 'identity', 'bootstrap.json')).mode & 0o777, 0o600, 'so does what identity is told');
  t.equal(statSync(join(dir, 'mesh.json')).mode & 0o777, 0o600, 'it holds passwords');
});

t.test('every service is told of the others', async (t) => {
  const { orders, payments } = mesh().services;
  const told = (await (await fetch(`http://${orders!.admin}`)).json()) as Record<string, string>;
  t.equal(told.ARMATURE_PEER_PAYMENTS, payments!.grpc);
  t.match(told.ARMATURE_PEER_CATALOG, /^127\.0\.0\.1:\d+$/, 'also of those that are not there yet');
  t.equal(told.ARMATURE_PEER_ORDERS, undefined);
  const { issuer, jwks } = mesh().tokens;
  t.match(told, {
    ARMATURE_TOKEN_ISSUER: issuer,
    ARMATURE_TOKEN_JWKS: jwks,
    ARMATURE_PEER_ACCESS: /^127\.0\.0\.1:\d+$/,
    ARMATURE_COPY_DIR: join(dir, 'copies', 'orders'),
    ARMATURE_REQUEST_HASH_KEY: /^[\w-]{32}$/,
  });
  t.equal(told.ARMATURE_POLICY_FILE, undefined, 'policy comes from access');
});

t.test('a service may touch only what is its own', async (t) => {
  const { schema, user } = serviceAccounts('orders');
  const connection = await connectMysql(databaseUrl(state, mesh().mysql.url, user, schema));
  t.teardown(() => connection.end());
  t.match(await connection.query('SELECT * FROM thing'), [[]]);
  await t.rejects(connection.query('SELECT * FROM armature_payments.thing'), { message: /denied/ });
  await t.rejects(connection.query('DROP TABLE thing'), { message: /denied/ });
  const administrator = await connectMysql(mesh().mysql.url);
  t.teardown(() => administrator.end());
  const [accounts] = await administrator.query(
    "SELECT User FROM mysql.user WHERE User = '' OR (User = 'root' AND Host <> 'localhost')",
  );
  t.same(accounts, [], 'no anonymous account, no root from elsewhere');
  const api = new BrokerApi(mesh().rabbitmq.management);
  const users = (await api.request('GET', '/users')) as { name: string }[];
  t.notOk(users.some(({ name }) => name === 'guest'));
  t.match(await api.request('GET', `/permissions/${vhost}/orders`), { write: '^(armature\\.events|orders\\..*)$' });
  t.match(brokerUrl(state, mesh().rabbitmq.url, 'orders'), /^amqps:.*\/armature\?cacertfile=/);
});

t.test('up again changes nothing but starts what is new, and says what it waits for', async (t) => {
  const before = pids();
  const late = "performance.now() < 3_500 ? response.writeHead(503).end('waiting for policy: no rows') : ";
  addService('catalog', program.replace('response.end(JSON', `${late}response.end(JSON`));
  const { status, output } = armature('up');
  t.equal(status, 0, output);
  t.match(output, /… {2}services \([\d.]+ s so far\): catalog \(waiting for policy: no rows\)\n/);
  const { catalog, ...others } = pids();
  t.same(others, before);
  t.ok(catalog);
});

t.test('a crashed service comes back, and status says so', async (t) => {
  const { pid } = mesh().services.orders!;
  process.kill(pid!, 'SIGKILL');
  await until('orders is back', () => /^orders +ready +\d+ +1 /m.test(armature('status').output));
  t.not(mesh().services.orders?.pid, pid);
  t.equal(armature('status').status, 0);
  t.match(readFileSync(join(dir, 'logs', 'supervisor.log'), 'utf8'), /orders ended \(ended by SIGKILL\); restart 1/);
});

t.test('status says what does not respond, and why', async (t) => {
  const frozen = [mysqlInstance(state)!.process, rabbitmqInstance(state)!.broker, runningSupervisor(state)!];
  t.teardown(() => frozen.map((one) => signal(one, 'SIGCONT')));
  for (const one of frozen) signal(one, 'SIGSTOP');
  const { status, output } = armature('status');
  t.equal(status, 1);
  const [mysql, rabbitmq, supervisor] = frozen.map(({ pid }) => stoppedBySignal({ pid }));
  t.ok(output.includes(`no response (${mysql})`), output);
  t.ok(output.includes(`no response (${rabbitmq})`), output);
  t.ok(output.includes(`The supervisor does not respond: ${supervisor}.`), output);
});

t.test('up has a supervisor go on that a signal has stopped', async (t) => {
  const supervisor = runningSupervisor(state)!;
  signal(supervisor, 'SIGSTOP');
  const { status, output } = armature('up');
  t.equal(status, 0, output);
  t.equal(runningSupervisor(state)?.pid, supervisor.pid);
});

t.test('a hung service is restarted, up waits for it, and status says what is wrong now', async (t) => {
  const { pid, restarts } = mesh().services.orders!;
  process.kill(pid!, 'SIGSTOP');
  const before = armature('status');
  t.equal(before.status, 1);
  t.ok(before.output.includes(`no response (${stoppedBySignal({ pid: pid! })})`), before.output);
  t.notMatch(before.output, /ended by SIGKILL/, 'not how an earlier process has ended');
  const { status, output } = armature('up');
  t.equal(status, 0, output);
  const { orders } = mesh().services;
  t.not(orders?.pid, pid);
  t.match(orders, { state: 'ready', restarts: restarts + 1, lastEnd: 'hung: stopped by a signal, ended by SIGKILL' });
  t.match(armature('status'), { status: 0, output: /^orders +ready +\d/m });
});

t.test('one service is restarted, and the others go on', async (t) => {
  const { orders, ...others } = pids();
  const { restarts } = mesh().services.orders!;
  const { status, output } = armature('restart', 'orders');
  t.equal(status, 0, output);
  t.match(output, /ok orders: ready, pid \d+ \([\d.]+ s\)/);
  const { orders: after, ...othersAfter } = pids();
  t.not(after, orders);
  t.same(othersAfter, others);
  t.equal(mesh().services.orders?.restarts, restarts, 'restarts count failures');
  t.match(armature('restart', 'order'), { status: 2, output: /no service order; did you mean orders\? There are: / });
  t.same(readdirSync(join(dir, 'restarts')), [], 'no request and no response is left');
});

t.test('a restart that fails says why, and the service is started again when it can be', async (t) => {
  addService('orders', "if (process.argv[2] !== 'migrate') throw new Error('broken on purpose')");
  const { status, output } = armature('restart', 'orders');
  t.equal(status, 1);
  t.match(output, /!! orders failed .*\norders ended before it was ready \(exit code 1\); its log is /);
  addService('orders');
  t.match(armature('restart', 'orders'), { status: 0 });
});

t.test('dev starts a service again at each change, and leaves it as it was', async (t) => {
  const main = join(repository, 'scripts', 'cli', 'main.ts');
  const dev = spawn(process.execPath, [main, 'dev', 'orders'], { env, stdio: ['ignore', 'pipe', 'pipe'] });
  t.teardown(() => dev.kill('SIGKILL'));
  let output = '';
  for (const stream of [dev.stdout, dev.stderr]) stream.setEncoding('utf8').on('data', (text) => (output += text));
  await until('it is watched', () => /Node watches orders/.test(output));
  // On a busy machine its readiness may be missed once, and found again.
  await until('it is ready', () => /^orders +ready, watching /m.test(armature('status').output));
  addService('orders', `console.log('the new code'); ${program}`);
  await until('the log of the new code is shown', () => /the new code/.test(output));
  dev.kill('SIGINT');
  const [code] = await once(dev, 'close');
  t.equal(code, 0, output);
  t.match(output, /orders runs as before/);
  t.match(mesh().services.orders, { state: 'ready' });
  t.notOk(mesh().services.orders?.watching);
  addService('orders');
});

t.test('services of a killed supervisor are found again', async (t) => {
  const before = meshServices(mesh()).map((service) => identityOf(service)!);
  const supervisor = runningSupervisor(state)!;
  process.kill(supervisor.pid, 'SIGKILL');
  await until('the supervisor is gone', () => !isAlive(supervisor));
  t.equal(armature('status').status, 1);
  const { status, output } = armature('up');
  t.equal(status, 0, output);
  t.notOk(before.some(isAlive), 'none runs twice');
  t.equal(meshServices(mesh()).filter((service) => isAlive(identityOf(service))).length, before.length);
});

t.test('a service that cannot start fails the start, by name and with its log', async (t) => {
  addService('inventory', "if (process.argv[2] !== 'migrate') throw new Error('broken on purpose')");
  const { status, output } = armature('up');
  t.equal(status, 1);
  t.match(output, /inventory: keeps ending \(exit code 1\)/);
  t.match(output, /broken on purpose/);
});

t.test('down stops all that was started, and no stranger', async (t) => {
  const stranger = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)']);
  t.teardown(() => stranger.kill('SIGKILL'));
  const ours = [
    ...meshServices(mesh()).map(identityOf),
    runningSupervisor(state),
    mysqlInstance(state)?.process,
    rabbitmqInstance(state)?.broker,
    rabbitmqInstance(state)?.epmd,
  ].filter((identity) => identity !== undefined);
  t.ok(ours.length >= 7 && ours.every((identity) => identity.pid === ours.at(-1)!.pid || identity.pid > 1));
  // A pid that was ours once and is a stranger's now.
  const file = join(dir, 'supervisor.json');
  const supervisor = readFileSync(file, 'utf8');
  writeFileSync(file, JSON.stringify({ pid: stranger.pid, started: 'once' }));
  t.equal(runningSupervisor(state), undefined);
  writeFileSync(file, supervisor);
  // Also what a signal has stopped.
  for (const { process: one } of [mysqlInstance(state)!, { process: runningSupervisor(state)! }])
    signal(one, 'SIGSTOP');
  const { status, output } = armature('down');
  t.equal(status, 0, output);
  t.match(output, /^Stopped: .*orders.*RabbitMQ/);
  t.notMatch(output, /by force/);
  t.same(ours.filter(isAlive), []);
  t.same(processesHere(), []);
  t.ok(identify(stranger.pid!));
  t.match(armature('down'), { status: 0, output: /Nothing was running/ });
});
