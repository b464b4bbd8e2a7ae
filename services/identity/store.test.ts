import { newId } from '@armature/runtime';
import { background } from '@armature/runtime/context';
import { openDatabase } from '@armature/runtime/db';
import { outbox } from '@armature/runtime/messaging';
import { migrate, runtimeMigrations } from '@armature/runtime/migrations';
import { createLogger, Registry } from '@armature/runtime/telemetry';
import t from 'tap';
import { createDatabase } from '../../test/support/infra.ts';
import { addressKey } from './account.ts';
import { accounts as accountsOf } from './accounts.ts';
import { artifactStore } from './artifact-store.ts';
import { attempts } from './attempts.ts';
import { emailStore } from './email-store.ts';
import { migrations } from './migrations/index.ts';
import { passwords } from './passwords.ts';
import { sealing as sealingOf } from './sealing.ts';
import { sessionStore } from './session-store.ts';
import { signIn as signInOf } from './sign-in.ts';
import { accountStore } from './store.ts';

const log = createLogger('identity', 'error');
const open = background('identity', log);
const database = await createDatabase(t, 'identity');
await migrate(database.migratorUrl, [...runtimeMigrations, ...migrations]);
const db = await openDatabase({ url: database.url, log, registry: new Registry(), participants: [outbox()] });
t.teardown(() => db.close());

const sealing = sealingOf('a secret of thirty-two characters');
const store = accountStore();
const emails = emailStore({ mailTokenS: 60, undoTokenS: 600 });
const accounts = accountsOf({
  store,
  emails,
  artifacts: artifactStore(sealing),
  sessions: sessionStore(),
  sealing,
  removeMails: () => {},
});

async function statementsOf(work: () => Promise<unknown>): Promise<number> {
  const before = db.statements();
  await work();
  return db.statements() - before;
}

const inTransaction = (work: Parameters<typeof db.transaction<void>>[1]) =>
  statementsOf(() => db.transaction(open('test', 10_000), work));
const known = 'ada@example.org';
await inTransaction((tx) =>
  store.insert(tx, {
    userId: 'ada',
    email: known,
    displayName: 'Ada',
    passwordHash: 'hash of ada',
    verifiedEmail: addressKey(known),
    state: 'ACTIVE',
  }),
);

t.test('an unknown address causes the same statements as a known one', async (t) => {
  const register = (email: string) =>
    inTransaction((tx) => accounts.register(tx, { userId: newId(), email, displayName: 'Test person' }));
  t.equal(await register(known), await register('free@example.org'), 'statements of a registration');
  const forget = (email: string) => inTransaction((tx) => accounts.requestReset(tx, email));
  t.equal(await forget(known), await forget('unknown@example.org'), 'statements of a reset');
});

t.test('a hash with other parameters is replaced at sign-in', async (t) => {
  const password = 'made in another time';
  const { hash } = await import('@node-rs/argon2');
  const old = await hash(password, { memoryCost: 8_192, timeCost: 1, parallelism: 1 });
  await db.transaction(open('setup', 10_000), (tx) => store.setPassword(tx, 'ada', old));
  const signIn = signInOf({ db, store, passwords: passwords(), attempts: attempts(db) });
  const call = open('sign in', 60_000);
  t.teardown(() => call.close());
  const entered = { address: known, password, ip: '192.0.2.9', clientId: 'cli', signal: call.signal };
  const outcome = await signIn(entered, call);
  t.strictSame(outcome, { kind: 'signed_in', userId: 'ada' });
  const { passwordHash } = await db.read(null, (sql) => store.find(sql, 'ada'));
  t.match(passwordHash, /m=19456,t=2,p=1/);
  t.match(await signIn(entered, call), { kind: 'signed_in' });
});

t.test('unverified registrations are deleted', async (t) => {
  const userId = newId();
  const wanted = { userId, email: 'late@example.org', displayName: 'Late' };
  await inTransaction((tx) => accounts.register(tx, wanted));
  const forgotten = () => db.transaction(open('test', 10_000), (tx) => store.neverVerified(tx));
  t.notOk((await forgotten()).includes(userId));
  await db.write(null, (sql) =>
    sql.execute('update account set created_at = created_at - interval 8 day where user_id = ?', [userId]),
  );
  t.ok((await forgotten()).includes(userId));
  await inTransaction(async (tx) => {
    await accounts.erase(tx, userId);
  });
  t.match(await db.read(null, (sql) => store.find(sql, userId)), { state: 'ERASED', email: '', sequence: 2n });
});

t.test('of two accounts that wait for one address, one gets it', async (t) => {
  const email = 'wanted@example.org';
  const ids = [newId(), newId(), newId()];
  for (const userId of ids) {
    await inTransaction((tx) => accounts.register(tx, { userId, email, displayName: 'W' }));
  }
  const { mailToken } = await import('./mail-token.ts');
  const rows = await db.read(null, (sql) =>
    sql.query<{ letter_id: string }>("select letter_id from letter where recipient_key = ? and kind = 'verify_email'", [
      email,
    ]),
  );
  t.equal(rows.length, 3);
  const outcomes = await Promise.allSettled(
    rows.map(({ letter_id }) =>
      db.transaction(open('verify', 10_000), (tx) =>
        accounts.verifyEmail(tx, mailToken(sealing, 'verify_email', letter_id), {
          kind: 'registration',
          passwordHash: 'h',
        }),
      ),
    ),
  );
  t.equal(outcomes.filter(({ status }) => status === 'fulfilled').length, 1);
});
