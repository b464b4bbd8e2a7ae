import t, { type Test } from 'tap';
import { connectMysql } from '../../scripts/servers/mysql.ts';
import { openShop } from '../e2e/shop.ts';
import { ownServers, testServers } from '../support/infra.ts';
import { examine } from './examining.ts';
import { fillTables, tablesOf } from './filling.ts';
import { kindOf, recordStatements } from './recording.ts';
import { askForLists, askForMetrics, doBusiness } from './traffic.ts';

t.setTimeout(1_800_000);
const rows = Number(process.env.ARMATURE_STATEMENT_ROWS ?? 50_000);

ownServers(t, 'statements');
const { servers } = await testServers();
const server = await connectMysql(servers.mysql.url);
t.teardown(() => server.end());

// Recorded from the start of the services: each periodic job runs once then.
const recording = await recordStatements(server);
const shop = await openShop(t);
const made = await doBusiness(shop);
const problems = await askForLists(t, shop, made);
await askForMetrics(shop);
for (const service of Object.values(shop.mesh)) await service.stop();
const statements = await recording.stop();

const stores = Object.values(shop.mesh).flatMap(({ name, database }) => (database ? [{ name, database }] : []));
const tables = new Map<string, string[]>();
for (const { name, database } of stores) tables.set(name, await tablesOf(server, database.schema));
const all = [...tables.values()];
/** Every schema has the tables of the runtime, so one stands for all. */
const common = all[0]!.filter((table) => all.every((names) => names.includes(table)));
const own = (service: string) => tables.get(service)!.filter((table) => !common.includes(table));
const mentions = (sql: string, names: readonly string[]) => names.some((name) => new RegExp(`\\b${name}\\b`).test(sql));
const sentBy = ({ url }: { url: string }) => {
  const user = decodeURIComponent(new URL(url).username);
  return statements.filter((statement) => statement.user === user).map(({ sql }) => sql);
};

t.test('every list answers', (t) => {
  t.strictSame(problems, []);
  t.end();
});

async function examineAll(t: Test, schema: string, sent: readonly string[]): Promise<void> {
  t.ok(sent.length > 3, `${sent.length} statements were recorded`);
  for (const sql of sent) {
    const found = await examine(server, schema, sql);
    if (found.length > 0) t.fail(`${found.join('; ')}: ${kindOf(sql)}`, { sql });
  }
}

for (const { name, database } of stores) {
  t.test(`${name}: no statement reads more rows because its tables have grown to ${rows}`, async (t) => {
    await fillTables(server, database.schema, own(name), rows);
    await examineAll(
      t,
      database.schema,
      sentBy(database).filter((sql) => mentions(sql, own(name))),
    );
  });
}

t.test(`runtime: no statement reads more rows because its tables have grown to ${rows}`, async (t) => {
  const { schema } = stores.find(({ name }) => name === 'orders')!.database;
  await fillTables(server, schema, common, rows);
  const sent = stores.flatMap(({ name, database }) => sentBy(database).filter((sql) => !mentions(sql, own(name))));
  await examineAll(t, schema, [...new Map(sent.map((sql) => [kindOf(sql), sql])).values()]);
});
