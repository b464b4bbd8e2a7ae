import { randomUUID } from 'node:crypto';
import { UserErasedEvent } from '@armature/proto/identity/v1/contract.ts';
import { UserState } from '@armature/proto/identity/v1/identity.ts';
import t from 'tap';
import { refusal } from '../../test/support/refusal.ts';
import {
  ada,
  bea,
  browser,
  field,
  programKey,
  signInWith,
  startIdentity,
  tokenIn,
  tokensOf,
  until,
} from './testbed.ts';

t.setTimeout(180_000);
const identity = await startIdentity(t);
const { database, issuer, service } = identity;
const [gateway, admin, bo, adaCalls] = await Promise.all([
  identity.as(null),
  identity.as('admin'),
  identity.as('bo'),
  identity.as('ada'),
]);
const config = await identity.client();
const password = 'canary ember twelve rivers';

/** Registers, and verifies the address by the e-mail. */
async function registered(name: string) {
  const email = `${name}@Example.org`;
  const { userId } = await gateway.registerUser({ email, password, displayName: name });
  const token = tokenIn(await identity.mail(email, /Verify your address/));
  await gateway.verifyEmail({ token, password });
  return { userId, email, token };
}

t.test('from registering to signing in', async (t) => {
  const email = 'Cleo@Example.org';
  const { userId } = await gateway.registerUser({ email, password, displayName: 'Cleo' });
  t.match(await admin.getUser({ userId }), {
    userId,
    email,
    emailVerified: false,
    displayName: 'Cleo',
    state: UserState.USER_STATE_PENDING,
  });
  const early = await signInWith({ config, person: { email, password } });
  t.match(early.back.text, 'role="alert"', 'not before the address is verified');
  const token = tokenIn(await identity.mail(email, /Verify your address/));
  await t.rejects(gateway.verifyEmail({ token: `${token}x`, password }), refusal({ reason: 'TOKEN_INVALID' }));
  await t.rejects(
    gateway.resetPassword({ token, newPassword: 'another of my passwords' }),
    refusal({ reason: 'TOKEN_INVALID' }),
    'a token is for one purpose',
  );
  t.equal((await gateway.verifyEmail({ token, password })).userId, userId);
  await t.rejects(
    gateway.verifyEmail({ token, password }),
    refusal({ reason: 'TOKEN_INVALID', code: 'FAILED_PRECONDITION' }),
  );
  t.match(await admin.getUser({ userId }), { emailVerified: true, state: UserState.USER_STATE_ACTIVE });
  const { tokens } = await tokensOf({ config, person: { email: 'cleo@example.ORG', password } });
  t.match(tokens.claims(), { sub: userId, email, email_verified: true, name: 'Cleo' });
});

t.test('a repeated request gets the stored response, with one effect', async (t) => {
  const requestId = randomUUID();
  const request = { requestId, email: 'dora@example.org', password, displayName: 'Dora' };
  const first = await gateway.registerUser(request);
  t.strictSame(await gateway.registerUser(request), first);
  await t.rejects(
    gateway.registerUser({ ...request, password: 'something else entirely' }),
    refusal({ reason: 'REQUEST_ID_REUSED' }),
  );
  await identity.mail('dora@example.org', /Verify/);
  t.equal(identity.mails('dora@example.org').length, 1);
});

t.test('a taken address gets the same response as a free one, and its owner gets an e-mail', async (t) => {
  const { userId } = await gateway.registerUser({ email: 'ADA@example.org', password, displayName: 'Not Ada' });
  t.match(userId, /^[0-9a-f-]{36}$/);
  await t.rejects(admin.getUser({ userId }), refusal({ reason: 'USER_NOT_FOUND', code: 'NOT_FOUND' }));
  const mail = await identity.mail('ADA@example.org', /You have an account already/);
  t.notMatch(mail, 'token=');
  t.notMatch(mail, 'Not Ada', 'the e-mail contains no text of the sender');
  t.equal((await admin.listUsers({ email: 'ada@example.org' })).users.length, 1);
});

t.test('common passwords are refused', async (t) => {
  const weak = { reason: 'PASSWORD_COMMON', code: 'INVALID_ARGUMENT' } as const;
  const email = 'weak@example.org';
  await t.rejects(gateway.registerUser({ email, password: 'Passw0rd123!', displayName: 'W' }), refusal(weak));
  await t.rejects(
    adaCalls.changePassword({ userId: 'ada', currentPassword: ada.password, newPassword: 'QWERTYUIOP' }),
    refusal(weak),
  );
  await t.rejects(gateway.resetPassword({ token: 'x'.repeat(40), newPassword: '12345678' }), refusal(weak));
});

