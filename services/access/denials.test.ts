// How long denials of deactivated accounts last, and what they mean for the administration of the policy.
import { type CallContext, newId } from '@armature/runtime';
import { stepsOf } from '@armature/runtime/migrations';
import t from 'tap';
import { withConnection } from '../../scripts/devmesh/provision.ts';
import { refusal } from '../../test/support/refusal.ts';
import { denialStore } from './denial-store.ts';
import { Migration20261127400000_denial_ends } from './migrations/20261127400000-denial-ends.ts';
import { readPolicy } from './policy-store.ts';
import { openTables, seedText, seedWith } from './testbed.ts';

t.setTimeout(120_000);
const { database, instance } = await openTables(t);
const access = await instance();
const { db, store, background } = access;
const administrators = ['user:amy', 'user:ben'];
const grants = administrators.map((user) => `g, ${user}, role:admin\n`).join('');
await seedWith(access, `${seedText}${grants}d, user:seeded\n`);

const run = <T>(work: (call: CallContext) => Promise<T>): Promise<T> => {
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
  (await sql<{ subject: string }[]>('select subject from denied_subject where ended_at is null order by subject')).map(
    ({ subject }) => subject,
  );
const endAll = async () => {
  await sql(`update denied_subject set end_at = utc_timestamp(6) - interval 1 second where end_at is not null`);
  return run((call) => store.applyDue(db)(call));
};

t.test('the denial of an account with roles does not end by time, so it is never an administrator', async (t) => {
  // Of the administrators that the first policy has, only these two are left.
  const others = await sql<{ member: string }[]>(
    `select distinct member from role_grant where role = 'role:admin' and member like 'user:%' and state <> 'ENDED'`,
  );
  for (const { member } of others) if (!administrators.includes(member)) await revokeAll(member);
  await deny('user:amy');
  await deny('user:nora');
  t.same(await denied(), ['user:amy', 'user:nora', 'user:seeded']);
  t.equal(await endAll(), 1);
  t.same(await denied(), ['user:amy', 'user:seeded'], 'that of an account without roles has ended');
  t.equal(await run((call) => store.applyDue(db)(call)), 0, 'denials that stay cause no new version');
  await t.rejects(revokeAll('user:ben'), refusal({ reason: 'LAST_ADMINISTRATOR' }));
});

t.test('that denial ends once the roles have ended', async (t) => {
  await revokeAll('user:amy');
  t.equal(await endAll(), 1);
  t.same(await denied(), ['user:seeded']);
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
  t.same(await denied(), ['user:amy', 'user:seeded']);
  await t.rejects(revokeAll('user:ben'), refusal({ reason: 'LAST_ADMINISTRATOR' }));
});

t.test(
  'a role granted to an account whose denial has ended denies it again, and makes no administrator of it',
  async (t) => {
    await revokeAll('user:amy');
    await deny('user:omar');
    await endAll();
    t.same(await denied(), ['user:seeded']);
    await run((call) =>
      db.transaction(call, (tx) =>
        store.grant(tx, call, { member: 'user:omar', role: 'role:admin', startAt: null, endAt: null }),
      ),
    );
    t.same(await denied(), ['user:omar', 'user:seeded']);
    await t.rejects(revokeAll('user:ben'), refusal({ reason: 'LAST_ADMINISTRATOR' }));
    await run((call) => db.transaction(call, (tx) => store.allow(tx, call, 'user:omar')));
    t.same(await denied(), ['user:seeded'], 'a reactivated account is an administrator');
    await revokeAll('user:ben');
  },
);

t.test('denials of the seed file have no end; those of an earlier release get one', async (t) => {
  await sql(`insert into denied_subject (subject, created_at) values ('user:earlier', utc_timestamp(6))`);
  await deny('user:seeded');
  for (const { statement } of stepsOf(Migration20261127400000_denial_ends))
    if (statement.trim().startsWith('update')) await sql(statement);
  const rows = await sql(
    `select subject, timestampdiff(hour, utc_timestamp(6), end_at) as hours from denied_subject
     where subject in ('user:earlier', 'user:seeded') order by subject`,
  );
  t.match(rows, [
    { subject: 'user:earlier', hours: 23 },
    { subject: 'user:seeded', hours: null },
  ]);
});

t.test('a full list of denials ends those that are older than any token, and no others', async (t) => {
  const before = await denied();
  const { deny } = denialStore(access.change, before.length + 4);
  const denyWithinLimit = (subject: string) =>
    run((call) => db.transaction(call, (tx) => deny(tx, call, subject, 'deactivated')));
  const inPolicy = async () => {
    const { text } = await db.read(null, readPolicy);
    return ['user:full-a', 'user:full-b', 'user:full-c', 'user:full-d', 'user:full-e'].filter((subject) =>
      text.includes(`d, ${subject}\n`),
    );
  };
  await run((call) =>
    db.transaction(call, (tx) =>
      store.grant(tx, call, { member: 'user:full-b', role: 'role:staff', startAt: null, endAt: null }),
    ),
  );
  for (const subject of ['user:full-a', 'user:full-b', 'user:full-c']) await denyWithinLimit(subject);
  await sql(
    `update denied_subject set created_at = created_at - interval 3 hour, end_at = end_at - interval 3 hour
     where subject in ('user:full-a', 'user:full-b')`,
  );
  await denyWithinLimit('user:full-d');
  t.same(await inPolicy(), ['user:full-a', 'user:full-b', 'user:full-c', 'user:full-d'], 'the list had room for one');
  await denyWithinLimit('user:full-e');
  const left = ['user:full-b', 'user:full-c', 'user:full-d', 'user:full-e'];
  t.same(await denied(), [...before, ...left].sort(), 'the old denial of an account without roles has ended');
  t.same(await inPolicy(), left, 'and the policy is that of the rows');
});
