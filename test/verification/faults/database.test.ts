// Database faults under load: stopped, killed, read-only, slow, out of connections, silent.
import type { Connection } from 'mysql2/promise';
import t from 'tap';
import { withConnection } from '../../../scripts/devmesh/provision.ts';
import { connectMysql } from '../../../scripts/devmesh/servers/mysql.ts';
import { openShop } from '../../e2e/shop.ts';
import { ownServers, testServers } from '../../support/infra.ts';
import { seeded } from '../../support/random.ts';
import { databaseServer } from '../../support/server-faults.ts';
import { mysqlTlsRequestBytes, openTcpProxy } from '../../support/tcp-proxy.ts';
import { type Outage, shopThrough, stockSkus } from './outage.ts';
import { shopServices } from './shoppers.ts';

t.setTimeout(340_000);
/** Part of the name of the only outage to run. */
const only = process.env.ARMATURE_TEST_FAULT ?? '';
const state = ownServers(t, 'faults-database');
const database = databaseServer(state);
const adminUrl = (await testServers()).servers.mysql.url;
const proxy = await openTcpProxy(t, adminUrl);
const shop = await openShop(t, {}, shopServices, {}, { databaseAddress: proxy.address });
const skus = await stockSkus(shop);
const seed = Number(process.env.SEED ?? Date.now() % 100_000);
const random = seeded(seed);
const administer = (sql: string) => withConnection(adminUrl, (connection) => connection.query(sql));

/** Connections of the test, which leave none for the services. */
const crowd: Connection[] = [];

/** The server accepts at most ten connections, and the test opens most of them. */
async function crowdOut(): Promise<void> {
  const administrator = await connectMysql(adminUrl);
  crowd.push(administrator);
  await administrator.query('set global max_connections = 10');
  const deadline = performance.now() + 20_000;
  while (crowd.length < 8 && performance.now() < deadline) {
    const [rows] = await administrator.query("select id from information_schema.processlist where user like 't\\_%'");
    // A connection that has ended by itself meanwhile frees its place too.
    for (const { id } of rows as { id: number }[]) await administrator.query('kill ?', [id]).catch(isGone);
    await connectMysql(adminUrl).then((connection) => crowd.push(connection), isCrowded);
  }
  if (crowd.length < 8) throw new Error('the services took the connections before the test could');
}

const isGone = (error: { errno?: number }) => expectErrno(error, 1094);
const isCrowded = (error: { errno?: number }) => expectErrno(error, 1040);
function expectErrno(error: { errno?: number }, errno: number): void {
  if (error.errno !== errno) throw error;
}

async function letIn(): Promise<void> {
  await crowd[0]!.query('set global max_connections = 400');
  for (const connection of crowd.splice(0)) await connection.end();
}

/** No service can reach the database, so no order is accepted. */
const unreachable = { readiness: 503, refuses: true } as const;
const gone = { ...unreachable, lastsMs: 4_000, end: () => database.start() };
const silent = { ...unreachable, lastsMs: 8_000, end: () => proxy.open() };

const outages: Record<string, Outage> = {
  'is stopped and started again': { ...gone, begin: () => database.stop() },
  'is killed in the middle of commits': { ...gone, begin: () => database.kill() },
  'can only be read': {
    begin: () => administer('set global read_only = 1'),
    lastsMs: 4_000,
    end: () => administer('set global read_only = 0'),
    readiness: 200,
    refuses: true,
  },
  'takes 100 to 500 ms for every statement': {
    begin: () => {
      proxy.delayMs = () => random.between(100, 500);
    },
    lastsMs: 8_000,
    end: () => {
      proxy.delayMs = () => 0;
    },
    readiness: undefined,
  },
  'has no connection left': { begin: crowdOut, lastsMs: 5_000, end: letIn, readiness: undefined },
  'takes connections and says nothing': { ...silent, begin: () => proxy.hold() },
  'falls silent in the middle of TLS handshakes': {
    ...silent,
    begin: () => {
      proxy.hold(mysqlTlsRequestBytes);
      // So that every service must connect again.
      proxy.cut();
    },
  },
};

t.comment(`SEED=${seed}`);
for (const [name, outage] of Object.entries(outages)) {
  if (name.includes(only)) t.test(`the database ${name}`, (t) => shopThrough(t, shop, skus, outage));
}