t.test('resetting a password', async (t) => {
  const { email } = await registered('ella');
  const { tokens } = await tokensOf({ config, person: { email, password } });
  await gateway.requestPasswordReset({ email });
  await gateway.requestPasswordReset({ email: 'unknown-address@example.org' });
  const token = tokenIn(await identity.mail(email, /Reset your password/));
  const newPassword = 'quiet harbour nineteen';
  await gateway.resetPassword({ token, newPassword });
  await t.rejects(gateway.resetPassword({ token, newPassword }), refusal({ reason: 'TOKEN_INVALID' }));
  await identity.mail(email.toLowerCase(), /Your password was changed/);
  const { refreshTokenGrant } = await import('openid-client');
  await t.rejects(refreshTokenGrant(config, tokens.refresh_token ?? ''), 'sessions of before have ended');
  t.match((await signInWith({ config, person: { email, password } })).back.text, 'role="alert"');
  t.ok((await tokensOf({ config, person: { email, password: newPassword } })).tokens.access_token);
  t.equal(identity.mails('unknown-address@example.org').length, 0);
});

t.test('a new link invalidates none, a used one invalidates the others', async (t) => {
  const { email } = await registered('fay');
  await gateway.requestPasswordReset({ email });
  await gateway.requestPasswordReset({ email });
  const links = await until('two links', () => {
    const found = identity.mails(email).filter((mail) => /Reset your password/.test(mail));
    return found.length === 2 ? found.map(tokenIn) : undefined;
  });
  await gateway.resetPassword({ token: links[0] ?? '', newPassword: 'first of two new ones' });
  await t.rejects(
    gateway.resetPassword({ token: links[1] ?? '', newPassword: 'second of two new ones' }),
    refusal({ reason: 'TOKEN_INVALID' }),
  );
});

t.test('changing a password', async (t) => {
  const calls = await identity.as('bea');
  const { tokens } = await tokensOf({ config, person: bea });
  const change = { userId: 'bea', currentPassword: bea.password, newPassword: 'eleven wet umbrellas' };
  await t.rejects(
    calls.changePassword({ ...change, currentPassword: 'a wrong one' }),
    refusal({ reason: 'PASSWORD_WRONG' }),
  );
  await t.rejects(calls.changePassword({ ...change, userId: 'ada' }), refusal({ reason: 'PERMISSION_DENIED' }));
  const requestId = randomUUID();
  await calls.changePassword({ ...change, requestId });
  await calls.changePassword({ ...change, requestId });
  const { refreshTokenGrant } = await import('openid-client');
  await t.rejects(refreshTokenGrant(config, tokens.refresh_token ?? ''));
  await calls.changePassword({ userId: 'bea', currentPassword: change.newPassword, newPassword: bea.password });
  const stranger = await identity.as('stranger');
  await t.rejects(stranger.changePassword({ ...change, userId: 'stranger' }), refusal({ reason: 'USER_NOT_FOUND' }));
});

t.test('changing name and address', async (t) => {
  const { userId, email } = await registered('gil');
  const calls = await identity.as(userId);
  const renamed = await calls.updateUser({ userId, displayName: 'Gilbert', updateMask: ['display_name'] });
  t.match(renamed, { displayName: 'Gilbert', email, emailVerified: true });
  for (const [updateMask, values] of [
    [['state'], {}],
    [['display_name'], { displayName: '' }],
    [['email'], { email: '' }],
  ] as const) {
    await t.rejects(
      calls.updateUser({ userId, ...values, updateMask: [...updateMask] }),
      refusal({ reason: 'FIELD_MASK_INVALID' }),
    );
  }
  const next = 'gilbert@example.net';
  t.match(await calls.updateUser({ userId, email: next, updateMask: ['email'] }), {
    email: next,
    emailVerified: false,
  });
  t.ok((await tokensOf({ config, person: { email, password } })).tokens, 'the old address signs in until then');
  await gateway.verifyEmail({ token: tokenIn(await identity.mail(next, /Verify/)), password });
  t.match((await signInWith({ config, person: { email, password } })).back.text, 'role="alert"');
  t.ok((await tokensOf({ config, person: { email: next, password } })).tokens);
  await calls.updateUser({ userId, email: ada.email, updateMask: ['email'] });
  const claimed = await tokensOf({ config, person: { email: next, password } });
  t.match(
    claimed.tokens.claims(),
    { email: next, email_verified: true },
    'an address that is only claimed is not told',
  );
  await until('Ada to be told', () => identity.mails(ada.email).find((mail) => /an account already/.test(mail)));
  await t.rejects(
    calls.updateUser({ userId: 'ada', displayName: 'x', updateMask: ['display_name'] }),
    refusal({ code: 'PERMISSION_DENIED' }),
  );
  await t.rejects(
    admin.updateUser({ userId: 'stranger', displayName: 'x', updateMask: ['display_name'] }),
    refusal({ reason: 'USER_NOT_FOUND' }),
  );
});

