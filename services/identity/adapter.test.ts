import { newId, type Tx } from '@armature/runtime';
import { background } from '@armature/runtime/context';
import { secretVersion } from '@armature/runtime/credentials';
import { openDatabase } from '@armature/runtime/db';
import { migrate, runtimeMigrations } from '@armature/runtime/migrations';
import { createLogger, Registry } from '@armature/runtime/telemetry';
import t from 'tap';
import { createDatabase } from '../../test/support/infra.ts';
import { refusal } from '../../test/support/refusal.ts';
import { adapters } from './adapter.ts';
import { artifactStore } from './artifact-store.ts';
import { migrations } from './migrations/index.ts';
import { resealing } from './resealing.ts';
import { fingerprint, sealing } from './sealing.ts';
import { sessionStore } from './session-store.ts';

const log = createLogger('identity', 'error');
const database = await createDatabase(t, 'identity');
await migrate(database.migratorUrl, [...runtimeMigrations, ...migrations]);
const db = await openDatabase({ url: database.url, log, registry: new Registry() });
t.teardown(() => db.close());
const [secret, nextSecret] = ['a secret of thirty-two characters', 'another one of as many characters'];
const store = artifactStore(sealing(secret));
const sessions = sessionStore();
const open = background('identity', log);
const refreshReuseS = 60;
const parts = { sessions, background: open, refreshReuseS };
const adapter = adapters(db, store, { ...parts, findClient: async (clientId) => ({ client_id: clientId }) });

const codes = adapter('AuthorizationCode');
const payload = (grantId: string) => ({ grantId, accountId: 'ada', clientId: 'cli', nonce: 'canary-nonce' });

t.test('stored models are found until they are destroyed or expire', async (t) => {
  const id = newId();
  t.equal(await codes.find(id), undefined);
  await codes.upsert(id, { jti: id, ...payload('g1') }, 60);
  t.match(await codes.find(id), { jti: id, ...payload('g1') });
  t.equal(await adapter('RefreshToken').find(id), undefined, 'models do not share ids');
  await codes.upsert(id, { jti: id, ...payload('g1'), nonce: 'second' }, 60);
  t.match(await codes.find(id), { nonce: 'second' });
  await codes.destroy(id);
  t.equal(await codes.find(id), undefined);

  const brief = newId();
  await codes.upsert(brief, { jti: brief, ...payload('g1') }, 1);
  const deadline = Date.now() + 10_000;
  while ((await codes.find(brief)) && Date.now() < deadline) await new Promise((resolve) => setTimeout(resolve, 50));
  t.equal(await codes.find(brief), undefined, 'expired by the clock of the database');
  await t.rejects(codes.consume(brief), 'and cannot be consumed');
  t.ok((await db.write(null, (sql) => store.purge(sql))) >= 1, 'it is swept');
});

t.test('sessions are found by their uid', async (t) => {
  const sessions = adapter('Session');
  await sessions.upsert('cookie-1', { jti: 'cookie-1', uid: 'uid-1', accountId: 'ada' }, 60);
  t.match(await sessions.findByUid('uid-1'), { jti: 'cookie-1' });
  await sessions.destroy('cookie-1');
  t.equal(await sessions.findByUid('uid-1'), undefined);
  t.equal(await sessions.findByUserCode('anything'), undefined);
});

/** A session of a person, as the provider saves it: each visit under a new cookie. */
function savedSession(uid = newId()) {
  const grantId = newId();
  return {
    uid,
    hash: fingerprint(uid),
    sessionId: fingerprint(uid).toString('base64url'),
    token: { ...payload(grantId), sessionUid: uid },
    async visit(cookie: string) {
      const session = {
        jti: cookie,
        uid,
        accountId: 'ada',
        loginTs: 1_764_000_000,
        authorizations: { cli: { grantId } },
      };
      await adapter('Session').upsert(cookie, session, 60);
      await adapter('Grant').upsert(grantId, { jti: grantId, accountId: 'ada', clientId: 'cli' }, 60);
    },
  };
}

