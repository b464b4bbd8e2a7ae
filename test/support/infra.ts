import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { brokerDialer } from '@armature/runtime/broker-dialer';
import type { ChannelModel } from 'amqplib';
import type { Connection, RowDataPacket } from 'mysql2/promise';
import { ensureCertificates } from '../../scripts/devmesh/certificates.ts';
import { withLock } from '../../scripts/devmesh/lock.ts';
import { isAlive } from '../../scripts/devmesh/processes.ts';
import { type Progress, silent } from '../../scripts/devmesh/progress.ts';
import {
  brokerUrl,
  createBrokerUsers,
  createSchema,
  createVirtualHost,
  databaseUrl,
  grantChanges,
  withConnection,
} from '../../scripts/devmesh/provision.ts';
import { BrokerApi } from '../../scripts/devmesh/servers/broker-api.ts';
import { mysqlInstance } from '../../scripts/devmesh/servers/mysql.ts';
import { rabbitmqInstance } from '../../scripts/devmesh/servers/rabbitmq.ts';
import { knownServers, type Servers, startServers } from '../../scripts/devmesh/servers/servers.ts';
import { compileCacheOf, openState, openTestState, type State } from '../../scripts/devmesh/state.ts';
import { runsDirectory, stopEverything } from '../../scripts/devmesh/stop.ts';
import { serviceNames } from '../../services/manifest.ts';
import { ensureTokenKey } from './token.ts';

/** The part of a tap test that set-up needs: registration of teardown functions. */
export interface Teardown {
  teardown(undo: () => unknown): unknown;
}

export interface TestServers {
  state: State;
  servers: Servers;
  /** Whether this process has started the servers; otherwise they ran before. */
  started: boolean;
}

let opened: Promise<TestServers> | undefined;
let own: State | undefined;

/**
 * Gives this test file its own servers, which it may kill, stop and starve without affecting other tests. Call it
 * before anything starts. The servers start at the first use of `testServers`, and are removed with their data when the
 * test ends.
 */
export function ownServers(t: Teardown, name: string): State {
  if (opened) throw new Error('servers were in use before ownServers was called');
  const state: State = { ...openState(join(runsDirectory(openTestState()), `${name}-${process.pid}`)), fsync: false };
  own = state;
  // The compile cache of the services does not depend on the servers.
  const cache = compileCacheOf(openTestState());
  mkdirSync(cache, { recursive: true });
  if (!existsSync(compileCacheOf(state))) symlinkSync(cache, compileCacheOf(state));
  t.teardown(async () => {
    await stopEverything(state, true);
    rmSync(state.dir, { recursive: true, force: true });
  });
  return state;
}

/**
 * The servers that tests share. `make test` starts them. A test file that runs alone starts them and leaves them
 * running for the next run (`make down` stops them).
 */
export function testServers(progress: Progress = silent): Promise<TestServers> {
  opened ??= openServers(progress);
  return opened;
}

async function openServers(progress: Progress): Promise<TestServers> {
  const state = own ?? openTestState();
  return withLock(join(state.dir, 'servers.lock'), async () => {
    const known = knownServers(state);
    const ran = processes(state);
    const started = !known || !(await respond(known));
    await ensureCertificates(state);
    if (started) forgetBroker(state);
    const servers = started ? await startServers(state, progress) : known;
    // Servers that only failed to respond once still run, for tests that run beside this one.
    if (started && processes(state) !== ran) await dropLeftovers(state, servers);
    await createBrokerUsers(state, new BrokerApi(servers.rabbitmq.management), serviceNames);
    await ensureTokenKey(state);
    return { state, servers, started };
  });
}

/** Identifies the processes of the private servers, to detect a restart. */
const processes = (state: State) => JSON.stringify([mysqlInstance(state)?.process, rabbitmqInstance(state)?.broker]);

/**
 * Deletes the data of a private broker before its start. Killed tests leave queues behind. Deleting these while the
 * broker still recovers them leaves it unable to declare others of the same kind.
 */
function forgetBroker(state: State): void {
  const broker = rabbitmqInstance(state)?.broker;
  if (!broker || !isAlive(broker)) rmSync(join(state.dir, 'rabbitmq', 'data'), { recursive: true, force: true });
}

/**
 * Drops what killed tests have left on a private database. Skips servers given by URL, which other processes may use.
 */
