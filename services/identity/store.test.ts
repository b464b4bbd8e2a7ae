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
import { emailStore } from './email-store.ts';
import { migrations } from './migrations/index.ts';
import { type Passwords, passwords as realPasswords } from './passwords.ts';
import { sealing as sealingOf } from './sealing.ts';
import { signIn as signInOf } from './sign-in.ts';
import { accountStore } from './store.ts';
import { throttle as throttleOf } from './throttle.ts';

const log = createLogger('identity', 'error');
const open = background('identity', log);
const database = await createDatabase(t, 'identity');
await migrate(database.migratorUrl, [...runtimeMigrations, ...migrations]);
const db = await openDatabase({ url: database.url, log, registry: new Registry(), participants: [outbox()] });
t.teardown(() => db.close());

const sealing = sealingOf('a secret of thirty-two characters');
const store = accountStore();
const emails = emailStore({ mailTokenS: 60, undoTokenS: 600 });
const accounts = accountsOf({ store, emails, artifacts: artifactStore(sealing), sealing, removeMails: () => {} });

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
    inTransaction((tx) =>
      accounts.register(tx, { userId: newId(), email, displayName: 'Test person', passwordHash: 'a hash' }),
    );
  t.equal(await register(known), await register('free@example.org'), 'statements of a registration');
  const forget = (email: string) => inTransaction((tx) => accounts.requestReset(tx, email));
  t.equal(await forget(known), await forget('unknown@example.org'), 'statements of a reset');
});

t.test('a refused sign-in is the same for a known address and an unknown one', async (t) => {
  const checked: (string | null)[] = [];
  const passwords: Passwords = {
    hash: async () => 'unused',
    async check(_password, stored) {
      checked.push(stored);
      return { right: false, stale: false };
    },
  };
  const signIn = signInOf({
    db,
    store,
    passwords,
    throttle: throttleOf(db),
    stopping: AbortSignal.timeout(60_000),
  });
  const attempt = async (email: string, source: string) => {
    const outcome = await signIn({ email, password: 'wrong', source, clientId: 'cli' });
    t.strictSame(outcome, { kind: 'refused' });
  };
  const counts = [
    await statementsOf(() => attempt(known, '192.0.2.1')),
    await statementsOf(() => attempt('unknown@example.org', '192.0.2.2')),
  ];
  t.equal(counts[0], counts[1], 'statements');
  t.strictSame(checked, ['hash of ada', null], 'and one comparison each');
});

t.test('a hash with other parameters is replaced at sign-in', async (t) => {
  const password = 'made in another time';
  const { hash } = await import('@node-rs/argon2');
  const old = await hash(password, { memoryCost: 8_192, timeCost: 1, parallelism: 1 });
  await db.transaction(open('setup', 10_000), (tx) => store.setPassword(tx, 'ada', old));
  const parts = {
    db,
    store,
    passwords: realPasswords(),
    throttle: throttleOf(db),
    stopping: AbortSignal.timeout(60_000),
  };
  const outcome = await signInOf(parts)({ email: known, password, source: '192.0.2.9', clientId: 'cli' });
  t.strictSame(outcome, { kind: 'signed_in', userId: 'ada' });
  const { passwordHash } = await db.read(null, (sql) => store.find(sql, 'ada'));
  t.match(passwordHash, /m=19456,t=2,p=1/);
  t.match(await signInOf(parts)({ email: known, password, source: '192.0.2.9', clientId: 'cli' }), {
    kind: 'signed_in',
  });
});

t.test('unverified registrations are deleted', async (t) => {
  const userId = newId();
  const wanted = { userId, email: 'late@example.org', displayName: 'Late', passwordHash: 'h' };
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

t.test('failures delay attempts for an account from any source, known or not, and success resets them', async (t) => {
  const throttle = throttleOf(db);
  for (const [index, address] of ['slow@example.org', 'unknown-slow@example.org'].entries()) {
    const delays: number[] = [];
    for (let attempt = 0; attempt < 11; attempt += 1) {
      delays.push((await throttle.begin(address, `198.51.100.${index}${attempt}`)).delayMs);
    }
    t.strictSame(delays, [0, 0, 0, 0, 250, 500, 1_000, 2_000, 4_000, 8_000, 8_000], address);
  }
  const again = throttleOf(db);
  const last = await again.begin('slow@example.org', '198.51.100.99');
  t.equal(last.delayMs, 8_000, 'a restart forgets nothing');
  await last.succeeded();
  t.equal((await again.begin('slow@example.org', '198.51.100.99')).delayMs, 0);
});

t.test('concurrent guesses wait for one another', async (t) => {
  const throttle = throttleOf(db);
  const attempts = await Promise.all(
    Array.from({ length: 40 }, (_, index) => throttle.begin('parallel@example.org', `203.0.113.${index}`)),
  );
  t.ok(attempts.filter(({ delayMs }) => delayMs < 250).length <= 4, 'no more than the free ones come at once');
  t.ok(attempts.some(({ delayMs }) => delayMs === 8_000));
});

t.test('a source that tries many accounts is delayed, after more attempts', async (t) => {
  const throttle = throttleOf(db);
  let delayMs = 0;
  for (let attempt = 0; attempt < 30; attempt += 1) {
    ({ delayMs } = await throttle.begin(`victim-${attempt}@example.org`, '203.0.113.200'));
    if (attempt === 20) t.equal(delayMs, 0);
  }
  t.equal(delayMs, 8_000);
});

t.test('of two accounts that wait for one address, one gets it', async (t) => {
  const email = 'wanted@example.org';
  const ids = [newId(), newId(), newId()];
  for (const userId of ids) {
    await inTransaction((tx) => accounts.register(tx, { userId, email, displayName: 'W', passwordHash: 'h' }));
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
