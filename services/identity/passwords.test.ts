import { hash } from '@node-rs/argon2';
import t from 'tap';
import { isCommon, passwords, turns } from './passwords.ts';
import { delayAfter } from './throttle.ts';
import { weakPasswords } from './weak-passwords.ts';

t.test('common passwords', async (t) => {
  for (const password of [
    'password',
    'PASSWORD1',
    'Passw0rd!',
    'p@ssw0rd123',
    'Summer2024!',
    'qwertyuiop',
    '1qaz2wsx',
    'zxcvbnm123',
    'iloveyou',
    'monkey12',
    'Dragon1987',
    '12345678',
    '87654321',
    '11111111',
    'abcabcabc',
    '19841984',
    'letmein123',
    'qazwsxedc',
    'asdfghjkl',
    'drowssap',
    'ｐａｓｓｗｏｒｄ',
    'Trustno1!'.replace('1!', '123'),
    'changeme',
    'football99',
    'Willkommen1!',
  ]) {
    t.ok(isCommon(password), password);
  }
  for (const password of [
    'violet anchors drift at noon',
    'kQ7#vd!9wLm2',
    'correct horse battery staple',
    'umbrella-tax-otter',
    '8-letter',
  ]) {
    t.notOk(isCommon(password), password);
  }
  let count = 0;
  for (const password of weakPasswords()) {
    count += 1;
    if (password.length < 8 || !isCommon(password)) return t.fail(`${password} is on the list and not refused`);
  }
  t.ok(count > 100_000, `${count} passwords are on the list`);
});

t.test('hashes', async (t) => {
  const { hash: make, check } = passwords();
  const stored = await make('Übung macht den Meister');
  t.match(stored, /^\$argon2id\$v=19\$m=19456,t=2,p=1\$/);
  t.strictSame(await check('Übung macht den Meister', stored), { right: true, stale: false });
  t.strictSame(
    await check('U\u0308bung macht den Meister', stored),
    { right: true, stale: false },
    'typed in two keys',
  );
  t.strictSame(await check('Übung macht den meister', stored), { right: false, stale: false });
  t.strictSame(await check('a password of nobody', null), { right: false, stale: false }, 'nobody has no password');
  const old = await hash('an old one', { memoryCost: 8_192, timeCost: 1, parallelism: 1 });
  t.strictSame(await check('an old one', old), { right: true, stale: true });
});

t.test('turns', async (t) => {
  let [running, most] = [0, 0];
  const turn = turns({ sideBySide: 2, waitersMax: 5, waitTimeoutMs: 5_000 });
  const ends: (() => void)[] = [];
  const work = () =>
    turn(async () => {
      running += 1;
      most = Math.max(most, running);
      await new Promise<void>((resolve) => ends.push(resolve));
      running -= 1;
    });
  const all = Array.from({ length: 9 }, work);
  const outcomes = Promise.allSettled(all);
  await Promise.allSettled(all.slice(7));
  for (let finished = 0; finished < 7; finished += 1) {
    ends.shift()?.();
    await new Promise((resolve) => setImmediate(resolve));
  }
  const kinds = (await outcomes).map(({ status }) => status);
  t.equal(kinds.filter((status) => status === 'rejected').length, 2, 'two more than may run or wait are refused');
  t.equal(most, 2);
  t.equal(running, 0);

  const impatient = turns({ sideBySide: 1, waitersMax: 5, waitTimeoutMs: 10 });
  let end = () => {};
  const first = impatient(
    () =>
      new Promise<void>((resolve) => {
        end = resolve;
      }),
  );
  await t.rejects(
    impatient(async () => 'too late'),
    { code: 'RESOURCE_EXHAUSTED', reason: 'OVERLOADED' } as never,
  );
  end();
  await first;
  t.equal(await impatient(async () => 'served'), 'served', 'who gave up waiting holds no place');
});

t.test('how long an attempt waits', async (t) => {
  for (const [failures, kind, delayMs] of [
    [0, 'account', 0],
    [3, 'account', 0],
    [4, 'account', 250],
    [5, 'account', 500],
    [8, 'account', 4_000],
    [9, 'account', 8_000],
    [1_000, 'account', 8_000],
    [20, 'source', 0],
    [21, 'source', 250],
    [1_000, 'source', 8_000],
  ] as const) {
    t.equal(delayAfter(failures, kind), delayMs, `${failures} failures of one ${kind}`);
  }
});
