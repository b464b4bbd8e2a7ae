// Ways to get into the account of another person: registering the address first, a stolen access token, a changed
// address.
import { randomUUID } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { UserState } from '@armature/proto/identity/v1/identity.ts';
import * as oidc from 'openid-client';
import t from 'tap';
import { refusal } from '../../test/support/refusal.ts';
import { ada, bea, browser, field, signInWith, startIdentity, tokenIn, tokensOf, until } from './testbed.ts';

t.setTimeout(180_000);
const identity = await startIdentity(t);
const { issuer } = identity;
const [gateway, admin] = await Promise.all([identity.as(null), identity.as('admin')]);
const config = await identity.client();
const password = 'canary ember twelve rivers';
const ofThief = 'seven crows steal the silver';

/** Spellings of an address whose part before the @ is "mikesi": none of them is that address, and none an address. */
const lookalikes = (domain: string) =>
  [
    ...['mi\u212Aesi', 'mike\u017Fi', 'ｍikesi', 'm\u0131kesi', 'mikes\u0131', 'mikesı\u0307'].map(
      (name) => `${name}@${domain}`,
    ),
    ...[' ', '   ', '\t', '\n', '\u00A0', '\u200B', '\u3000'].flatMap((blank) => [
      `mikesi@${domain}${blank}`,
      `${blank}mikesi@${domain}`,
      `mikesi${blank}@${domain}`,
    ]),
  ] as const;

const lettersOf = (to: string, pattern: RegExp) => identity.mails(to).filter((mail) => pattern.test(mail));
const mayEnter = async (email: string, chosen: string) =>
  !(await signInWith({ config, person: { email, password: chosen } })).back.text.includes('role="alert"');

/** A new account whose address is verified. */
async function registered(name: string) {
  const email = `${name}@example.org`;
  const { userId } = await gateway.registerUser({ email, password, displayName: name });
  await gateway.verifyEmail({ token: tokenIn(await identity.mail(email, /Verify your address/)), password });
  return { userId, email };
}

/** Changes the address of an account by its own token, and verifies the new one. Returns the link that undoes it. */
async function moved({ userId, from, to }: { userId: string; from: string; to: string }): Promise<string> {
  const known = lettersOf(from, /is being changed/).length;
  await (await identity.as(userId)).updateUser({ userId, email: to, updateMask: ['email'] });
  await gateway.verifyEmail({ token: tokenIn(await identity.mail(to, /Verify/)), password });
  return until('the link to undo it', () => {
    const mails = lettersOf(from, /is being changed/);
    return mails.length > known ? tokenIn(mails.at(-1) ?? '') : undefined;
  });
}

t.test('a person who registers the address of another one does not get in when that one verifies it', async (t) => {
  const email = 'victim@example.org';
  const { userId } = await gateway.registerUser({ email, password: ofThief, displayName: 'Thief' });
  const link = tokenIn(await identity.mail(email, /Verify/));
  await t.rejects(gateway.verifyEmail({ token: link, password: '' }), refusal({ reason: 'FIELDS_INVALID' }));
  await t.rejects(gateway.verifyEmail({ token: link, password: 'short' }), refusal({ reason: 'FIELDS_INVALID' }));
  await t.rejects(gateway.verifyEmail({ token: link, password: '12345678' }), refusal({ reason: 'PASSWORD_COMMON' }));
  t.equal((await gateway.verifyEmail({ token: link, password })).userId, userId);
  t.notOk(await mayEnter(email, ofThief));
  t.ok(await mayEnter(email, password));
});

t.test(
  'an address that looks like another one is not an address: it gets no e-mail and signs in to nothing',
  async (t) => {
    const { email } = await registered('mikesi');
    const user = browser();
    const forgot = await user.follow(`${issuer}/forgot-password`);
    const ask = (typed: string) =>
      user.follow(`${issuer}/forgot-password`, { csrf: field(forgot.text, 'csrf'), email: typed });
    for (const [index, typed] of lookalikes('example.org').entries()) {
      const shown = JSON.stringify(typed);
      t.match(await ask(typed), { status: 400, text: 'The email address must have' }, `${shown} at the page`);
      if (index % 4 === 0) {
        const { back } = await signInWith({ config, person: { email: typed, password } });
        t.match(back, { status: 400, text: 'The email address must have' }, `${shown} does not sign in`);
      }
      const refused = refusal({ reason: 'FIELDS_INVALID', code: 'INVALID_ARGUMENT' });
      await t.rejects(gateway.requestPasswordReset({ email: typed }), refused, shown);
      await t.rejects(gateway.registerUser({ email: typed, password, displayName: 'Thief' }), refused, shown);
      await t.rejects(admin.listUsers({ email: typed }), refused, shown);
    }
    t.match(await ask('MIKESI@EXAMPLE.org'), { status: 200 });
    const mail = await identity.mail(email, /Reset your password/);
    t.match(mail, /^To: mikesi@example.org$/m, 'an e-mail goes to the address of the account, not to the typed one');
    const box = join(identity.service.dir, 'mail', 'new');
    const resets = readdirSync(box).filter((name) =>
      readFileSync(join(box, name), 'utf8').includes('Reset your password'),
    );
    t.equal(resets.length, 1, 'no other link was sent');
  },
);

