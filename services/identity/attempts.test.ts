import { background } from '@armature/runtime/context';
import { openDatabase } from '@armature/runtime/db';
import { RpcError } from '@armature/runtime/errors';
import { outbox } from '@armature/runtime/messaging';
import { migrate, runtimeMigrations } from '@armature/runtime/migrations';
import { createLogger, Registry } from '@armature/runtime/telemetry';
import t from 'tap';
import { createDatabase } from '../../test/support/infra.ts';
import { refusal } from '../../test/support/refusal.ts';
import { afterAttempt, budgets, failuresOf, gapAfter, unknownSubject } from './attempt-budget.ts';
import { type AttemptRequest, attempts as attemptsOf } from './attempts.ts';
import { migrations } from './migrations/index.ts';
import type { Passwords, Rank } from './passwords.ts';
import { signIn as signInOf } from './sign-in.ts';
import { readNetworks, sourceOf } from './source.ts';
import { accountStore } from './store.ts';

t.setTimeout(60_000);
const log = createLogger('identity', 'error');
const open = background('identity', log);
const database = await createDatabase(t, 'identity');
await migrate(database.migratorUrl, [...runtimeMigrations, ...migrations]);
const db = await openDatabase({ url: database.url, log, registry: new Registry(), participants: [outbox()] });
t.teardown(() => db.close());
const attempts = attemptsOf(db);
const store = accountStore();
const tooSoon = refusal({ code: 'RESOURCE_EXHAUSTED', reason: 'ATTEMPT_TOO_SOON' });

const begin = async (request: Partial<AttemptRequest> & { subject: string }, { timeoutMs = 30_000 } = {}) => {
  const call = open('attempt', timeoutMs);
  try {
    return await attempts.begin(call, { source: null, familiar: false, ...request });
  } finally {
    call.close();
  }
};
/** The waits of attempts in whole seconds; "refused" for one that would wait too long. */
const waitsOf = (all: readonly Promise<{ waitMs: number }>[]) =>
  Promise.all(
    all.map((one) =>
      one.then(
        ({ waitMs }) => Math.round(waitMs / 1_000),
        (error: RpcError) => (error.reason === 'ATTEMPT_TOO_SOON' ? 'refused' : Promise.reject(error)),
      ),
    ),
  );
const standing = async () =>
  db.read(null, (sql) => sql.query('select hex(subject_hash) as subject, forgotten_at from attempt_budget order by 1'));
/** Moves all budgets into the past, as if so many seconds had passed. */
const pass = (seconds: number) =>
  db.write(null, (sql) =>
    sql.execute(
      'update attempt_budget set forgotten_at = forgotten_at - interval ? second, due_at = due_at - interval ? second',
      [seconds, seconds],
    ),
  );

t.test('budgets: some attempts are free, the gaps after further ones grow, and failures are forgotten', async (t) => {
  for (const [failures, kind, gapMs] of [
    [1, 'account', 0],
    [2, 'account', 0],
    [3, 'account', 1_000],
    [4, 'account', 2_000],
    [8, 'account', 32_000],
    [9, 'account', 60_000],
    [1_000_000, 'account', 60_000],
    [99, 'source', 0],
    [100, 'source', 1_000],
    [1_000, 'source', 5_000],
    [9, 'familiar', 0],
    [10, 'familiar', 1_000],
  ] as const) {
    t.equal(gapAfter(failures, budgets[kind]), gapMs, `${failures} failures of one ${kind}`);
  }
  let guessed = unknownSubject;
  for (let index = 0; index < 1_000; index += 1) guessed = afterAttempt(guessed, budgets.account, 0);
  t.equal(failuresOf(guessed, budgets.account), 9, 'no more are remembered than have an effect');
  t.equal(guessed.forgottenInMs, 9 * 60_000, 'so that the last one is forgotten soon after the last attempt');
});