async function within<T>(work: (tx: Tx) => Promise<T>): Promise<T> {
  const call = open('a test', 10_000);
  try {
    return await db.transaction(call, work);
  } finally {
    call.close();
  }
}
const end = (sessionId: string) =>
  within(async (tx) => store.revokeSession(tx, await sessions.end(tx, 'ada', sessionId)));

t.test('a request that is in progress does not store a session again that has ended', async (t) => {
  const { uid, sessionId, token, visit } = savedSession();
  const tokens = adapter('RefreshToken');
  await visit('cookie-2');
  await tokens.upsert('refresh-1', { jti: 'refresh-1', ...token }, 60);
  await end(sessionId);
  t.equal(await tokens.find('refresh-1'), undefined);
  await visit('cookie-3');
  t.equal(await adapter('Session').findByUid(uid), undefined, 'a visit saves the session under a new cookie');
  await t.rejects(tokens.upsert('refresh-2', { jti: 'refresh-2', ...token }, 60), /invalid_grant/);
  t.equal(await tokens.find('refresh-2'), undefined);

  const [other, all] = [savedSession(), savedSession()];
  await Promise.all([other.visit('cookie-4'), all.visit('cookie-5')]);
  await within(async (tx) => {
    await sessions.endAll(tx, 'ada');
    await store.revokeUser(tx, 'ada');
  });
  await all.visit('cookie-6');
  t.equal(await adapter('Session').findByUid(all.uid), undefined, 'nor when all sessions of a person ended');
});

t.test('a session that ends among many visits stays ended', async (t) => {
  const { uid, sessionId, visit } = savedSession();
  await visit('busy-0');
  const visits = Array.from({ length: 12 }, (_, n) => visit(`busy-${n + 1}`));
  await Promise.all([...visits, end(sessionId)]);
  t.equal(await adapter('Session').findByUid(uid), undefined);
  await t.rejects(end(sessionId), refusal({ reason: 'SESSION_NOT_FOUND' }));
});

t.test('one of many concurrent consumers succeeds, and the grant of the others ends', async (t) => {
  const [id, grantId] = [newId(), newId()];
  await adapter('Grant').upsert(grantId, { jti: grantId, accountId: 'ada', clientId: 'cli' }, 60);
  await codes.upsert(id, { jti: id, ...payload(grantId) }, 60);
  await adapter('RefreshToken').upsert('rt-1', { jti: 'rt-1', ...payload(grantId) }, 60);
  const outcomes = await Promise.allSettled(Array.from({ length: 30 }, () => codes.consume(id)));
  t.equal(outcomes.filter(({ status }) => status === 'fulfilled').length, 1);
  for (const one of outcomes) if (one.status === 'rejected') t.match(one.reason, /invalid_grant/);
  t.equal(await adapter('RefreshToken').find('rt-1'), undefined);
  t.equal(await adapter('Grant').find(grantId), undefined);
});

t.test('a consumed model is marked as consumed', async (t) => {
  const id = newId();
  await codes.upsert(id, { jti: id, ...payload('g2') }, 60);
  t.notOk((await codes.find(id))?.consumed);
  await codes.consume(id);
  t.ok((await codes.find(id))?.consumed);
});

t.test('a refresh token may be consumed again for a short time; later its family ends', async (t) => {
  const refresh = adapter('RefreshToken');
  await refresh.upsert('r-6', { jti: 'r-6', ...payload('g6') }, 60);
  await refresh.upsert('r-7', { jti: 'r-7', ...payload('g6') }, 60);
  await Promise.all(Array.from({ length: 20 }, () => refresh.consume('r-6')));
  t.notOk((await refresh.find('r-6'))?.consumed);
  const elapse = (seconds: number) =>
    db.write(null, (sql) =>
      sql.execute('update artifact set consumed_at = consumed_at - interval ? second where grant_hash is not null', [
        seconds,
      ]),
    );
  await elapse(30);
  await refresh.consume('r-6');
  await elapse(31);
  t.ok((await refresh.find('r-6'))?.consumed, 'a second use does not prolong the time');
  await t.rejects(refresh.consume('r-6'), { error: 'invalid_grant' } as never);
  t.equal(await refresh.find('r-7'), undefined);
});

