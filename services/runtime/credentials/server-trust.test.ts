import { copyFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { issueCertificate } from '../../../scripts/devmesh/certificates.ts';
import { createDatabase, createVhost, testServers } from '../../../test/support/infra.ts';
import { openDatabase } from '../db/database.ts';
import { migrate } from '../db/migrate.ts';
import { openBroker } from '../messaging/connection.ts';
import { createLogger } from '../telemetry/log.ts';
import { createRegistry } from '../telemetry/metrics.ts';
import { eventually } from '../testing/messaging.ts';
import { caReader, splitCa, withCa } from './server-trust.ts';

t.setTimeout(60_000);
const log = createLogger('test', 'silent');
const { servers } = await testServers();
const encrypted = [servers.mysql.url, servers.rabbitmq.url].every((url) => splitCa(url).caFile);
const skip = encrypted ? undefined : 'the servers were given without TLS';
const { pem: foreignPem } = await issueCertificate({ isCa: true, commonName: 'foreign' });

t.test('a URL and the CA bundle that verifies its server', async (t) => {
  const rows = [
    { url: 'mysql://u:p@h:1/s', with: 'mysql://u:p@h:1/s?ssl-ca=%2Fa+b%2Fca.pem' },
    { url: 'amqps://u:p@h:1/v', with: 'amqps://u:p@h:1/v?cacertfile=%2Fa+b%2Fca.pem' },
    { url: 'amqps://u:p@h:1/%2F?heartbeat=5', with: 'amqps://u:p@h:1/%2F?heartbeat=5&cacertfile=%2Fa+b%2Fca.pem' },
    { url: 'https://u:p@h:1', with: 'https://u:p@h:1/?cacertfile=%2Fa+b%2Fca.pem', back: 'https://u:p@h:1/' },
  ];
  for (const row of rows) {
    t.equal(withCa(row.url, '/a b/ca.pem'), row.with);
    t.strictSame(splitCa(row.with), { url: row.back ?? row.url, caFile: '/a b/ca.pem' });
    t.equal(withCa(row.url, ''), row.url, 'no file, no change');
    t.strictSame(splitCa(row.url), { url: row.url, caFile: undefined });
  }
  for (const url of ['amqp://h:1', 'http://h:1']) t.throws(() => withCa(url, '/ca.pem'), { message: /not encrypted/ });
});

/**
 * A file with an authority that has issued no certificate in use, and a function that replaces it with the right one.
 */
function trusting(t: Test) {
  const file = join(t.testdir(), 'ca.pem');
  writeFileSync(file, foreignPem);
  const replaceBy = (other: string) => {
    copyFileSync(other, `${file}.new`);
    renameSync(`${file}.new`, file);
  };
  return { file, replaceBy };
}

t.test('a file of authorities', async (t) => {
  const { file } = trusting(t);
  const read = caReader(file);
  t.equal(read(), foreignPem);
  rmSync(file);
  t.equal(read(), foreignPem, 'what was good stays while the file is away');
  t.throws(() => caReader(file), { code: 'ENOENT' });
  writeFileSync(file, foreignPem.slice(0, 300));
  t.throws(() => caReader(file), { message: /not whole certificates/ });
});

t.test('the database', { skip }, async (t) => {
  const schema = await createDatabase(t, 'orders');
  const { url, caFile } = splitCa(schema.url);
  const { file, replaceBy } = trusting(t);
  const db = await openDatabase({ url: withCa(url, file), log, registry: createRegistry('test') });
  t.teardown(() => db.close());
  const ask = () => db.read(null, (sql) => sql.query<{ one: number }>('select 1 as one'));
  await t.rejects(ask(), { code: 'UNAVAILABLE' }, 'is not believed without a known authority');
  await t.rejects(migrate(withCa(splitCa(schema.migratorUrl).url, file), []), 'nor by a migration');
  const bare = await openDatabase({ url, log, registry: createRegistry('bare') });
  t.teardown(() => bare.close());
  await t.rejects(
    bare.read(null, (sql) => sql.query('select 1')),
    { message: /Access denied|insecure transport/ },
    'does not take us in the clear',
  );
  replaceBy(caFile!);
  await eventually(
    () =>
      ask().then(
        () => true,
        () => false,
      ),
    'new connections trust what the file holds now',
  );
  const [cipher] = await db.read(null, (sql) => sql.query<{ Value: string }>("show session status like 'Ssl_version'"));
  t.match(cipher?.Value, /^TLSv1\.[23]$/);
});

t.test('the broker', { skip }, async (t) => {
  const vhost = await createVhost(t, ['orders']);
  const { url, caFile } = splitCa(vhost.url('orders'));
  const { file, replaceBy } = trusting(t);
  const lines: string[] = [];
  const loud = createLogger('test', 'silent');
  loud.warn = ((fields: { err?: Error }) => lines.push(fields.err?.message ?? '')) as typeof loud.warn;
  const backoff = { initialBackoffMs: 20, maxBackoffMs: 200 };
  const broker = openBroker({
    url: withCa(url, file),
    service: 'orders',
    log: loud,
    registry: createRegistry('test'),
    backoff,
  });
  t.teardown(() => broker.close());
  await eventually(async () => lines.some((line) => /self-signed|unable to/.test(line)), 'it is not believed');
  t.equal(broker.ready(), false);
  replaceBy(caFile!);
  await eventually(async () => broker.ready(), 'new connections trust what the file holds now');
});
