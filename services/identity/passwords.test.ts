import { hash } from '@node-rs/argon2';
import { dictionary } from '@zxcvbn-ts/language-common';
import t from 'tap';
import { amount } from '../../test/support/tier.ts';
import { passwordCommon } from './errors.ts';
import { ruleOf } from './password-strength.ts';
import { passwords, type Rank, turns, weakness } from './passwords.ts';

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
    t.ok(await weakness(password), password);
  }
  for (const password of [
    'violet anchors drift at noon',
    'kQ7#vd!9wLm2',
    'correct horse battery staple',
    'umbrella-tax-otter',
    'vk3-tqxz',
  ]) {
    t.equal(await weakness(password), null, password);
  }
});

t.test('every password of the list of leaked ones, and what people make of it', async (t) => {
  const listed = Object.values(dictionary)
    .flat()
    .map(String)
    .filter((password) => password.length >= 8);
  let [count, read] = [0, 0];
  // All in the long tier.
  const step = amount(5, 1);
  for (let index = 0; index < listed.length; index += step) {
    const password = listed[index] ?? '';
    const [first = '', ...rest] = password;
    const variants = [
      password.toUpperCase(),
      `${first.toUpperCase()}${rest.join('')}1!`,
      [...password].reverse().join(''),
      // Of longer ones the repetition is not seen.
      password.length > 16 ? password : password + password,
    ];
    // Each of the list, and one of its variants.
    for (const weak of [password, variants[index % variants.length] ?? '']) {
      count += 1;
      if (!(await weakness(weak))) return t.fail(`${weak} is accepted`);
    }
    // Not every way to write letters as digits is read.
    const written = password.replaceAll('a', '@').replaceAll('o', '0').replaceAll('e', '3');
    if (await weakness(written)) read += 1;
  }
  t.ok(count > 40_000 / step, `${count} passwords are refused`);
  t.ok(read > 0.475 * count, `${read} of ${count / 2} with digits for letters`);
});

t.test('a refused password breaks a rule that has a name', async (t) => {
  const about = ['quist.marlowe@example.org', 'Marlowe Quist'];
  for (const [password, rule] of [
    ['sunshine1', 'common'],
    ['Willkommen1!', 'common'],
    ['armature1', 'common'],
    ['marlowequist', 'personal'],
    ['quist.marlowe@example.org', 'personal'],
    ['oiuztghjk', 'keyboard'],
    ['xyxyxyxyxyxy', 'repetition'],
    ['hijklmnop', 'sequence'],
    ['13.11.1988', 'date'],
  ] as const) {
    t.equal(await weakness(password, about), rule, password);
  }
  const { message, details } = passwordCommon('new_password', ruleOf('keyboard'));
  t.equal(message, 'the password follows keys that are next to each other');
  t.match(details, { fieldViolations: [{ field: 'new_password', description: ruleOf('keyboard') }] });
  t.equal(await weakness('marlowequist'), null, 'which only its owner may not have');
});

t.test('the time for a password is bounded, however it is made', async (t) => {
  const nasty = ['p4$$w0rd', '4@31!05$7', 'P@ssw0rd!', '1234567890-=qwertyuiop[]', 'l1!|i', '1/2/1990-', 'aB1@'];
  const all = nasty.map((part) => part.repeat(128).slice(0, 128));
  const began = process.cpuUsage();
  for (const password of all) await weakness(password);
  const { user, system } = process.cpuUsage(began);
  // Judged as a whole they take some 250 ms each.
  t.ok((user + system) / 1_000 / all.length < 60, `${Math.round((user + system) / 1_000 / all.length)} ms each`);
});

t.test('hashes', async (t) => {
  const { hash: make, check } = passwords();
  const stored = await make('Übung macht den Meister', 'registration');
  t.match(stored, /^\$argon2id\$v=19\$m=19456,t=2,p=1\$/);
  t.strictSame(await check('Übung macht den Meister', stored, 'new'), { right: true, stale: false });
  t.strictSame(
    await check('U\u0308bung macht den Meister', stored, 'new'),
    { right: true, stale: false },
    'typed in two keys',
  );
  t.strictSame(await check('Übung macht den meister', stored, 'new'), { right: false, stale: false });
  t.strictSame(
    await check('a password for an unknown account', null, 'new'),
    { right: false, stale: false },
    'an unknown account has no password',
  );
  const old = await hash('an old one', { memoryCost: 8_192, timeCost: 1, parallelism: 1 });
  t.strictSame(await check('an old one', old, 'new'), { right: true, stale: true });
});

t.test('who guesses does not take the turns of who is known', async (t) => {
  const turn = turns({ sideBySide: 2, others: 1, waitersMax: 300, waitTimeoutMs: 5_000 });
  const ended: Rank[] = [];
  let [others, mostOthers] = [0, 0];
  const run = (rank: Rank) =>
    turn(async () => {
      if (rank !== 'familiar') mostOthers = Math.max(mostOthers, ++others);
      await new Promise((resolve) => setImmediate(resolve));
      if (rank !== 'familiar') others -= 1;
      ended.push(rank);
    }, rank);
  const suspects = Array.from({ length: 300 }, () => run('suspect'));
  const fresh = Array.from({ length: 10 }, () => run('new'));
  await Promise.all(Array.from({ length: 5 }, () => run('familiar')));
  t.ok(ended.filter((rank) => rank === 'suspect').length <= 6, 'five familiar attempts beside three hundred guesses');
  t.equal(ended.filter((rank) => rank === 'familiar').length, 5);
  await Promise.all(fresh);
  t.ok(ended.filter((rank) => rank === 'suspect').length <= 7, 'then those without failures');
  await Promise.all(suspects);
  t.equal(mostOthers, 1, 'they have one slot');
  t.equal(ended.length, 315, 'all get their turn');
});

t.test('registrations do not take the turns of resets, nor of sign-ins', async (t) => {
  const { hash: make, check } = passwords();
  const order: string[] = [];
  const registrations = Array.from({ length: 12 }, () =>
    make('violet anchors drift at noon', 'registration').then(() => order.push('registration')),
  );
  await Promise.all([
    make('violet anchors drift at noon', 'replacement').then(() => order.push('reset')),
    check('violet anchors drift at noon', null, 'suspect').then(() => order.push('sign-in')),
  ]);
  t.ok(order.filter((one) => one === 'registration').length < 6, order.join(' '));
  await Promise.all(registrations);
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