t.test('a domain of any script is one address in all its spellings', async (t) => {
  const inAscii = 'ulla@xn--bcher-kva.example';
  const { userId } = await gateway.registerUser({ email: 'Ulla@Bücher.example', password, displayName: 'Ulla' });
  const mail = await identity.mail(inAscii, /Verify your address/);
  t.match(mail, /^To: Ulla@xn--bcher-kva.example$/m);
  await gateway.verifyEmail({ token: tokenIn(mail), password });
  t.match(await admin.getUser({ userId }), { email: 'Ulla@Bücher.example', emailVerified: true });
  for (const spelling of ['ulla@bücher.example', 'ULLA@BU\u0308CHER.EXAMPLE', inAscii, 'ulla@ｂücher。example']) {
    t.ok(await mayEnter(spelling, password), `${spelling} signs in`);
    t.match((await admin.listUsers({ email: spelling })).users, [{ userId }], `${spelling} is found`);
  }
  await gateway.registerUser({ email: inAscii, password: ofThief, displayName: 'Thief' });
  await identity.mail(inAscii, /You have an account already/);
  t.equal(lettersOf(inAscii, /Verify your address/).length, 1, 'it belongs to its owner in every spelling');
});

t.test('registrations of an address do not use up its resets', async (t) => {
  const { email } = await registered('rae');
  for (let index = 0; index < 7; index += 1) {
    await gateway.registerUser({ email, password: ofThief, displayName: 'Thief' });
  }
  await gateway.requestPasswordReset({ email });
  t.ok(await identity.mail(email, /Reset your password/));
});

t.test('of several registrations of an address, the one that is verified first gets it', async (t) => {
  const email = 'wanted@example.org';
  await gateway.registerUser({ email, password: ofThief, displayName: 'Thief' });
  const thief = tokenIn(await identity.mail(email, /Verify/));
  const { userId } = await gateway.registerUser({ email, password, displayName: 'Owner' });
  const own = await until('the second mail', () =>
    identity
      .mails(email)
      .map(tokenIn)
      .find((token) => token !== thief),
  );
  t.equal((await gateway.verifyEmail({ token: own, password })).userId, userId);
  await t.rejects(gateway.verifyEmail({ token: thief, password: ofThief }), refusal({ reason: 'TOKEN_INVALID' }));
  t.notOk(await mayEnter(email, ofThief));
});

t.test('a new address of an account is verified by its password', async (t) => {
  const { userId, email } = await registered('gus');
  await (await identity.as(userId)).updateUser({ userId, email: 'gus@example.net', updateMask: ['email'] });
  const token = tokenIn(await identity.mail('gus@example.net', /Verify/));
  await t.rejects(
    gateway.verifyEmail({ token, password: ofThief }),
    refusal({ reason: 'PASSWORD_WRONG', code: 'PERMISSION_DENIED' }),
    'the recipient of the e-mail does not know the password, nor does a thief of a token',
  );
  const user = browser();
  const page = await user.follow(`${issuer}/verify-email?token=${token}`);
  t.match(page.text, 'The password of your account');
  const form = { csrf: field(page.text, 'csrf'), token };
  t.match(await user.follow(`${issuer}/verify-email`, { ...form, password: ofThief }), {
    status: 400,
    text: 'not the password of the account',
  });
  t.ok(await mayEnter(email, password), 'the former address stays in use');
  t.match(await user.follow(`${issuer}/verify-email`, { ...form, password }), { status: 200 });
  t.ok(await mayEnter('gus@example.net', password));
  t.notOk(await mayEnter(email, password));
});