t.test('closing, opening and erasing', async (t) => {
  const { userId, email } = await registered('hal');
  const calls = await identity.as(userId);
  const closed = await calls.deactivateUser({ userId });
  t.equal(closed.state, UserState.USER_STATE_DEACTIVATED);
  t.equal((await admin.deactivateUser({ userId })).state, UserState.USER_STATE_DEACTIVATED);
  await t.rejects(calls.reactivateUser({ userId }), refusal({ code: 'PERMISSION_DENIED' }), 'not by its owner');
  await t.rejects(
    admin.updateUser({ userId, displayName: 'x', updateMask: ['display_name'] }),
    refusal({ reason: 'USER_CLOSED', code: 'FAILED_PRECONDITION' }),
  );
  await gateway.requestPasswordReset({ email });
  t.equal((await admin.reactivateUser({ userId })).state, UserState.USER_STATE_ACTIVE);
  t.equal(identity.mails(email).filter((mail) => /Reset/.test(mail)).length, 0, 'a closed account gets no link');
  t.ok((await tokensOf({ config, person: { email, password } })).tokens);

  const again = await identity.as(userId);
  const { json } = await again.exportUserData({ userId });
  const exported = JSON.parse(json);
  t.match(exported, {
    account: { user_id: userId, email, display_name: 'hal' },
    sessions: [{ since: /Z$/, last_use_time: /Z$/, client_ids: ['armature-cli'] }],
    grants: [{ client_id: 'armature-cli' }],
    sign_ins: [{ client_id: 'armature-cli', source: /127\.0\.0\.1/ }],
  });
  t.notMatch(json, /argon2|password/);

  const erased = await again.eraseUser({ userId });
  t.match(erased, { userId, email: '', displayName: '', emailVerified: false, state: UserState.USER_STATE_ERASED });
  const db = await database();
  const published = () =>
    db.read(null, (sql) =>
      sql.query<{ type: string }>(
        `select type from outbox where aggregate = 'user' and aggregate_id = ? and type = ? order by sequence`,
        [userId, UserErasedEvent.type],
      ),
    );
  t.equal((await published()).length, 1);
  t.match(await admin.eraseUser({ userId }), { state: UserState.USER_STATE_ERASED });
  t.equal((await published()).length, 2, 'published again, for services that were restored from a backup');
  await t.rejects(admin.reactivateUser({ userId }), refusal({ reason: 'USER_CLOSED' }));
  for (const [table, column] of [
    ['account', 'email_key'],
    ['letter', 'recipient_key'],
  ]) {
    const rows = await db.read(null, (sql) =>
      sql.query(`select 1 from ${table} where ${column} = ?`, [email.toLowerCase()]),
    );
    t.equal(rows.length, 0, `${table} no longer names the person`);
  }
  for (const name of ['deactivateUser', 'reactivateUser', 'exportUserData', 'eraseUser'] as const) {
    const asked: Promise<unknown> = admin[name]({ userId: 'stranger' });
    await t.rejects(asked, refusal({ reason: 'USER_NOT_FOUND' }), name);
  }
});

t.test('administrators change no account with rights that they do not administer', async (t) => {
  const refused = refusal({ code: 'PERMISSION_DENIED', reason: 'TARGET_NOT_ADMINISTERED' });
  const userId = 'olga';
  const email = { userId, email: 'taken@example.org', updateMask: ['email'] };
  await t.rejects(admin.updateUser(email), refused);
  await t.rejects(admin.deactivateUser({ userId }), refused);
  await t.rejects(admin.reactivateUser({ userId }), refused);
  await t.rejects(admin.eraseUser({ userId }), refused);
  const bo = { userId: 'bo', displayName: 'Bo', updateMask: ['display_name'] };
  await t.rejects(admin.updateUser(bo), refusal({ reason: 'USER_NOT_FOUND' }), 'those of staff they do');
  t.match(await admin.updateUser({ ...bo, userId: 'bea' }), { displayName: 'Bo' });
});