t.test('sources', async (t) => {
  for (const [ip, source] of [
    ['192.0.2.1', '192.0.2.1'],
    ['::ffff:192.0.2.1', '192.0.2.1'],
    ['::ffff:c000:201', '192.0.2.1'],
    ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
    ['2001:DB8:1:2::ffff', '2001:db8:1:2::/64'],
    ['2001:db8::1', '2001:db8:0:0::/64'],
    ['fe80::1%eth0', 'fe80:0:0:0::/64'],
    ['::1', '0:0:0:0::/64'],
    ['unknown', 'unknown'],
    ['203.0.113.9:4711', 'unknown'],
  ] as const) {
    t.equal(sourceOf(ip), source, ip);
  }
  t.strictSame(readNetworks('10.0.0.0/8, fd00::1,127.0.0.1'), ['10.0.0.0/8', 'fd00::1', '127.0.0.1']);
  for (const wrong of ['10.0.0.0/33', 'proxy.example', '10.0.0.1/', '10.0.0.1/8/8', '::/129']) {
    t.throws(() => readNetworks(`10.0.0.1,${wrong}`), { message: new RegExp(`has "${wrong}"`) }, wrong);
  }
});

t.test('attempts at one subject get one turn after another, also when they are made at the same time', async (t) => {
  const subject = 'parallel';
  const all = Array.from({ length: 60 }, (_, index) => begin({ subject, source: `192.0.2.${index}` }));
  const waits = await waitsOf(all);
  t.strictSame(waits.filter((wait) => wait !== 'refused').sort(), [0, 0, 0, 1, 15, 3, 7], 'seven of sixty');
  const before = await standing();
  await t.rejects(begin({ subject, source: '192.0.2.200' }), tooSoon);
  t.strictSame(await standing(), before, 'what is refused is not counted');
  const refused = await begin({ subject, source: '192.0.2.200' }).catch((error: RpcError) => error);
  const retryMs = (refused as RpcError).details.retryDelayMs ?? 0;
  t.ok(retryMs > 25_000 && retryMs <= 31_000, `the response says when the next one is possible: ${retryMs} ms`);
  t.strictSame(await waitsOf([begin({ subject: 'another', source: '192.0.2.200' })]), [0], 'others do not wait');
  const [guessed, own] = [
    { subject: 'guessed', source: '192.0.2.201' },
    { subject: 'own', source: '192.0.2.201' },
  ];
  t.strictSame((await waitsOf(Array.from({ length: 7 }, () => begin(guessed)))).at(-1), 15);
  t.strictSame(await waitsOf([begin(own)]), [0], 'nor does another account at the same source');
});

t.test(
  'a subject that is guessed at without an end gets about one attempt a minute, and less is not remembered',
  async (t) => {
    const subject = 'endless';
    let admitted = 0;
    const minutes = 20;
    for (let second = 0; second < minutes * 60; second += 10) {
      const waits = await waitsOf([begin({ subject }), begin({ subject })]);
      admitted += waits.filter((wait) => wait !== 'refused').length;
      await pass(10);
    }
    t.ok(admitted > minutes / 2 && admitted < minutes + 12, `${admitted} attempts in ${minutes} minutes`);
    await pass(7 * 60);
    t.strictSame(await waitsOf([begin({ subject })]), [0], 'failures are forgotten one by one, traffic or not');
  },
);

t.test('a deadline and an ended request shorten no wait', async (t) => {
  const subject = 'hurried';
  for (let index = 0; index < 5; index += 1) await begin({ subject });
  const before = await standing();
  await t.rejects(begin({ subject }, { timeoutMs: 1_500 }), tooSoon, 'a deadline before the turn');
  t.strictSame(await standing(), before, 'which is not counted');
  const hurried = new AbortController();
  const attempt = await begin({ subject });
  t.ok(attempt.waitMs > 1_000);
  const waiting = attempt.wait(hurried.signal);
  hurried.abort();
  await t.rejects(waiting, tooSoon, 'who leaves gets no comparison');
});

t.test('a source that tries many accounts waits after a hundred', async (t) => {
  const source = '203.0.113.200';
  const waits = [];
  for (let index = 0; index < 103; index += 1) {
    waits.push(...(await waitsOf([begin({ subject: `victim ${index}`, source })])));
  }
  t.equal(
    waits.slice(0, 100).every((wait) => wait === 0),
    true,
    'a hundred are free',
  );
  t.ok(
    waits.slice(100).every((wait) => wait !== 0),
    waits.slice(100).join(', '),
  );
  t.strictSame(await waitsOf([begin({ subject: 'victim 1', source: '203.0.113.201' })]), [0]);
});