t.test('what gives an account away needs a recent sign-in', async (t) => {
  const { userId, email } = await registered('ivy');
  const minutesAgo = (minutes: number) => new Date(Date.now() - minutes * 60_000);
  const tooOld = refusal({ reason: 'SIGN_IN_TOO_OLD', code: 'UNAUTHENTICATED', metadata: { max_age_seconds: '300' } });
  const requestId = randomUUID();
  const change = { requestId, userId, email: 'ivy@example.net', updateMask: ['email'] };
  for (const [name, overrides] of [
    ['a sign-in of six minutes ago', { signedInAt: minutesAgo(6) }],
    ['a token that does not say', { claims: { auth_time: undefined } }],
  ] as const) {
    for (const subject of [userId, 'admin']) {
      const calls = await identity.as(subject, overrides);
      await t.rejects(calls.updateUser(change), tooOld, `${name}: change of address`);
      await t.rejects(calls.exportUserData({ userId }), tooOld, `${name}: export`);
      await t.rejects(calls.deactivateUser({ userId }), tooOld, `${name}: closing`);
      await t.rejects(calls.eraseUser({ userId }), tooOld, `${name}: erasing`);
      await calls.updateUser({ userId, displayName: 'Ivy', updateMask: ['display_name'] });
    }
  }
  t.match(await admin.getUser({ userId }), { email, state: UserState.USER_STATE_ACTIVE });
  const recent = await identity.as(userId, { signedInAt: minutesAgo(4) });
  t.match(await recent.updateUser(change), { email: 'ivy@example.net' }, 'the same request after signing in again');
  await recent.exportUserData({ userId });
  await recent.deactivateUser({ userId });
});

t.test('the link to the former address returns the account to its owner', async (t) => {
  const { userId, email } = await registered('kim');
  // The worst case: a thief who has the token and the password, and signs in.
  const thief = await identity.as(userId);
  const { tokens } = await tokensOf({ config, person: { email, password } });
  const link = await moved({ userId, from: email, to: 'thief@example.net' });
  const linkOfThief = await moved({ userId, from: 'thief@example.net', to: 'thief-2@example.net' });
  await thief.updateUser({ userId, email: 'thief-3@example.net', updateMask: ['email'] });
  const pending = tokenIn(await identity.mail('thief-3@example.net', /Verify/));
  t.notOk(await mayEnter(email, password));

  const newPassword = 'nine violet kettles';
  await t.rejects(gateway.resetPassword({ token: link, newPassword }), refusal({ reason: 'TOKEN_INVALID' }));
  await t.rejects(gateway.verifyEmail({ token: link, password }), refusal({ reason: 'TOKEN_INVALID' }));
  await t.rejects(
    gateway.undoEmailChange({ token: link, newPassword: '12345678' }),
    refusal({ reason: 'PASSWORD_COMMON' }),
  );
  await gateway.undoEmailChange({ token: link, newPassword });
  t.match(await admin.getUser({ userId }), { email, emailVerified: true, state: UserState.USER_STATE_ACTIVE });
  await identity.mail('thief-2@example.net', /was undone/);

  t.notOk(await mayEnter('thief-2@example.net', password));
  t.notOk(await mayEnter(email, password), 'the password that the thief knows is gone');
  await t.rejects(oidc.refreshTokenGrant(config, tokens.refresh_token ?? ''), 'every session has ended');
  for (const token of [link, linkOfThief]) {
    await t.rejects(
      gateway.undoEmailChange({ token, newPassword: ofThief }),
      refusal({ reason: 'TOKEN_INVALID' }),
      'a link is used once, and those of later changes are revoked',
    );
  }
  for (const secret of [password, newPassword]) {
    await t.rejects(gateway.verifyEmail({ token: pending, password: secret }), refusal({ reason: 'TOKEN_INVALID' }));
  }
  const stolen = await identity.as(userId, { signedInAt: new Date(Date.now() - 30_000) });
  await t.rejects(
    stolen.updateUser({ userId, email: 'thief-4@example.net', updateMask: ['email'] }),
    refusal({ reason: 'SIGN_IN_TOO_OLD' }),
    'a token of before, which is still valid, changes nothing',
  );
  t.ok(await mayEnter(email, newPassword));
});

