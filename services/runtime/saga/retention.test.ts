import t from 'tap';
import { createDatabase } from '../../../test/support/infra.ts';
import { idleSagas } from '../../orders/testbed.ts';
import { newId, oldestIdOf } from '../id/id.ts';
import { open, openSchema } from '../testing/saga.ts';
import { purgeSagas, removeSecrets } from './retention.ts';

const schema = await openSchema(t, await createDatabase(t, 'orders'));
const dayMs = 86_400_000;

/** Inserts a saga that began and was last changed so many days ago. */
async function saga(status: string, beganDays: number, changedDays: number): Promise<string> {
  // Only the time is in the past: the rest keeps the id unique.
  const sagaId = oldestIdOf(new Date(Date.now() - beganDays * dayMs)).slice(0, 13) + newId().slice(13);
  await schema.sql(
    `insert into saga (saga_id, name, subject_id, status, state, results, data, lease_token, deadline_at,
       created_at, updated_at)
     values ('${sagaId}', 'checkout', '${newId()}', '${status}', '{}', '{}', '{}', 1, utc_timestamp(6),
       utc_timestamp(6), utc_timestamp(6) - interval ${changedDays} day)`,
    [],
  );
  await schema.sql(
    `insert into saga_log (saga_id, position, step, kind, outcome, attempt, detail, at)
     values ('${sagaId}', 1, 's', 'run', 'done', 0, '{}', utc_timestamp(6) - interval ${changedDays} day)`,
    [],
  );
  return sagaId;
}

const left = async (table: string) =>
  (await schema.sql<{ id: string }>(`select distinct saga_id as id from ${table}`, [])).map(({ id }) => id).sort();

t.test('sagas that ended long ago are deleted with their history, all others are kept', async (t) => {
  const gone = [await saga('COMPLETED', 401, 401), await saga('FAILED', 900, 400)];
  const kept = [
    await saga('COMPLETED', 399, 399),
    await saga('FAILED', 401, 30),
    await saga('STUCK', 900, 900),
    await saga('WAITING', 900, 900),
  ].sort();
  const call = open('purge', 10_000);
  t.teardown(() => call.close());
  t.equal(await purgeSagas(schema.db, call, 400), gone.length);
  t.strictSame(await left('saga'), kept);
  t.strictSame(await left('saga_log'), kept);
  t.equal(await purgeSagas(schema.db, call, 400), 0);
});

t.test('the service can neither change a history nor delete that of a saga that is there', async (t) => {
  const id = await saga('STUCK', 900, 900);
  await t.rejects(
    schema.db.write(null, (sql) => sql.execute('delete from saga_log')),
    /denied/,
  );
  await schema.db.write(null, (sql) => sql.execute('call purge_saga_log(?)', [id]));
  t.ok((await left('saga_log')).includes(id));
});

t.test('secrets leave sagas that another release has ended, some at a time, and no others', async (t) => {
  await schema.sql('delete from saga');
  const { definitions } = idleSagas();
  const data = JSON.stringify({ paymentMethod: 'card_secret', totalMinor: '900' });
  const rows: [name: string, status: string][] = [
    ...(['checkout', 'checkout', 'checkout', 'free-checkout'] as const).map((name): [string, string] => [
      name,
      'FAILED',
    ]),
    ...[['checkout', 'COMPLETED'] as [string, string]],
    ...(['RUNNING', 'WAITING', 'STUCK'] as const).map((status): [string, string] => ['checkout', status]),
    ['of-no-process', 'COMPLETED'],
  ];
  for (const [name, status] of rows) {
    const id = await saga(status, 1, 1);
    await schema.sql('update saga set name = ?, data = ? where saga_id = ?', [name, data, id]);
  }
  const run = () => removeSecrets(schema.db, definitions, 3);
  t.equal(await run(), 4, 'three of one name, one of another');
  t.equal(await run(), 1);
  t.equal(await run(), 0, 'none is looked at again');
  const found = await schema.sql<{ name: string; status: string; data: string }>('select name, status, data from saga');
  t.strictSame(
    found.map((row) => `${row.name} ${row.status} ${row.data.replaceAll(' ', '')}`).sort(),
    rows.map(([name, status], index) => `${name} ${status} ${index < 5 ? '{"totalMinor":"900"}' : data}`).sort(),
  );
});
