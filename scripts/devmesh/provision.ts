import { splitCa, withCa } from '@armature/runtime/credentials';
import type { Connection, RowDataPacket } from 'mysql2/promise';
import { storingServices } from '../../services/manifest.ts';
import { BrokerApi } from './servers/broker-api.ts';
import { connectMysql } from './servers/mysql.ts';
import { password, type State } from './state.ts';

export const exchange = 'armature.events';
export const vhost = 'armature';

/** The accounts of one schema: the service's own, which cannot change the schema, and the one that migrates it. */
export interface SchemaAccounts {
  schema: string;
  user: string;
  migrator: string;
}

export function serviceAccounts(name: string): SchemaAccounts {
  return { schema: `armature_${name}`, user: `armature_${name}`, migrator: `armature_${name}_migrator` };
}

/** Makes every service's schema and database accounts, or brings what is there up to date. */
export async function provisionDatabase(
  state: State,
  url: string,
  services: readonly string[] = storingServices,
): Promise<void> {
  await withConnection(url, async (connection) => {
    for (const name of services) await createSchema(state, connection, serviceAccounts(name));
  });
}

/** Makes the mesh's virtual host and every service's broker account, or brings what is there up to date. */
export async function provisionBroker(
  state: State,
  management: string,
  services: readonly string[] = storingServices,
): Promise<void> {
  const api = new BrokerApi(management);
  await createBrokerUsers(state, api, services);
  await createVirtualHost(api, vhost, services);
}

export async function withConnection<T>(url: string, work: (connection: Connection) => Promise<T>): Promise<T> {
  const connection = await connectMysql(url);
  try {
    const result = await work(connection);
    await connection.end();
    return result;
  } finally {
    // After a failure the server may not take leave any more.
    connection.destroy();
  }
}

/**
 * Makes a schema with its two accounts. Repeating it changes nothing but the passwords, to those of this state.
 * Where the administrator comes by TLS, the accounts are refused without it.
 */
export async function createSchema(state: State, connection: Connection, accounts: SchemaAccounts): Promise<void> {
  const { schema, user, migrator } = accounts;
  await connection.query('CREATE DATABASE IF NOT EXISTS ?? CHARACTER SET utf8mb4 COLLATE utf8mb4_bin', [schema]);
  const requirement = (await isEncrypted(connection)) ? 'SSL' : 'NONE';
  for (const account of [user, migrator]) {
    const secret = databasePassword(state, account);
    await connection.query(`CREATE USER IF NOT EXISTS ?@'%' IDENTIFIED BY ? REQUIRE ${requirement}`, [account, secret]);
    await connection.query(`ALTER USER ?@'%' IDENTIFIED BY ? REQUIRE ${requirement}`, [account, secret]);
  }
  const pattern = exactly(schema);
  await connection.query(`GRANT SELECT, INSERT, EXECUTE, CREATE TEMPORARY TABLES ON ${pattern}.* TO ?@'%'`, [user]);
  await connection.query(`GRANT ALL PRIVILEGES ON ${pattern}.* TO ?@'%'`, [migrator]);
  await grantChanges(connection, accounts);
}

async function isEncrypted(connection: Connection): Promise<boolean> {
  const [rows] = await connection.query<RowDataPacket[]>("SHOW SESSION STATUS LIKE 'Ssl_cipher'");
  return Boolean(rows[0]?.Value);
}

/**
 * Lets the service change and delete rows, except in tables whose comment begins with "append-only": there the
 * database itself keeps what was written. Run again after a migration, since tables may be new.
 */
export async function grantChanges(connection: Connection, { schema, user }: SchemaAccounts): Promise<void> {
  const [tables] = await connection.query<RowDataPacket[]>(
    `SELECT table_name AS name, table_comment LIKE 'append-only%' AS appendOnly
     FROM information_schema.tables WHERE table_schema = ? AND table_type = 'BASE TABLE'`,
    [schema],
  );
  const pattern = exactly(schema);
  if (!tables.some((table) => table.appendOnly)) {
    await connection.query(`GRANT UPDATE, DELETE ON ${pattern}.* TO ?@'%'`, [user]);
    return;
  }
  // Privileges add up, so one table can only be left out by granting the others one by one.
  for (const table of tables) {
    if (!table.appendOnly) await connection.query("GRANT UPDATE, DELETE ON ??.?? TO ?@'%'", [schema, table.name, user]);
  }
  await connection.query(`GRANT UPDATE, DELETE ON ${pattern}.* TO ?@'%'`, [user]);
  await connection.query(`REVOKE UPDATE, DELETE ON ${pattern}.* FROM ?@'%'`, [user]);
}

/** In a grant on a whole schema, an underscore would stand for any character. */
function exactly(schema: string): string {
  return `\`${schema.replace(/[_%]/g, '\\$&')}\``;
}

export function databasePassword(state: State, account: string): string {
  return password(state, `mysql:${account}`);
}

export function databaseUrl(state: State, serverUrl: string, account: string, schema: string): string {
  const { host } = new URL(serverUrl);
  const url = `mysql://${account}:${databasePassword(state, account)}@${host}/${schema}`;
  return withCa(url, splitCa(serverUrl).caFile);
}

export function brokerUrl(state: State, serverUrl: string, service: string, virtualHost: string = vhost): string {
  const { protocol, host } = new URL(serverUrl);
  const account = `${service}:${password(state, `rabbitmq:${service}`)}`;
  const url = `${protocol}//${account}@${host}/${encodeURIComponent(virtualHost)}`;
  return withCa(url, splitCa(serverUrl).caFile);
}

export async function createBrokerUsers(state: State, api: BrokerApi, services: readonly string[]): Promise<void> {
  await Promise.all(
    services.map((name) =>
      api.request('PUT', `/users/${encodeURIComponent(name)}`, {
        password: password(state, `rabbitmq:${name}`),
        tags: '',
      }),
    ),
  );
}

/**
 * Makes a virtual host with the exchange of events, in which each service may make, fill and read only what carries
 * its own name, and beyond that only publish events under its own name and bind its queues to the exchange.
 */
export async function createVirtualHost(api: BrokerApi, name: string, services: readonly string[]): Promise<void> {
  const host = encodeURIComponent(name);
  await api.request('PUT', `/vhosts/${host}`, {});
  // The administrator's rights in the vhost are what lets the management API show and purge its queues.
  const { name: administrator } = (await api.request('GET', '/whoami')) as { name: string };
  const all = { configure: '.*', write: '.*', read: '.*' };
  await api.request('PUT', `/permissions/${host}/${encodeURIComponent(administrator)}`, all);
  await api.request('PUT', `/exchanges/${host}/${exchange}`, { type: 'topic', durable: true });
  await Promise.all(
    services.map(async (service) => {
      const own = `^${service}\\..*$`;
      const ownAndEvents = `^(${exchange.replace('.', '\\.')}|${service}\\..*)$`;
      const path = `${host}/${encodeURIComponent(service)}`;
      // An account that may configure the exchange could delete it, with the bindings of every service.
      const rights = { configure: own, write: ownAndEvents, read: ownAndEvents };
      await api.request('PUT', `/permissions/${path}`, rights);
      await api.request('PUT', `/topic-permissions/${path}`, { exchange, write: `^${service}\\..*`, read: '.*' });
    }),
  );
}