async function dropLeftovers(state: State, servers: Servers): Promise<void> {
  if (mysqlInstance(state)) {
    await withConnection(servers.mysql.url, async (connection) => {
      const [schemas] = await connection.query<RowDataPacket[]>(
        "SELECT schema_name AS name FROM information_schema.schemata WHERE schema_name LIKE 'armature\\_t\\_%'",
      );
      for (const { name } of schemas) await connection.query('DROP DATABASE ??', [name]);
      const [users] = await connection.query<RowDataPacket[]>(
        "SELECT User AS name FROM mysql.user WHERE User LIKE 't\\_%'",
      );
      for (const { name } of users) await connection.query("DROP USER ?@'%'", [name]);
    });
  }
}

async function respond(servers: Servers): Promise<boolean> {
  const asked = await Promise.allSettled([
    withConnection(servers.mysql.url, (connection) => connection.ping()),
    new BrokerApi(servers.rabbitmq.management).request('GET', '/whoami'),
  ]);
  return asked.every(({ status }) => status === 'fulfilled');
}

/** A schema of one test, with the two accounts that a service has in production. */
export interface TestDatabase {
  schema: string;
  /** URL of the service's account: it reads and writes rows. */
  url: string;
  /** URL of the migrating account: it may also change the schema. */
  migratorUrl: string;
  /** URL of the administrator of the server, for what the accounts of the schema may not do. */
  adminUrl: string;
  /** Call after migrating: keeps the service's account from changing tables marked append-only. */
  migrated(): Promise<void>;
}

/** Makes an empty, uniquely named schema and drops it when the test ends. */
export async function createDatabase(t: Teardown, service: string): Promise<TestDatabase> {
  const { state, servers } = await testServers();
  const name = `t_${service}_${randomBytes(5).toString('hex')}`;
  const accounts = { schema: `armature_${name}`, user: name, migrator: `${name}_m` };
  const administrator = <T>(work: (connection: Connection) => Promise<T>) => withConnection(servers.mysql.url, work);
  t.teardown(() =>
    administrator(async (connection) => {
      await connection.query('DROP DATABASE IF EXISTS ??', [accounts.schema]);
      await connection.query("DROP USER IF EXISTS ?@'%', ?@'%'", [accounts.user, accounts.migrator]);
    }),
  );
  await administrator((connection) => createSchema(state, connection, accounts));
  return {
    schema: accounts.schema,
    url: databaseUrl(state, servers.mysql.url, accounts.user, accounts.schema),
    migratorUrl: databaseUrl(state, servers.mysql.url, accounts.migrator, accounts.schema),
    adminUrl: at(servers.mysql.url, accounts.schema),
    migrated: () => administrator((connection) => grantChanges(connection, accounts)),
  };
}

/** A server's URL, for one schema or virtual host of it. */
function at(serverUrl: string, path: string): string {
  const url = new URL(serverUrl);
  url.pathname = path;
  return url.href;
}

/** A new connection by one of the URLs of a virtual host. */
export const connectBroker = (url: string): Promise<ChannelModel> => brokerDialer(url)();

/** A broker virtual host of one test. */
export interface TestVirtualHost {
  name: string;
  /** The AMQP URL of a service's account, with the rights that it has in production. */
  url(service: string): string;
  /** The administrator's AMQP URL, for what services may not do. */
  adminUrl: string;
  /** The management API, for queues and their lengths under `/queues/<name, percent-encoded>`. */
  api: BrokerApi;
}

/** Makes an empty virtual host with an account for each service, and deletes it when the test ends. */
export async function createVhost(t: Teardown, services: readonly string[] = serviceNames): Promise<TestVirtualHost> {
  const { state, servers } = await testServers();
  const api = new BrokerApi(servers.rabbitmq.management);
  const name = `t-${randomBytes(6).toString('hex')}`;
  t.teardown(() => api.request('DELETE', `/vhosts/${name}`));
  const known: readonly string[] = serviceNames;
  await createBrokerUsers(
    state,
    api,
    services.filter((service) => !known.includes(service)),
  );
  await createVirtualHost(api, name, services);
  const administrator = new URL(servers.rabbitmq.url);
  ({ username: administrator.username, password: administrator.password } = new URL(servers.rabbitmq.management));
  return {
    name,
    url: (service) => brokerUrl(state, servers.rabbitmq.url, service, name),
    adminUrl: at(administrator.href, name),
    api,
  };
}
