import { randomUUID } from 'node:crypto';
import t from 'tap';
import { createDatabase } from '../../../test/support/infra.ts';
import { openDatabase } from '../db/database.ts';
import { migrate } from '../db/migrate.ts';
import { runtimeMigrations } from '../migrations/runtime-migrations.ts';
import { createLogger } from '../telemetry/log.ts';
import { createRegistry } from '../telemetry/metrics.ts';
import { purgeDeadLetters } from './dead-letter-retention.ts';

t.test('dead letters that were resolved long ago are deleted, open ones are kept', async (t) => {
  const schema = await createDatabase(t, 'orders');
  await migrate(schema.migratorUrl, runtimeMigrations);
  await schema.migrated();
  const options = { url: schema.url, log: createLogger('test', 'silent'), registry: createRegistry('retention') };
  const db = await openDatabase(options);
  t.teardown(() => db.close());
  const deadLetter = (name: string, redriven: string, dropped: string) =>
    db.write(null, (sql) =>
      sql.execute(
        `insert into dead_letter (id, consumer, message_id, publisher, type, routing_key, body, headers, reason,
           attempts, dead_at, redriven_at, dropped_at)
         values (?, ?, 'm', 'p', 't', 'r', '', '{}', '', 1, utc_timestamp(6) - interval 200 day, ${redriven}, ${dropped})`,
        [randomUUID(), name],
      ),
    );
  await deadLetter('open', 'null', 'null');
  await deadLetter('redriven-lately', 'utc_timestamp(6) - interval 89 day', 'null');
  await deadLetter('redriven-long-ago', 'utc_timestamp(6) - interval 91 day', 'null');
  await deadLetter('dropped-long-ago', 'null', 'utc_timestamp(6) - interval 91 day');
  t.equal(await purgeDeadLetters(db), 2);
  const left = await db.read(null, (sql) => sql.query<{ name: string }>('select consumer as name from dead_letter'));
  t.strictSame(left.map(({ name }) => name).sort(), ['open', 'redriven-lately']);
});
