// How long denials of deactivated accounts last, and what they mean for the administration of the policy.
import { type Call, newId } from '@armature/runtime';
import t from 'tap';
import { withConnection } from '../../scripts/provision.ts';
import { refusal } from '../../test/support/refusal.ts';
import { openTables, seedText, seedWith } from './testbed.ts';

t.setTimeout(120_000);
const { database, instance } = await openTables(t);
const access = await instance();
const { db, store, background } = access;
const administrators = ['user:amy', 'user:ben'];
await seedWith(access, `${seedText}${administrators.map((user) => `g, ${user}, role:admin\n`).join('')}`);

const run = <T>(work: (call: Call) => Promise<T>): Promise<T> => {
  const call = background('test', 20_000);
  return work(call).finally(() => call.close());
};
const deny = (subject: string) =>
  run((call) => db.transaction(call, (tx) => store.deny(tx, call, subject, 'deactivated')));
const sql = async <T = unknown>(text: string) =>
  (await withConnection(database.adminUrl, (connection) => connection.query(text)))[0] as T;
const revokeAll = (member: string) =>
  run((call) =>
    db.transaction(call, async (tx) => {
      const grants = await tx.query<{ id: string }>(
        `select grant_id as id from role_grant where member = ? and state <> 'ENDED'`,
        [member],
      );
      for (const { id } of grants) await store.revoke(tx, call, id);
    }),
  );
const denied = async () =>
  (await sql<{ subject: string }[]>('select subject from denied_subject order by subject')).map(
    ({ subject }) => subject,
  );
const endAll = async () => {
  await sql(`update denied_subject set end_at = utc_timestamp(6) - interval 1 second`);
  return run((call) => store.applyDue(db)(call));
};

t.test('the denial of an account with roles does not end by time: it is no administrator later either', async (t) => {
  // Of the administrators that the first policy has, only these two are left.
  const others = await sql<{ member: string }[]>(
    `select distinct member from role_grant where role = 'role:admin' and member like 'user:%' and state <> 'ENDED'`,
  );
  for (const { member } of others) if (!administrators.includes(member)) await revokeAll(member);
  await deny('user:amy');
  await deny('user:nora');
  t.same(await denied(), ['user:amy', 'user:nora']);
  t.equal(await endAll(), 1);
  t.same(await denied(), ['user:amy'], 'that of an account without roles has ended');
  t.equal(await run((call) => store.applyDue(db)(call)), 0, 'what stays is no work');
  await t.rejects(revokeAll('user:ben'), refusal({ reason: 'LAST_ADMINISTRATOR' }));
});

t.test('it ends once the roles have ended', async (t) => {
  await revokeAll('user:amy');
  t.equal(await endAll(), 1);
  t.same(await denied(), []);
  await t.rejects(revokeAll('user:ben'), refusal({ reason: 'LAST_ADMINISTRATOR' }));
});

t.test('a grant that begins or ends does not end the denial of an account with roles', async (t) => {
  await run((call) =>
    db.transaction(call, async (tx) => {
      await store.grant(tx, call, { member: 'user:amy', role: 'role:admin', startAt: null, endAt: null });
      await store.grant(tx, call, { member: `user:${newId()}`, role: 'role:staff', startAt: null, endAt: null });
    }),
  );
  await deny('user:amy');
  await sql(`update role_grant set end_at = utc_timestamp(6) where role = 'role:staff' and member like 'user:0%'`);
  t.equal(await endAll(), 1);
  t.same(await denied(), ['user:amy']);
  await t.rejects(revokeAll('user:ben'), refusal({ reason: 'LAST_ADMINISTRATOR' }));
});