t.test('an earlier change can be undone after a later one was', async (t) => {
  const { userId, email } = await registered('leo');
  const first = await moved({ userId, from: email, to: 'leo@example.net' });
  const second = await moved({ userId, from: 'leo@example.net', to: 'thief-5@example.net' });
  await gateway.undoEmailChange({ token: second, newPassword: 'nine violet kettles' });
  t.match(await admin.getUser({ userId }), { email: 'leo@example.net', emailVerified: true });
  await gateway.undoEmailChange({ token: first, newPassword: 'ten violet kettles' });
  t.match(await admin.getUser({ userId }), { email, emailVerified: true });
});

t.test('a change that is not verified yet can be undone, on the page of the link', async (t) => {
  const { userId, email } = await registered('mia');
  await (await identity.as(userId)).updateUser({ userId, email: 'thief-6@example.net', updateMask: ['email'] });
  const pending = tokenIn(await identity.mail('thief-6@example.net', /Verify/));
  const url =
    /https:\S+undo-email-change\?token=[\w.-]+/.exec(await identity.mail(email, /is being changed/))?.[0] ?? '';
  const user = browser();
  const page = await user.follow(url);
  t.match(await admin.getUser({ userId }), { email: 'thief-6@example.net' }, 'opening the link does nothing');
  const form = { csrf: field(page.text, 'csrf'), token: field(page.text, 'token') };
  const send = (chosen: string) => user.follow(`${issuer}/undo-email-change`, { ...form, password: chosen });
  t.match(await send('short'), { status: 400, text: '8 to 128' });
  t.match(await send('nine violet kettles'), { status: 200, text: 'The change is undone' });
  t.match(await send('ten violet kettles'), { status: 400, text: 'does not work' });
  t.match(await admin.getUser({ userId }), { email, emailVerified: true });
  await t.rejects(gateway.verifyEmail({ token: pending, password }), refusal({ reason: 'TOKEN_INVALID' }));
  t.ok(await mayEnter(email, 'nine violet kettles'));
});

t.test('links that undo nothing', async (t) => {
  const db = await identity.database();
  const undo = (token: string) => gateway.undoEmailChange({ token, newPassword: 'nine violet kettles' });
  const invalid = refusal({ reason: 'TOKEN_INVALID', code: 'FAILED_PRECONDITION' });
  const { userId, email } = await registered('noa');
  const link = await moved({ userId, from: email, to: 'noa@example.net' });
  await t.rejects(undo(`${link.slice(0, -1)}${link.endsWith('A') ? 'B' : 'A'}`), invalid, 'forged');
  await t.rejects(undo(tokenIn(await identity.mail(email, /Verify/))), invalid, 'of another purpose');
  const shift = (days: number) =>
    db.write(null, (sql) =>
      sql.execute("update letter set expires_at = expires_at - interval ? day where kind = 'address_changing'", [days]),
    );
  await shift(7);
  await t.rejects(undo(link), invalid, 'after seven days');
  await shift(-1);
  const before = lettersOf(email, /Verify/);
  await gateway.registerUser({ email, password, displayName: 'Another' });
  const another = await until('a link of the new registration', () =>
    lettersOf(email, /Verify/).find((mail) => !before.includes(mail)),
  );
  await gateway.verifyEmail({ token: tokenIn(another), password });
  await t.rejects(undo(link), invalid, 'when another account has verified the address');
  t.match(await admin.getUser({ userId }), { email: 'noa@example.net', emailVerified: true });
  const closed = await registered('olli');
  const unused = await moved({ ...closed, from: closed.email, to: 'olli@example.net' });
  await admin.eraseUser({ userId: closed.userId });
  await t.rejects(undo(unused), invalid, 'of an erased account');
});

t.test('requests without a token cannot use up the e-mails that warn an owner', async (t) => {
  for (let index = 0; index < 7; index += 1) {
    await gateway.registerUser({ email: ada.email, password, displayName: 'Not Ada' });
    await gateway.requestPasswordReset({ email: ada.email });
  }
  const calls = await identity.as('ada');
  for (let index = 0; index < 12; index += 1) {
    await calls.updateUser({ userId: 'ada', email: `thief-of-ada-${index}@example.net`, updateMask: ['email'] });
  }
  await gateway.requestPasswordReset({ email: bea.email });
  await identity.mail(bea.email, /Reset/);
  await until('all warnings', () => lettersOf(ada.email, /is being changed/).length >= 10 || undefined);
  t.equal(lettersOf(ada.email, /is being changed/).length, 10, 'they have a budget of their own');
  t.equal(lettersOf(ada.email, /already/).length, 6);
  t.equal(lettersOf(ada.email, /Reset/).length, 6);
});