t.test('listing', async (t) => {
  const db = await database();
  const rows = await db.read(null, (sql) =>
    sql.query<{ user_id: string }>("select user_id from account where state <> 'DECOY'"),
  );
  // All within one millisecond: a cursor without microseconds skips accounts.
  const second = new Date().toISOString().slice(0, 19).replace('T', ' ');
  for (const [index, { user_id }] of rows.entries()) {
    await db.write(null, (sql) =>
      sql.execute('update account set created_at = timestamp(?) + interval ? microsecond where user_id = ?', [
        second,
        index,
        user_id,
      ]),
    );
  }
  const all: string[] = [];
  let pageToken = '';
  do {
    const page = await bo.listUsers({ pageSize: 3, pageToken });
    all.push(...page.users.map(({ userId }) => userId));
    pageToken = page.nextPageToken;
  } while (pageToken);
  t.strictSame(all, rows.map(({ user_id }) => user_id).reverse(), 'every account once, the newest first');
  const { users } = await bo.listUsers({ state: UserState.USER_STATE_ERASED });
  t.ok(users.length > 0 && users.every(({ state }) => state === UserState.USER_STATE_ERASED));
  const holders = (await bo.listUsers({ email: 'ADA@EXAMPLE.org' })).users.filter((user) => user.emailVerified);
  t.strictSame(
    holders.map(({ userId }) => userId),
    ['ada'],
  );
  const first = await bo.listUsers({ pageSize: 1 });
  await t.rejects(
    bo.listUsers({ email: ada.email, pageToken: first.nextPageToken }),
    refusal({ reason: 'PAGE_TOKEN_INVALID' }),
  );
  await t.rejects(adaCalls.listUsers({}), refusal({ code: 'PERMISSION_DENIED' }));
});

t.test('service accounts', async (t) => {
  const { publicJwk } = await programKey();
  const made = await admin.createServiceAccount({ accountId: 'loader', displayName: 'Loader', publicJwk });
  t.match(made, { accountId: 'loader', disabled: false, createdBy: 'user:admin' });
  t.match(JSON.parse(made.publicJwk), { kty: 'EC', crv: 'P-256' });
  for (const accountId of ['loader', 'armature-cli', 'ada']) {
    await t.rejects(
      admin.createServiceAccount({ accountId, displayName: 'Again', publicJwk }),
      refusal({ reason: 'SERVICE_ACCOUNT_EXISTS', code: 'ALREADY_EXISTS' }),
      `${accountId} is taken`,
    );
  }
  const point = JSON.parse(publicJwk);
  for (const [name, key] of [
    ['not JSON', 'nonsense here'],
    ['not an object', '"just a text"'],
    ['another curve', JSON.stringify({ ...point, crv: 'P-384' })],
    ['a symmetric key', JSON.stringify({ kty: 'oct', k: 'c2VjcmV0' })],
    ['no point on the curve', JSON.stringify({ ...point, x: point.y })],
    ['a private key', JSON.stringify({ ...point, d: point.x })],
  ] as const) {
    await t.rejects(
      admin.createServiceAccount({ accountId: 'badkey', displayName: 'Bad', publicJwk: key }),
      refusal({ reason: 'KEY_INVALID', code: 'INVALID_ARGUMENT' }),
      name,
    );
  }
  await admin.createServiceAccount({ accountId: 'loader-two', displayName: 'Loader 2', publicJwk });
  const page = await admin.listServiceAccounts({ pageSize: 1 });
  const rest = await admin.listServiceAccounts({ pageSize: 1, pageToken: page.nextPageToken });
  t.strictSame(
    [...page.accounts, ...rest.accounts].map(({ accountId }) => accountId),
    ['loader', 'loader-two'],
  );
  t.match(await admin.disableServiceAccount({ accountId: 'loader' }), { disabled: true });
  t.match(await admin.disableServiceAccount({ accountId: 'loader' }), { disabled: true });
  for (const accountId of ['stranger', 'armature-cli']) {
    await t.rejects(
      admin.disableServiceAccount({ accountId }),
      refusal({ reason: 'SERVICE_ACCOUNT_NOT_FOUND', code: 'NOT_FOUND' }),
    );
  }
});

