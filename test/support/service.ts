import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { migrate } from '@armature/runtime/migrations';
import { certificateFiles } from '../../scripts/devmesh/certificates.ts';
import {
  identityTrust,
  type ServiceRun,
  serviceEnvironment,
  type TokenTrust,
} from '../../scripts/devmesh/environment.ts';
import { writeBootstrap } from '../../scripts/devmesh/people.ts';
import { reservePorts } from '../../scripts/devmesh/ports.ts';
import { allFinished } from '../../scripts/devmesh/servers/servers.ts';
import { mainFile, presentServices, type ServiceName, servicePlans } from '../../scripts/devmesh/services.ts';
import { readJson, type State, tail } from '../../scripts/devmesh/state.ts';
import {
  createDatabase,
  createVhost,
  type Teardown,
  type TestDatabase,
  type TestVirtualHost,
  testServers,
} from './infra.ts';
import { migrationsOf } from './migrating.ts';
import { mintToken, type TokenRequest, tokenFiles, tokenIssuer } from './token.ts';

const startDeadlineMs = 60_000;
/** Longer than the ten seconds in which a service promises to drain. */
const stopDeadlineMs = 12_000;

export interface StartOptions {
  /** Variables on top of those that every service gets; undefined takes one away. */
  env?: Record<string, string | undefined>;
  /** gRPC addresses of other services by name, such as `{ catalog: '127.0.0.1:4711' }`. */
  peers?: Partial<Record<string, string>>;
  /** An existing schema, to start on the data of an earlier start. It is taken as migrated. */
  database?: TestDatabase;
  /** host:port under which the service is to reach its database, where that is not the database's own. */
  databaseAddress?: string;
  vhost?: TestVirtualHost;
  grpc?: string;
  admin?: string;
  http?: string;
  acquirerUrl?: string;
  /** Where payments takes webhooks, for the acquirer. */
  webhookAddress?: string;
  mailUrl?: string;
  /** Whose tokens the service takes; those of the tests' own key by default, which `token()` signs with. */
  tokens?: TokenTrust;
  /** The program, where it is not services/<name>/main.ts. */
  program?: string;
}

export interface RunningService {
  name: string;
  /** host:port of gRPC; empty for the acquirer. */
  grpc: string;
  /** host:port of the loopback HTTP port with /metrics, /healthz and /readyz; empty for the acquirer. */
  admin: string;
  /** host:port of the acquirer's HTTP port, and of the HTTPS port of identity and payments; empty for the others. */
  http: string;
  pid: number;
  process: ChildProcess;
  database: TestDatabase | undefined;
  vhost: TestVirtualHost | undefined;
  /** The folder that the service's mail goes to, or the acquirer's data. */
  dir: string;
  /** All that the service has written to its output. */
  logs(): string;
  /** Sends the signal and waits for the end, by SIGKILL after 12 s. Answers the exit code, or the signal's name. */
  stop(signal?: NodeJS.Signals): Promise<number | NodeJS.Signals>;
  /** Ends the service at once, as a crash would. */
  kill(): Promise<number | NodeJS.Signals>;
}

/** A service that has everything it needs to be started: a migrated schema, a virtual host, a folder, an environment. */
export interface PreparedService {
  name: string;
  program: string;
  env: NodeJS.ProcessEnv;
  stateFile: string;
  log: string;
  database: TestDatabase | undefined;
  vhost: TestVirtualHost | undefined;
  dir: string;
}

