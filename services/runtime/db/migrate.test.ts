import type { Connection, RowDataPacket } from 'mysql2/promise';
import t from 'tap';
import { withConnection } from '../../../scripts/devmesh/provision.ts';
import { createDatabase } from '../../../test/support/infra.ts';
import { migrate } from './migrate.ts';
import { type Migration, type SchemaChange, stepsOf } from './schema-change.ts';

const schema = await createDatabase(t, 'orders');
const admin = <T>(work: (connection: Connection) => Promise<T>) => withConnection(schema.adminUrl, work);
const rows = (sql: string) => admin(async (connection) => (await connection.query<RowDataPacket[]>(sql))[0]);

const migration = (name: string, up: (change: SchemaChange) => void): Migration => ({ name, up });

const shelf = migration('Migration20260101000000_shelf', (change) => {
  change.run(`create table if not exists shelf (id int not null, label varchar(20) not null, primary key (id))`);
  change.addColumn('shelf', 'height', 'int not null default 1');
  change.addIndex('shelf', 'shelf_label', '(label, id)');
  change.addUniqueIndex('shelf', 'shelf_height', '(height, id)');
  change.addConstraint('shelf', 'shelf_has_height', 'check (height > 0)');
  change.run(`insert into shelf (id, label) values (1, 'first') on duplicate key update id = id`);
  change.run(`alter table shelf comment = 'where things lie'`);
});
const narrower = migration('Migration20260102000000_narrower', (change) => {
  change.dropConstraint('shelf', 'shelf_has_height');
  change.dropIndex('shelf', 'shelf_height');
  change.dropColumn('shelf', 'height');
});

const shelfTable = async () => (await rows('show create table shelf'))[0]?.['Create Table'];

t.test('a migration whose note is lost runs again and changes nothing', async (t) => {
  t.strictSame(await migrate(schema.migratorUrl, [shelf]), [shelf.name]);
  const before = await shelfTable();
  t.match(before, /`height` int/);
  t.match(before, /UNIQUE KEY `shelf_height`/);
  t.match(before, /CONSTRAINT `shelf_has_height`/);
  await rows('delete from migration');
  t.strictSame(await migrate(schema.migratorUrl, [shelf]), [shelf.name]);
  t.equal(await shelfTable(), before);
  t.equal((await rows('select * from shelf')).length, 1);
  t.strictSame(await migrate(schema.migratorUrl, [shelf]), [], 'what is noted is not run');
});

t.test('what is gone is not dropped again', async (t) => {
  t.strictSame(await migrate(schema.migratorUrl, [shelf, narrower]), [narrower.name]);
  t.notMatch(await shelfTable(), /height/);
  await rows(`delete from migration where name = '${narrower.name}'`);
  t.strictSame(await migrate(schema.migratorUrl, [shelf, narrower]), [narrower.name]);
});

for (const statement of [
  'create table shelf (id int)',
  'alter table shelf add column width int',
  'alter table shelf drop column label',
  'create index shelf_label on shelf (label)',
  'drop table shelf',
  `insert into shelf (id) values (1)`,
  `insert ignore into shelf (id) values (1)`,
  'alter table shelf modify column label int, add column width int',
]) {
  t.test(`refuses "${statement}", which cannot run again`, (t) => {
    const bad = migration('Migration20260103000000_bad', (change) => change.run(statement));
    t.throws(() => stepsOf(bad), { message: /Migration20260103000000_bad: this statement fails or acts twice/ });
    t.end();
  });
}

t.test('refuses a name that would need quotes', (t) => {
  const bad = migration('Migration20260103000000_bad', (change) => change.addColumn('shelf', 'a b', 'int'));
  t.throws(() => stepsOf(bad), { message: /"a b"/ });
  t.end();
});

t.test('a migration that cannot get the lock says who holds what, and changes nothing', async (t) => {
  await admin(async (connection) => {
    await connection.query(`select get_lock(concat(database(), '.migration'), 0)`);
    const later = migration('Migration20260104000000_later', (change) =>
      change.addColumn('shelf', 'depth', 'int null'),
    );
    await t.rejects(migrate(schema.migratorUrl, [later], { lockWaitSeconds: 1 }), {
      message: `another process has held the lock ${schema.schema}.migration for 1 s and may be migrating this schema; wait until it ends, then run the migration again`,
    });
    t.notMatch(await shelfTable(), /depth/);
  });
});

t.test('a lock that the server cannot give is an error', async (t) => {
  await admin(async (connection) => {
    await connection.query(`select get_lock(concat(database(), '.migration'), 0)`);
    const waiting = migrate(schema.migratorUrl, []);
    const victim = await eventually(connection, 'select id from information_schema.processlist where state = ?', [
      'User lock',
    ]);
    await connection.query('kill query ?', [victim]);
    await t.rejects(waiting, { message: /could not give the lock|interrupted/ });
  });
});

t.test('no statement is sent after the connection that holds the lock is gone', async (t) => {
  const wide = migration('Migration20260105000000_wide', (change) => {
    change.addColumn('shelf', 'width', 'int null');
    change.addColumn('shelf', 'weight', 'int null');
  });
  const sent: string[] = [];
  const interrupted = migrate(schema.migratorUrl, [wide], {
    async afterStatement(statement) {
      sent.push(statement);
      if (!/width/.test(statement)) return;
      await admin(async (connection) => {
        const [[holder]] = await connection.query<RowDataPacket[]>(
          `select is_used_lock(concat(database(), '.migration')) as id`,
        );
        await connection.query('kill ?', [holder?.id]);
      });
    },
  });
  await t.rejects(interrupted);
  t.notOk(sent.some((statement) => /weight/.test(statement)));
  t.match(await shelfTable(), /width/);
  t.notMatch(await shelfTable(), /weight/);
  t.strictSame(await migrate(schema.migratorUrl, [wide]), [wide.name], 'the next run finishes it');
  t.match(await shelfTable(), /weight/);
});

t.test('two that migrate at once apply each migration once', async (t) => {
  const twice = migration('Migration20260106000000_twice', (change) => change.addColumn('shelf', 'colour', 'int null'));
  const both = await Promise.all([migrate(schema.migratorUrl, [twice]), migrate(schema.migratorUrl, [twice])]);
  t.strictSame(both.flat(), [twice.name]);
  t.equal((await rows(`select * from migration where name = '${twice.name}'`)).length, 1);
});

/** The id in the first row that the query finds within ten seconds. */
async function eventually(connection: Connection, sql: string, params: string[]): Promise<number> {
  const deadline = Date.now() + 10_000;
  for (;;) {
    const [found] = await connection.query<RowDataPacket[]>(sql, params);
    if (found[0]) return Number(found[0].id);
    if (Date.now() > deadline) throw new Error(`${sql} found nothing within 10 s`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
