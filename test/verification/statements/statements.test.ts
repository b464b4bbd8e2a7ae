import t, { type Test } from 'tap';
import { connectMysql } from '../../../scripts/devmesh/servers/mysql.ts';
import { openClientSets } from '../../e2e/shop.ts';
import { ownServers, testServers } from '../../support/infra.ts';
import { startMesh } from '../../support/service.ts';
import { amount } from '../../support/tier.ts';
import { doRareWork, letTimesCome, schemasWithBacklog } from './backlog.ts';
import { examine } from './examining.ts';
import { fillTables, tablesOf } from './filling.ts';
import { kindOf, recordStatements } from './recording.ts';
import { findsByKey, statementsInSources, uniqueKeys } from './sources.ts';
import { administer, askForLists, askForMetrics, doBusiness } from './traffic.ts';

t.setTimeout(1_800_000);
const rows = Number(process.env.ARMATURE_STATEMENT_ROWS ?? amount(20_000, 50_000));

/** Statements that this test does not send: file, first words, and why they need not be examined. */
const notSent: readonly (readonly [file: string, text: string, why: string])[] = [
  [
    'services/access/denial-store.ts',
    'update denied_subject set ended_at = utc_timestamp(6) where ended_at is null and end_at',
    'of 100,000 denied accounts at most',
  ],
  [
    'services/runtime/messaging/dead-letter.ts',
    'select 1 from dead_letter where consumer = ?',
    'for a foreign message',
  ],
];

ownServers(t, 'statements');
const { servers } = await testServers();
const server = await connectMysql(servers.mysql.url);
t.teardown(() => server.end());

// Recorded from the start of the services: each periodic job runs once then.
const recording = await recordStatements(server);
const settings: Record<string, Record<string, string>> = {
  payments: { ARMATURE_ACQUIRER_TIMEOUT_MS: '500', ARMATURE_RECONCILE_MS: '500', ARMATURE_RECONCILE_GRACE_MS: '0' },
  acquirer: { ARMATURE_ACQUIRER_SLOW_MS: '3000' },
};
const databases = await schemasWithBacklog(t);
const mesh = await startMesh(t, undefined, (name) => ({ database: databases.get(name), env: settings[name] ?? {} }));
const service = (name: string) => mesh[name]!;
const shop = { mesh, service, ...(await openClientSets(t, (name) => service(name).grpc)) };
const made = await doBusiness(shop);
const problems = await askForLists(t, shop, made);
await administer(t, shop);
await askForMetrics(shop);
await letTimesCome(shop);
await doRareWork(shop);
for (const service of Object.values(shop.mesh)) await service.stop();
const statements = await recording.stop();

const stores = Object.values(shop.mesh).flatMap(({ name, database }) => (database ? [{ name, database }] : []));
const tables = new Map<string, string[]>();
for (const { name, database } of stores) tables.set(name, await tablesOf(server, database.schema));
const all = [...tables.values()];
/** Every schema has the runtime's tables, so they are examined in one schema only. */
const common = all[0]!.filter((table) => all.every((names) => names.includes(table)));
const own = (service: string) => tables.get(service)!.filter((table) => !common.includes(table));
const mentions = (sql: string, names: readonly string[]) => names.some((name) => new RegExp(`\\b${name}\\b`).test(sql));
const sentBy = ({ url }: { url: string }) => {
  const user = decodeURIComponent(new URL(url).username);
  return statements.filter((statement) => statement.user === user).map(({ sql }) => sql);
};

t.test('every list method responds', (t) => {
  t.strictSame(problems, []);
  t.end();
});

t.test('every statement of the services was sent, so that it is examined', async (t) => {
  const keys = await uniqueKeys(server);
  const missing = statementsInSources().filter(
    (one) => !findsByKey(one, keys) && !statements.some(({ sql }) => one.pattern.test(sql)),
  );
  for (const { file, text } of missing) {
    if (!notSent.some(([where, what]) => file.startsWith(where) && text.startsWith(what))) {
      t.fail(`send it from traffic.ts or backlog.ts, or add to notSent why not: ${file}: ${text}`);
    }
  }
  for (const [where, what] of notSent) {
    const known = missing.some(({ file, text }) => file.startsWith(where) && text.startsWith(what));
    if (!known) t.fail(`it was sent, or no longer exists; remove it from notSent: ${where}: ${what}`);
  }
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