/** Makes all that a service needs, but does not start it. What was made is gone when the test ends. */
export async function prepareService(t: Teardown, name: string, options: StartOptions = {}): Promise<PreparedService> {
  const { state } = await testServers();
  const stores = !(name in servicePlans) || servicePlans[name as ServiceName].stores;
  const [database, vhost] = stores
    ? await Promise.all([options.database ?? createDatabase(t, name), options.vhost ?? createVhost(t)])
    : [undefined, undefined];
  const dir = mkdtempSync(join(tmpdir(), `armature-${name}-`));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  const program = options.program ?? mainFile(name);
  // Passwords cost time to hash, so identity knows people only where somebody can sign in to it.
  const people = name === 'identity' && options.tokens !== undefined;
  const run: ServiceRun = {
    name,
    stateFile: join(dir, 'state.json'),
    peers: options.peers ?? {},
    mailUrl: options.mailUrl ?? `maildir://${join(dir, 'mail')}`,
    dataDir: join(dir, 'data'),
    grpc: options.grpc,
    admin: options.admin,
    http: options.http,
    acquirerUrl: options.acquirerUrl,
    webhookAddress: options.webhookAddress,
    databaseUrl: database && reachedAt(database.url, options.databaseAddress),
    brokerUrl: vhost?.url(name),
    tokens: options.tokens ?? { issuer: tokenIssuer, jwks: tokenFiles(state).jwks },
    copyDir: join(dir, 'copies'),
    bootstrapFile: people ? join(dir, 'bootstrap.json') : undefined,
  };
  if (run.bootstrapFile) writeBootstrap(state, run.bootstrapFile);
  mkdirSync(join(dir, 'data'));
  mkdirSync(join(dir, 'mail'));
  const environment = (over: Partial<ServiceRun>) =>
    changed(serviceEnvironment(state, { ...run, ...over }), options.env);
  if (database && !options.database) {
    if (options.program) {
      await migrateBy(program, environment({ databaseUrl: database.migratorUrl }), join(dir, 'migrate.log'));
    } else {
      await migrate(database.migratorUrl, await migrationsOf(name));
    }
    await database.migrated();
  }
  const log = join(dir, 'service.log');
  return { name, program, env: environment({}), stateFile: run.stateFile, log, database, vhost, dir };
}

/** Starts one service on a schema and a virtual host of its own, and stops it when the test ends. */
export async function startService(t: Teardown, name: string, options: StartOptions = {}): Promise<RunningService> {
  const { program, env, stateFile, log, database, vhost, dir } = await prepareService(t, name, options);
  const service = spawnService(program, env, log);
  const running = { ...service, name, dir, database, vhost, grpc: '', admin: '', http: '' };
  t.teardown(() => service.stop());
  const addresses = await ready(name, service, stateFile);
  return { ...running, ...addresses };
}

export type Mesh = Record<string, RunningService>;

/** Where each service of a mesh answers gRPC, for one that is started beside them. */
export const peersOf = (mesh: Mesh): Record<string, string> =>
  Object.fromEntries(Object.values(mesh).map(({ name, grpc }) => [name, grpc]));

export interface MeshOptions {
  /**
   * Whether services take the tokens of the mesh's own identity, which then is one of its services, instead of the
   * tests' key. Most tests are about something else, and want tokens of anybody at once, good ones and bad ones;
   * only those that are about signing in need an issuer that asks for passwords and signs with keys of its own.
   */
  realIdentity?: boolean;
}

/**
 * Starts several services that know each other, all at once, on ports chosen beforehand; by default all there are.
 * They share a virtual host, and each has a schema of its own. With access among them they follow its policy, else
 * they read the file that it would begin with. Everything ends with the test.
 */
export async function startMesh(
  t: Teardown,
  names: readonly string[] = presentServices(),
  options: StartOptions | ((name: string) => StartOptions) = {},
  { realIdentity = false }: MeshOptions = {},
): Promise<Mesh> {
  if (realIdentity && !names.includes('identity')) throw new Error('realIdentity needs identity among the services');
  const plans = await planMesh(t, names, options, realIdentity);
  // A test that fails half-way must not tear down while a start is still under way, so all starts are let finish.
  const started = await allFinished(plans.map(({ name, start }) => startService(t, name, start)));
  // A service starts before it has a policy when access takes longer than it waits, and refuses everything meanwhile.
  await allFinished(started.filter(({ admin }) => admin !== '').map(untilReady));
  return Object.fromEntries(started.map((service) => [service.name, service]));
}