t.test('revoking removes one model of a grant, or all models of a person', async (t) => {
  const refresh = adapter('RefreshToken');
  await codes.upsert('c-3', { jti: 'c-3', ...payload('g3') }, 60);
  await refresh.upsert('r-3', { jti: 'r-3', ...payload('g3') }, 60);
  await refresh.upsert('r-4', { jti: 'r-4', ...payload('g4') }, 60);
  await refresh.upsert('r-5', { jti: 'r-5', ...payload('g5'), accountId: 'bea' }, 60);
  await refresh.revokeByGrantId('g3');
  t.ok(await codes.find('c-3'));
  t.equal(await refresh.find('r-3'), undefined);
  await db.transaction(open('test', 10_000), (tx) => store.revokeUser(tx, 'ada'));
  t.equal(await codes.find('c-3'), undefined);
  t.equal(await refresh.find('r-4'), undefined);
  t.ok(await refresh.find('r-5'));
});

t.test('an assertion is accepted once', async (t) => {
  const seen = adapter('ReplayDetection');
  const outcomes = await Promise.allSettled(
    Array.from({ length: 20 }, () => seen.upsert('jti-1', { jti: 'jti-1', iss: 'robot' }, 60)),
  );
  t.equal(outcomes.filter(({ status }) => status === 'fulfilled').length, 1);
});

t.test('the table contains no usable secret', async (t) => {
  const id = 'canary-identifier-of-a-session';
  await adapter('Session').upsert(id, { jti: id, uid: 'canary-uid', accountId: 'ada' }, 60);
  const rows = await db.read(null, (sql) => sql.query<Record<string, unknown>>('select * from artifact'));
  const text = rows
    .flatMap((row) => Object.values(row))
    .map((value) => (Buffer.isBuffer(value) ? value.toString('latin1') : String(value)))
    .join('\n');
  t.ok(rows.length > 0);
  t.notMatch(text, 'canary', 'neither identifiers nor payloads can be read');
  await db.write(null, (sql) =>
    sql.execute(
      "update artifact set payload = (select payload from (select payload from artifact where user_id = 'bea') other) where model = 'Session'",
    ),
  );
  await t.rejects(adapter('Session').find(id), 'a payload that was moved to another row does not open');
});

t.test('the provider cannot create clients', async (t) => {
  await t.rejects(adapter('Client').upsert('x', {}, 1));
  t.match(await adapter('Client').find('x'), { client_id: 'x' });
});

t.test('artifacts are sealed again with the current version of the secret', async (t) => {
  const ids = Array.from({ length: 230 }, () => newId());
  for (const id of ids) await codes.upsert(id, { jti: id, ...payload('g-sealed') }, 600);
  const [unreadable, unknownSecret] = [newId(), 'a third secret that is not known here'];
  await db.write(null, (sql) =>
    artifactStore(sealing(unknownSecret)).insert(sql, 'Session', unreadable, { uid: 'x' }, 600),
  );
  const during = sealing(nextSecret, [secret]);
  const job = resealing(db, artifactStore(during), during);
  const call = open('sealing again', 30_000);
  let runs = 0;
  do runs += 1;
  while ((await job.run(call)) > 0);
  t.ok(runs > 3, 'in several batches');
  const versions = async (model: string, column: string, of: string) => {
    const rows = await db.read(null, (sql) =>
      sql.query<{ version: string }>(
        `select distinct lower(hex(sealed_by)) as version from artifact where model = ? and ${column} = ?`,
        [model, fingerprint(of)],
      ),
    );
    return rows.map(({ version }) => version);
  };
  t.strictSame(await versions('AuthorizationCode', 'grant_hash', 'g-sealed'), [secretVersion(nextSecret)]);
  t.strictSame(await versions('Session', 'id_hash', unreadable), [secretVersion(unknownSecret)], 'stays as it was');
  const after = adapters(db, artifactStore(sealing(nextSecret)), { ...parts, findClient: async () => undefined });
  for (const id of ids) t.match(await after('AuthorizationCode').find(id), { jti: id });
  call.close();
});