t.test('links lead to pages that change nothing before the form is sent', async (t) => {
  const email = 'ivo@example.org';
  const { userId } = await gateway.registerUser({ email, password, displayName: 'Ivo' });
  const link = /https:\S+verify-email\?token=[\w.-]+/.exec(await identity.mail(email, /Verify/))?.[0] ?? '';
  t.ok(link.startsWith(issuer));
  const user = browser();
  const pages = [await browser().follow(link), await user.follow(link)];
  for (const page of pages) t.match(page, { status: 200, text: 'Verify my address' });
  t.match(await admin.getUser({ userId }), { emailVerified: false }, 'opening it did nothing');
  const form = (page: string) => ({ csrf: field(page, 'csrf'), token: field(page, 'token') });
  const sent = { ...form(pages[1]?.text ?? ''), password };
  t.equal((await browser().follow(`${issuer}/verify-email`, sent)).status, 403, 'a form without its cookie');
  t.equal((await user.follow(`${issuer}/verify-email`, { ...sent, csrf: 'x' })).status, 403);
  t.match(await user.follow(`${issuer}/verify-email`, { ...sent, password: '' }), { status: 400, text: '8 to 128' });
  t.match(await user.follow(`${issuer}/verify-email`, sent), { status: 200, text: 'This address is yours' });
  t.match(await user.follow(`${issuer}/verify-email`, sent), { status: 400, text: 'does not work' });
  t.match(await user.follow(link), { status: 400, text: 'does not work' });
  t.match(await admin.getUser({ userId }), { emailVerified: true });

  const forgot = await user.follow(`${issuer}/forgot-password`);
  const ask = (address: string) =>
    user.follow(`${issuer}/forgot-password`, { csrf: field(forgot.text, 'csrf'), email: address });
  const [known, unknown] = [await ask(email), await ask('unknown@example.org')];
  t.equal(known.text, unknown.text, 'known or not, the page is the same');
  t.match(await ask('nonsense'), { status: 400, text: 'must be an email address' });
  const reset = tokenIn(await identity.mail(email, /Reset/));
  const page = await user.follow(`${issuer}/reset-password?token=${reset}`);
  const choose = (chosen: string) => user.follow(`${issuer}/reset-password`, { ...form(page.text), password: chosen });
  t.match(await choose('short'), { status: 400, text: '8 to 128' });
  t.match(await choose('password123'), { status: 400, text: 'one of the most common passwords' });
  t.match(await choose('nine violet kettles'), { status: 200, text: 'Your password is set' });
  t.match(await choose('nine violet kettles'), { status: 400, text: 'does not work' });
  t.ok((await tokensOf({ config, person: { email, password: 'nine violet kettles' } })).tokens);
});

t.test('no address gets more than a few e-mails in an hour', async (t) => {
  const email = 'flooded@example.org';
  for (let index = 0; index < 9; index += 1) {
    await gateway.registerUser({ email, password, displayName: 'F' });
  }
  const marker = 'after-the-flood@example.org';
  await gateway.registerUser({ email: marker, password, displayName: 'M' });
  await identity.mail(marker, /Verify/);
  t.equal(identity.mails(email).length, 6);
});

t.test('events are numbered per account from one, without gaps, and contain no personal data', async (t) => {
  const db = await database();
  const rows = await db.read(null, (sql) =>
    sql.query<{ aggregate_id: string; sequence: string; type: string; payload: Buffer }>(
      "select aggregate_id, sequence, type, payload from outbox where aggregate = 'user' order by aggregate_id, sequence",
    ),
  );
  const byUser = Map.groupBy(rows, ({ aggregate_id }) => aggregate_id);
  t.ok(byUser.size > 5);
  for (const [userId, events] of byUser) {
    t.strictSame(
      events.map(({ sequence }) => Number(sequence)),
      events.map((_, index) => index + 1),
      userId,
    );
    t.match(events[0]?.type, /UserRegistered$/);
  }
  t.notMatch(rows.map(({ payload }) => payload.toString('latin1')).join('\n'), /example|Cleo|canary/);
});

t.test('secrets are stored nowhere', async (t) => {
  const { token } = await registered('canary');
  await signInWith({ config, person: { email: 'canary@example.org', password: 'canary of a wrong password' } });
  const db = await database();
  const tables = await db.read(null, (sql) => sql.query<Record<string, string>>('show tables'));
  const proof = token.split('.')[1] ?? 'none';
  for (const table of tables.flatMap((row) => Object.values(row))) {
    const rows = await db.read(null, (sql) => sql.query<Record<string, unknown>>(`select * from \`${table}\``));
    const text = rows
      .flatMap((row) => Object.values(row))
      .map((value) => (Buffer.isBuffer(value) ? value.toString('latin1') : String(value)))
      .join('\n');
    t.notMatch(text, password, `${table} has no password`);
    t.notMatch(text, 'canary of a wrong password', `${table} has no mistyped password`);
    t.notOk(text.includes(proof), `${table} has no token of a mail`);
  }
  const logs = service.logs();
  for (const secret of [password, ada.password, proof, 'canary of a wrong password', 'for development only']) {
    t.notOk(logs.includes(secret), 'nor is there any in the log');
  }
  t.notMatch(logs, /"level":(50|60)/, 'nothing went wrong on our side');
});