/** A service of a mesh, ready to be started at addresses that the others know. */
export interface PreparedMember extends PreparedService {
  addresses: Record<'grpc' | 'admin' | 'http', string | undefined>;
}

/** Makes all that a mesh needs, as startMesh does, and leaves it to the caller to start and restart its services. */
export async function prepareMesh(
  t: Teardown,
  names: readonly string[] = presentServices(),
  options: (name: string) => StartOptions = () => ({}),
): Promise<PreparedMember[]> {
  const { state } = await testServers();
  const admins = await reservePorts(state, names.length);
  const plans = await planMesh(t, names, options, false);
  return allFinished(
    plans.map(async ({ name, start }, index) => {
      // Only the acquirer has no admin port: it is the outside world.
      const admin = name === 'acquirer' ? undefined : `127.0.0.1:${admins[index]}`;
      const addresses = { grpc: start.grpc, admin, http: start.http };
      return { ...(await prepareService(t, name, { ...start, admin })), addresses };
    }),
  );
}

/** Chooses everybody's addresses before anybody starts, so that each can be told of all the others. */
async function planMesh(
  t: Teardown,
  names: readonly string[],
  options: StartOptions | ((name: string) => StartOptions),
  realIdentity: boolean,
): Promise<{ name: string; start: StartOptions }[]> {
  const { state } = await testServers();
  const vhost = await createVhost(t);
  const [identityPort, webhookPort, ...ports] = await reservePorts(state, 2 + names.length);
  const addresses = Object.fromEntries(names.map((name, index) => [name, `127.0.0.1:${ports[index]}`]));
  const { acquirer, ...peers } = addresses;
  const identity = `127.0.0.1:${identityPort}`;
  const webhookAddress = `127.0.0.1:${webhookPort}`;
  const listen: Partial<Record<string, StartOptions>> = {
    acquirer: { http: acquirer, ...(peers.payments ? { webhookAddress } : {}) },
    identity: { grpc: peers.identity, http: identity },
    payments: { grpc: peers.payments, http: webhookAddress },
  };
  return names.map((name) => {
    const asked = typeof options === 'function' ? options(name) : options;
    return {
      name,
      start: {
        vhost,
        ...(listen[name] ?? { grpc: addresses[name] }),
        ...(acquirer ? { acquirerUrl: `http://${acquirer}` } : {}),
        ...(realIdentity ? { tokens: identityTrust(identity) } : {}),
        ...asked,
        peers: { ...peers, ...asked.peers },
      },
    };
  });
}

/** A certificate, its key and the CA that signed it, as paths and as the PEM that they hold. */
export interface Credentials {
  certFile: string;
  keyFile: string;
  caFile: string;
  cert: Buffer;
  key: Buffer;
  ca: Buffer;
}

/** The certificate of a workload of the mesh: a service's name, or `developer`. */
export async function workloadCertificate(name: string): Promise<Credentials> {
  const { state } = await testServers();
  return credentials(state, name);
}

/** The certificate that a developer's own programs use. */
export function developerCredentials(): Promise<Credentials> {
  return workloadCertificate('developer');
}

/** A user's access token that every service accepts, unless the overrides spoil it. */
export async function token(subject: string, overrides: Partial<TokenRequest> = {}): Promise<string> {
  const { state } = await testServers();
  return mintToken(state.dir, { subject, ...overrides });
}

function credentials(state: State, name: string): Credentials {
  const { cert, key } = certificateFiles(state, name);
  const caFile = certificateFiles(state, 'ca').cert;
  return {
    certFile: cert,
    keyFile: key,
    caFile,
    cert: readFileSync(cert),
    key: readFileSync(key),
    ca: readFileSync(caFile),
  };
}

/** The same URL, at another address. */
function reachedAt(url: string, address: string | undefined): string {
  if (!address) return url;
  const moved = new URL(url);
  moved.host = address;
  return moved.href;
}

