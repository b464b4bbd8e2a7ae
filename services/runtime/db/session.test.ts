import type { RowDataPacket } from 'mysql2/promise';
import t from 'tap';
import { withConnection } from '../../../scripts/devmesh/provision.ts';
import { createDatabase } from '../../../test/support/infra.ts';
import { createLogger } from '../telemetry/log.ts';
import { createRegistry } from '../telemetry/metrics.ts';
import { openDatabase } from './database.ts';
import { idleConnections, sessionStatements, sqlMode } from './session.ts';

t.test('MySQL ends an idle session and bounds SELECTs', (t) => {
  t.strictSame(sessionStatements('8.4.6', 10_000), [
    'set session transaction isolation level read committed',
    `set session sql_mode = '${sqlMode}', time_zone = '+00:00', innodb_lock_wait_timeout = 5, max_execution_time = 10000, wait_timeout = 30`,
  ]);
  t.end();
});

t.test('MariaDB ends an idle transaction and bounds every statement', (t) => {
  const [, limits] = sessionStatements('10.11.14-MariaDB-0+deb12u2', 10_000);
  t.match(limits, /, max_statement_time = 10, idle_transaction_timeout = 30$/);
  t.notMatch(limits, /wait_timeout = 30.*wait_timeout|max_execution_time/);
  t.end();
});

t.test('the pool closes an idle connection before MySQL would', (t) => {
  const { maxIdle, idleTimeout } = idleConnections(20, 10_000);
  t.ok(idleTimeout < 30_000);
  t.ok(maxIdle < 20, 'or the driver never looks');
  t.end();
});

t.test('a database that nothing was sent to leaves no timer behind when it is closed', async (t) => {
  const timers = () => process.getActiveResourcesInfo().filter((kind) => kind === 'Timeout').length;
  const before = timers();
  const log = createLogger('test', 'silent');
  const db = await openDatabase({ url: 'mysql://stranger@127.0.0.1:1/x', log, registry: createRegistry('unused') });
  t.ok(timers() > before, 'the pool has a timer while it is open');
  await db.close();
  t.equal(timers(), before);
});

t.test('a session', async (t) => {
  const schema = await createDatabase(t, 'orders');
  const log = createLogger('test', 'silent');
  const options = { url: schema.migratorUrl, log, registry: createRegistry('session'), poolMax: 1 };
  const db = await openDatabase({ ...options, statementTimeoutMs: 500 });
  t.teardown(() => db.close());
  const ask = <Row>(sql: string) => db.read(null, (run) => run.query<Row>(sql));

  t.test('has the SQL mode of ours, whatever the server has', async (t) => {
    const [row] = await ask<{ mode: string }>('select @@session.sql_mode as mode');
    // MariaDB returns the modes in another order.
    t.strictSame(row?.mode.split(',').sort(), sqlMode.split(',').sort());
    await db.write(null, (run) => run.execute('create table short (word varchar(3) not null, n int not null)'));
    const long = db.write(null, (run) => run.execute(`insert into short values ('long', 1)`));
    await t.rejects(long, /too long/, 'what does not fit is refused, not cut');
    await t.rejects(ask('select word, n from short group by n'), /GROUP BY/, 'no row is picked out of a group');
  });

  t.test('is closed after a while without statements', async (t) => {
    const connections = () =>
      withConnection(schema.adminUrl, async (connection) => {
        const [rows] = await connection.query<RowDataPacket[]>(
          'select id from information_schema.processlist where db = ? and id <> connection_id()',
          [schema.schema],
        );
        return rows.length;
      });
    await ask('select 1');
    t.equal(await connections(), 1);
    const deadline = Date.now() + 15_000;
    while ((await connections()) > 0) {
      if (Date.now() > deadline) throw new Error('the connection is still there after 15 s');
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    t.strictSame(await ask('select 1 as one'), [{ one: 1 }], 'and a new one is made when it is needed');
  });
});
