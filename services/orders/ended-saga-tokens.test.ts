import { migrate } from '@armature/runtime/db/migrate.ts';
import { runtimeMigrations } from '@armature/runtime/migrations.ts';
import t from 'tap';
import { withConnection } from '../../scripts/provision.ts';
import { createDatabase } from '../../test/support/infra.ts';
import { Migration20261127210000_ended_saga_tokens } from './migrations/20261127210000-ended-saga-tokens.ts';

t.test('payment tokens of checkouts that have ended are removed, those under way keep theirs', async (t) => {
  const database = await createDatabase(t, 'orders');
  await migrate(database.migratorUrl, runtimeMigrations);
  const data = JSON.stringify({ paymentMethod: 'card_secret', totalMinor: '900' });
  const rows: [string, string, string][] = [
    ['00000000-0000-7000-8000-000000000001', 'checkout', 'COMPLETED'],
    ['00000000-0000-7000-8000-000000000002', 'checkout', 'FAILED'],
    ['00000000-0000-7000-8000-000000000003', 'checkout', 'STUCK'],
    ['00000000-0000-7000-8000-000000000004', 'cancellation', 'COMPLETED'],
  ];
  await withConnection(database.adminUrl, async (connection) => {
    for (const [id, name, status] of rows) {
      await connection.query(
        `insert into saga (saga_id, name, subject_id, status, state, results, data, lease_token, deadline_at, created_at,
           updated_at) values (?, ?, ?, ?, '{}', '{}', ?, 0, utc_timestamp(6), utc_timestamp(6), utc_timestamp(6))`,
        [id, name, id, status, data],
      );
    }
  });
  await migrate(database.migratorUrl, [...runtimeMigrations, Migration20261127210000_ended_saga_tokens]);
  const [found] = await withConnection(database.adminUrl, (connection) =>
    connection.query("select saga_id, data like '%card_secret%' as has_token, data from saga order by saga_id"),
  );
  t.match(found, [{ has_token: 0 }, { has_token: 0 }, { has_token: 1 }, { has_token: 1 }]);
  t.strictSame(JSON.parse((found as { data: string }[])[0]!.data), { totalMinor: '900' });
});