function changed(environment: Record<string, string>, changes: StartOptions['env'] = {}): NodeJS.ProcessEnv {
  const all: NodeJS.ProcessEnv = { ...environment };
  for (const [name, value] of Object.entries(changes)) {
    if (value === undefined) delete all[name];
    else all[name] = value;
  }
  return all;
}

type Spawned = Pick<RunningService, 'pid' | 'process' | 'logs' | 'stop' | 'kill'>;

function spawnService(program: string, env: NodeJS.ProcessEnv, log: string): Spawned {
  const child = spawnLogged([program], env, log);
  if (child.pid === undefined) throw new Error(`${process.execPath} ${program} could not be started`);
  const exited = exitOf(child);
  const end = async (signal: NodeJS.Signals): Promise<number | NodeJS.Signals> => {
    child.kill(signal);
    const timer = setTimeout(() => child.kill('SIGKILL'), stopDeadlineMs);
    return exited.finally(() => clearTimeout(timer));
  };
  return {
    pid: child.pid,
    process: child,
    logs: () => readFileSync(log, 'utf8'),
    stop: (signal = 'SIGTERM') => end(signal),
    kill: () => end('SIGKILL'),
  };
}

/** Output goes to a file rather than a pipe: a service must never wait for a test to read. */
function spawnLogged(args: string[], env: NodeJS.ProcessEnv, log: string): ChildProcess {
  const output = openSync(log, 'a');
  try {
    return spawn(process.execPath, args, { env, stdio: ['ignore', output, output] });
  } finally {
    closeSync(output);
  }
}

function exitOf(child: ChildProcess): Promise<number | NodeJS.Signals> {
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code, signal) => resolve(signal ?? code ?? 0));
  });
}

/** Runs the program's own migrations; those of the services need no process of their own for each test. */
async function migrateBy(program: string, env: NodeJS.ProcessEnv, log: string): Promise<void> {
  const code = await exitOf(spawnLogged([program, 'migrate'], env, log));
  if (code !== 0) throw new Error(`${program} migrate ended with ${code}:\n${tail(log)}`);
}

/** A service serves calls without the broker, and tests that take it away start services meanwhile. */
const brokerWaitMs = 5_000;

/** Waits until /readyz answers 200, or lacks nothing but the broker for 5 s; a service starts before that. */
export async function untilReady({ name, admin, logs }: RunningService): Promise<void> {
  const since = Date.now();
  for (;;) {
    const answer = await fetch(`http://${admin}/readyz`);
    const waitsFor = (await answer.text()).trim();
    const waitedMs = Date.now() - since;
    if (answer.ok || (waitsFor === 'waiting for broker' && waitedMs > brokerWaitMs)) return;
    if (waitedMs > startDeadlineMs) throw new Error(`${name} is up and not ready: ${waitsFor}; its log:\n${logs()}`);
    await sleep(50);
  }
}

type Addresses = Pick<RunningService, 'grpc' | 'admin' | 'http'>;

/** The state file must carry the pid of this start: one of an earlier start may lie there still. */
async function ready(name: string, service: Spawned, stateFile: string): Promise<Addresses> {
  const deadline = Date.now() + startDeadlineMs;
  for (;;) {
    const said = readJson<Partial<Addresses> & { pid: number }>(stateFile);
    if (said?.pid === service.pid) return { grpc: said.grpc ?? '', admin: said.admin ?? '', http: said.http ?? '' };
    const { exitCode, signalCode } = service.process;
    if (exitCode !== null || signalCode !== null) {
      throw new Error(`${name} ended with ${exitCode ?? signalCode} before it was ready; its log:\n${service.logs()}`);
    }
    if (Date.now() > deadline) {
      await service.kill();
      throw new Error(`${name} was not ready within ${startDeadlineMs / 1000} s; its log:\n${service.logs()}`);
    }
    await sleep(20);
  }
}
