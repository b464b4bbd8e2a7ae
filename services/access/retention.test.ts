import t from 'tap';
import { withConnection } from '../../scripts/devmesh/provision.ts';
import { purgeDecisions } from './history-store.ts';
import { openTables } from './testbed.ts';

t.test('old decisions are deleted by a procedure, and the service itself can change none', async (t) => {
  const { database, instance } = await openTables(t);
  const { db } = await instance();
  const insert = (decisionId: string, ageDays: number) =>
    db.write(null, (sql) =>
      sql.execute(
        `insert into decision (decision_id, service, workload, subject, permission, target, allowed, reason,
           policy_version, call_id, count, decided_at, recorded_at)
         values (?, 's', 'w', 's', 'p', 't', 1, '', '1', 'c', 1, utc_timestamp(6),
           utc_timestamp(6) - interval ${ageDays} day)`,
        [`00000000-0000-7000-8000-00000000${decisionId}`],
      ),
    );
  for (const [id, ageDays] of [
    ['0500', 500],
    ['0401', 401],
    ['0399', 399],
    ['0091', 91],
    ['0089', 89],
  ] as const) {
    await insert(id, ageDays);
  }
  const purge = (keptDays: number) => db.write(null, (sql) => purgeDecisions(sql, keptDays));
  const left = () =>
    db.read(null, async (sql) =>
      (await sql.query<{ id: string }>('select decision_id as id from decision order by position')).map(({ id }) =>
        id.slice(-4),
      ),
    );
  t.equal(await purge(400), 2);
  t.strictSame(await left(), ['0399', '0091', '0089']);
  t.equal(await purge(400), 0);
  t.equal(await purge(0), 2, 'at least 90 days are kept, whatever is asked for');
  t.strictSame(await left(), ['0089']);
  for (const change of ['delete from decision', `update decision set reason = 'x'`]) {
    await t.rejects(
      db.write(null, (sql) => sql.execute(change)),
      /denied/,
    );
  }
  const [[row]] = (await withConnection(database.adminUrl, (connection) =>
    connection.query('select count(*) as decisions from decision'),
  )) as [[{ decisions: number }], unknown];
  t.equal(Number(row.decisions), 1);
});
