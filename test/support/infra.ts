import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { brokerDialer } from '@armature/runtime/messaging';
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
import { serviceNames } from '../../scripts/devmesh/services.ts';
import { compileCacheOf, openState, openTestState, type State } from '../../scripts/devmesh/state.ts';
import { runsDirectory, stopEverything } from '../../scripts/devmesh/stop.ts';
import { ensureTokenKey } from './token.ts';

/** The part of a tap test that set-up needs: a place to say how to undo it. */
export interface Teardown {
  teardown(undo: () => unknown): unknown;
}

export interface TestServers {
  state: State;
  servers: Servers;
  /** Whether this process has started them; otherwise they ran before. */
  started: boolean;
}

let opened: Promise<TestServers> | undefined;
let own: State | undefined;

/**
 * Gives this test file servers of its own, to be killed, stopped and starved without harm to the tests beside it.
 * To be called before anything starts; the servers start at the first use of `testServers`, and are gone, with their
 * data, when the test ends.
 */
export function ownServers(t: Teardown, name: string): State {
  if (opened) throw new Error('servers were in use before ownServers was called');
  const state = openState(join(runsDirectory(openTestState()), `${name}-${process.pid}`));
  own = state;
  // What the services' programs compile to is the same whatever servers they use.
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
 * The servers that tests share. `make test` has started them; a test file run alone starts them and leaves them
 * for the next run (`make down` stops them).
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
    const started = !known || !(await answer(known));
    await ensureCertificates(state);
    if (started) forgetBroker(state);
    const servers = started ? await startServers(state, progress) : known;
    // Servers that only failed to answer once have been at work all the while, for tests that run beside this one.
    if (started && processes(state) !== ran) await dropLeftovers(state, servers);
    await createBrokerUsers(state, new BrokerApi(servers.rabbitmq.management), serviceNames);
    await ensureTokenKey(state);
    return { state, servers, started };
  });
}

/** Which processes the private servers are, to tell a new start from an old one. */
const processes = (state: State) => JSON.stringify([mysqlInstance(state)?.process, rabbitmqInstance(state)?.broker]);

/**
 * A private broker that has to be started begins with nothing: tests that were killed leave queues behind, and
 * deleting them while the broker is still recovering them leaves it unable to make others of the same kind.
 */
function forgetBroker(state: State): void {
  const broker = rabbitmqInstance(state)?.broker;
  if (!broker || !isAlive(broker)) rmSync(join(state.dir, 'rabbitmq', 'data'), { recursive: true, force: true });
}

/** What tests that were killed have left on a private database. On one given by URL it may be somebody's at work. */
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

async function answer(servers: Servers): Promise<boolean> {
  const asked = await Promise.allSettled([
    withConnection(servers.mysql.url, (connection) => connection.ping()),
    new BrokerApi(servers.rabbitmq.management).request('GET', '/whoami'),
  ]);
  return asked.every(({ status }) => status === 'fulfilled');
}

/** A schema of a test's own, with the two accounts that a service has in production. */
export interface TestDatabase {
  schema: string;
  /** The service's account: it reads and writes rows. */
  url: string;
  /** The migrating account: it may also change the schema. */
  migratorUrl: string;
  /** The administrator of the whole server, to look at or break what accounts of the schema may not. */
  adminUrl: string;
  /** To be called after migrating: keeps the service's account from changing tables marked append-only. */
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

/** A connection of a test's own, by one of the URLs of a virtual host. */
export const connectBroker = (url: string): Promise<ChannelModel> => brokerDialer(url)();

/** A broker virtual host of a test's own. */
export interface TestVirtualHost {
  name: string;
  /** The AMQP URL of a service's account, with the rights that it has in production. */
  url(service: string): string;
  /** The administrator's AMQP URL, to look at or disturb what services may not. */
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