/** Sign-ins whose comparisons are recorded instead of computed. */
function recorded() {
  const compared: { stored: string | null; rank: Rank }[] = [];
  let hashes = 0;
  const passwords: Passwords = {
    async hash() {
      hashes += 1;
      return 'a hash';
    },
    async check(password, stored, rank) {
      compared.push({ stored, rank });
      return { right: stored !== null && password === 'right', stale: false };
    },
  };
  const signIn = signInOf({ db, store, passwords, attempts });
  const attempt = async (address: string, { password = 'wrong', ip = '192.0.2.1' } = {}) => {
    const call = open('sign in', 30_000);
    const before = db.statements();
    try {
      const entered = { address, password, ip, clientId: 'cli', signal: call.signal };
      const { kind } = await signIn(entered, call);
      return { kind, statements: db.statements() - before };
    } finally {
      call.close();
    }
  };
  return { compared, hashes: () => hashes, attempt };
}

const account = (userId: string, state: 'ACTIVE' | 'DEACTIVATED' | 'PENDING') =>
  db.transaction(open('setup', 10_000), (tx) =>
    store.insert(tx, {
      ...{ userId, email: `${userId}@example.org`, displayName: userId, passwordHash: `hash of ${userId}`, state },
      verifiedEmail: state === 'PENDING' ? null : `${userId}@example.org`,
    }),
  );
await Promise.all([account('ada', 'ACTIVE'), account('dan', 'DEACTIVATED'), account('pia', 'PENDING')]);

t.test('a refused sign-in is the same work whatever account there is', async (t) => {
  const { attempt, compared, hashes } = recorded();
  const names = ['ada', 'dan', 'pia', 'nobody'];
  const outcomes = [];
  for (const [index, name] of names.entries()) {
    outcomes.push(await attempt(`${name}@example.org`, { ip: `198.51.100.${index}` }));
  }
  t.equal(new Set(outcomes.map(({ statements }) => statements)).size, 1, 'the same statements');
  t.ok(outcomes.every(({ kind }) => kind === 'refused'));
  t.strictSame(
    compared.map(({ stored }) => stored),
    ['hash of ada', 'hash of dan', null, null],
    'one comparison each',
  );
  t.equal(hashes(), 0);
});

t.test('guesses from elsewhere do not make a person wait where they have signed in before', async (t) => {
  const { attempt, compared } = recorded();
  const address = 'ada@example.org';
  const home = '198.51.100.77';
  t.match(await attempt(address, { password: 'right', ip: home }), { kind: 'signed_in' });
  const guesses = Array.from({ length: 40 }, (_, index) =>
    begin({ subject: `sign in\0${address}`, source: `${index}` }),
  );
  await waitsOf(guesses);
  await t.rejects(attempt(address, { password: 'right', ip: '198.51.100.78' }), tooSoon, 'a new source has to wait');
  const began = performance.now();
  t.match(await attempt(address, { ip: home }), { kind: 'refused' }, 'a mistyped password');
  t.match(await attempt(address, { password: 'right', ip: home }), { kind: 'signed_in' });
  t.ok(performance.now() - began < 1_000, 'without a wait');
  t.equal(compared.at(-1)?.rank, 'familiar', 'and before others');
  const there = { subject: `sign in\0${address}`, source: home, familiar: true };
  const waits = await waitsOf(Array.from({ length: 40 }, () => begin(there)));
  t.ok(waits.includes('refused'), 'a guesser at a familiar source waits as well');
});

t.test('a comparison that did not take place is not counted', async (t) => {
  const passwords: Passwords = {
    hash: async () => 'a hash',
    check: async () => Promise.reject(new RpcError('RESOURCE_EXHAUSTED', 'OVERLOADED', 'busy')),
  };
  const signIn = signInOf({ db, store, passwords, attempts });
  for (let index = 0; index < 5; index += 1) {
    const call = open('sign in', 30_000);
    const entered = { address: 'busy@example.org', password: 'x', ip: '198.51.100.99', clientId: 'cli' };
    await t.rejects(signIn({ ...entered, signal: call.signal }, call), refusal({ reason: 'OVERLOADED' }));
    call.close();
  }
  t.strictSame(await waitsOf([begin({ subject: 'sign in\0busy@example.org' })]), [0]);
});

t.test('rows that say nothing are deleted', async (t) => {
  await pass(3_600);
  t.ok((await db.transaction(open('purge', 10_000), (tx) => attempts.purge(tx))) > 0);
  t.strictSame(await standing(), []);
});
