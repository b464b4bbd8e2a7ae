import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
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
import { mainFile, presentServices } from '../../scripts/devmesh/services.ts';
import { readJson, type State, tail } from '../../scripts/devmesh/state.ts';
import { type ServiceName, servicePlans } from '../../services/manifest.ts';
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
/** Longer than the ten seconds in which a service must drain. */
const stopDeadlineMs = 12_000;

export interface StartOptions {
  /** Variables in addition to those of every service; undefined removes one. */
  env?: Record<string, string | undefined>;
  /** gRPC addresses of other services by name, such as `{ catalog: '127.0.0.1:4711' }`. */
  peers?: Partial<Record<string, string>>;
  /** An existing schema with the data of an earlier start. It must be migrated already. */
  database?: TestDatabase;
  /** host:port of the database for this service, if it is not the database's own. */
  databaseAddress?: string;
  vhost?: TestVirtualHost;
  grpc?: string;
  admin?: string;
  http?: string;
  acquirerUrl?: string;
  /** Webhook address of payments, for the acquirer. */
  webhookAddress?: string;
  mailUrl?: string;
  /**
   * Issuer and keys of the tokens that the service accepts; by default the tests' own key, which `token()` signs with.
   */
  tokens?: TokenTrust;
  /** The program; services/<name>/main.ts by default. */
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
  /** The folder of the service's e-mails, or of the acquirer's data. */
  dir: string;
  /** Everything that the service has written to its output. */
  logs(): string;
  /**
   * Sends the signal and waits for the end; sends SIGKILL after 12 s. Returns the exit code, or the name of the signal.
   */
  stop(signal?: NodeJS.Signals): Promise<number | NodeJS.Signals>;
  /** Kills the service at once, as a crash would. */
  kill(): Promise<number | NodeJS.Signals>;
}

/** A service that is ready to be started: a migrated schema, a virtual host, a folder, an environment. */
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

/** Creates all that a service needs, without starting it, and removes it when the test ends. */
export async function prepareService(t: Teardown, name: string, options: StartOptions = {}): Promise<PreparedService> {
  const { state } = await testServers();
  const stores = !(name in servicePlans) || servicePlans[name as ServiceName].stores;
  const [database, vhost] = stores
    ? await Promise.all([options.database ?? createDatabase(t, name), options.vhost ?? createVhost(t)])
    : [undefined, undefined];
  const dir = mkdtempSync(join(tmpdir(), `armature-${name}-`));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  const program = options.program ?? mainFile(name);
  // Hashing passwords takes time, so identity gets accounts only if a test can sign in to it.
  const people = name === 'identity' && options.tokens !== undefined;
  const run: ServiceRun = {
    name,
    stateFile: join(dir, 'state.json'),
    peers: options.peers ?? {},
    mailUrl: options.mailUrl ?? pathToFileURL(join(dir, 'mail')).href.replace(/^file:/, 'maildir:'),
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

/** Starts one service with its own schema and virtual host, and stops it when the test ends. */
export async function startService(t: Teardown, name: string, options: StartOptions = {}): Promise<RunningService> {
  const { program, env, stateFile, log, database, vhost, dir } = await prepareService(t, name, options);
  const service = spawnService(program, env, log);
  const running = { ...service, name, dir, database, vhost, grpc: '', admin: '', http: '' };
  t.teardown(() => service.stop());
  const addresses = await ready(name, service, stateFile);
  return { ...running, ...addresses };
}

export type Mesh = Record<string, RunningService>;

/** The gRPC address of each service of a mesh, for a service that is started beside them. */
export const peersOf = (mesh: Mesh): Record<string, string> =>
  Object.fromEntries(Object.values(mesh).map(({ name, grpc }) => [name, grpc]));

export interface MeshOptions {
  /**
   * Whether services accept the tokens of the mesh's own identity, which then is one of its services, instead of those
   * of the tests' key. Most tests need valid and invalid tokens of any user at once. Only tests of signing in need an
   * issuer that asks for passwords and signs with its own keys.
   */
  realIdentity?: boolean;
}

/**
 * Starts several services at once that know each other's addresses, on ports chosen beforehand; all services by
 * default. They share a virtual host, and each has its own schema. If access is among them they follow its policy;
 * otherwise they read the file of initial rules. Everything ends with the test.
 */
export async function startMesh(
  t: Teardown,
  names: readonly string[] = presentServices(),
  options: StartOptions | ((name: string) => StartOptions) = {},
  { realIdentity = false }: MeshOptions = {},
): Promise<Mesh> {
  if (realIdentity && !names.includes('identity')) throw new Error('realIdentity needs identity among the services');
  const plans = await planMesh(t, names, options, realIdentity);
  // A failing test must not tear down while a start is in progress, so wait for all starts.
  const started = await allFinished(plans.map(({ name, start }) => startService(t, name, start)));
  // If access takes longer than a service waits, the service starts without a policy and refuses every call meanwhile.
  await allFinished(started.filter(({ admin }) => admin !== '').map(untilReady));
  return Object.fromEntries(started.map((service) => [service.name, service]));
}

/** A service of a mesh, ready to be started at addresses that the others know. */
export interface PreparedMember extends PreparedService {
  addresses: Record<'grpc' | 'admin' | 'http', string | undefined>;
}

/** Creates all that a mesh needs, as startMesh does. The caller starts and restarts the services. */
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
      // Only the acquirer has no admin port, because it stands for an external service.
      const admin = name === 'acquirer' ? undefined : `127.0.0.1:${admins[index]}`;
      const addresses = { grpc: start.grpc, admin, http: start.http };
      return { ...(await prepareService(t, name, { ...start, admin })), addresses };
    }),
  );
}

/** Chooses the addresses of all services before any starts, so that each gets those of the others. */
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

/** A user's access token that every service accepts, unless the overrides make it invalid. */
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

/** The same URL with another address. */
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

/** Output goes to a file instead of a pipe: a service must never wait for a test to read. */
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

/** Runs the program's own migrations. Those of the real services run in this process, which is faster. */
async function migrateBy(program: string, env: NodeJS.ProcessEnv, log: string): Promise<void> {
  const code = await exitOf(spawnLogged([program, 'migrate'], env, log));
  if (code !== 0) throw new Error(`${program} migrate ended with ${code}:\n${tail(log)}`);
}

/** A service serves calls without the broker, and some tests start services while the broker is stopped. */
const brokerWaitMs = 5_000;

/** Waits until /readyz returns 200, or until only the broker has been missing for 5 s. */
export async function untilReady({ name, admin, logs }: RunningService): Promise<void> {
  const since = Date.now();
  for (;;) {
    const response = await fetch(`http://${admin}/readyz`);
    const waitsFor = (await response.text()).trim();
    const waitedMs = Date.now() - since;
    if (response.ok || (waitsFor === 'waiting for broker' && waitedMs > brokerWaitMs)) return;
    if (waitedMs > startDeadlineMs) throw new Error(`${name} is up and not ready: ${waitsFor}; its log:\n${logs()}`);
    await sleep(50);
  }
}

type Addresses = Pick<RunningService, 'grpc' | 'admin' | 'http'>;

/** Waits for the state file of this start: a file of an earlier start has another pid. */
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
