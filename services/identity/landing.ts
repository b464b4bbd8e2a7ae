import { randomBytes } from 'node:crypto';
import { type Background, type Call, type Database, RpcError } from '@armature/runtime';
import type { Accounts } from './accounts.ts';
import { donePage, forgotPasswordPage, resetPasswordPage, verifyEmailPage } from './pages.ts';
import { isCommon, type Passwords } from './passwords.ts';
import type { Sealing } from './sealing.ts';
import { type Exchange, fromOurPages, type Page, PageError, readForm, sendPage } from './web.ts';

const cookie = '__Host-form';
const timeoutMs = 15_000;
const useless = 'This link does not work, or no longer. Ask for a new one.';
const address = /^[^\s@]+@[^\s@]+\.[^\s@]+$/;

/**
 * The pages that links in mails lead to. Opening one does nothing, because programs that look through mail open links
 * as well; what the link is for is done when the person sends the form.
 */
export function landing(parts: {
  db: Database;
  accounts: Accounts;
  passwords: Passwords;
  sealing: Sealing;
  background: Background;
}): Record<string, Page> {
  const { db, accounts, passwords, sealing } = parts;

  const csrfOf = (value: string) => sealing.sign(`form\0${value}`);

  /** Ties a form to the browser that it is shown in. */
  function issue({ request, response }: Exchange): string {
    const known = cookieOf(request.headers.cookie);
    const value = known ?? randomBytes(24).toString('base64url');
    if (!known) response.setHeader('Set-Cookie', `${cookie}=${value}; Path=/; Secure; HttpOnly; SameSite=Strict`);
    return csrfOf(value);
  }

  async function received(exchange: Exchange): Promise<URLSearchParams> {
    fromOurPages(exchange);
    const form = await readForm(exchange);
    const value = cookieOf(exchange.request.headers.cookie);
    if (!value || form.get('csrf') !== csrfOf(value)) throw new PageError(403, 'form_invalid');
    return form;
  }

  async function within<T>(name: string, work: (call: Call) => Promise<T>): Promise<T> {
    const call = parts.background(name, timeoutMs);
    try {
      return await work(call);
    } finally {
      call.close();
    }
  }

  return {
    async '/verify-email'(exchange) {
      const { request, response, url } = exchange;
      const form = { action: '/verify-email', csrf: issue(exchange), problem: null };
      if (request.method !== 'POST') {
        return sendPage(response, 200, verifyEmailPage({ ...form, token: url.searchParams.get('token') ?? '' }));
      }
      const token = (await received(exchange)).get('token') ?? '';
      try {
        await within('verify email', (call) => db.transaction(call, (tx) => accounts.verifyEmail(tx, token)));
      } catch (error) {
        if (!isUseless(error)) throw error;
        return sendPage(response, 400, verifyEmailPage({ ...form, problem: useless, token }));
      }
      sendPage(response, 200, donePage('Verified', 'This address is yours. You may sign in with it now.'));
    },

    async '/reset-password'(exchange) {
      const { request, response, url } = exchange;
      const form = { action: '/reset-password', csrf: issue(exchange), problem: null };
      if (request.method !== 'POST') {
        return sendPage(response, 200, resetPasswordPage({ ...form, token: url.searchParams.get('token') ?? '' }));
      }
      const sent = await received(exchange);
      const [token, password] = [sent.get('token') ?? '', sent.get('password') ?? ''];
      const again = (problem: string) => sendPage(response, 400, resetPasswordPage({ ...form, problem, token }));
      const length = [...password].length;
      if (length < 8 || length > 128) return again('A password has 8 to 128 characters.');
      if (isCommon(password)) return again('Everybody tries this password first. Choose another one.');
      const passwordHash = await passwords.hash(password);
      try {
        await within('reset password', (call) =>
          db.transaction(call, (tx) => accounts.resetPassword(tx, token, passwordHash)),
        );
      } catch (error) {
        if (!isUseless(error)) throw error;
        return again(useless);
      }
      sendPage(response, 200, donePage('Your password is set', 'You may sign in with it now.'));
    },

    async '/forgot-password'(exchange) {
      const { request, response } = exchange;
      const form = { action: '/forgot-password', csrf: issue(exchange), problem: null };
      if (request.method !== 'POST') return sendPage(response, 200, forgotPasswordPage(form));
      const email = (await received(exchange)).get('email') ?? '';
      if (email.length > 254 || !address.test(email)) {
        return sendPage(response, 400, forgotPasswordPage({ ...form, problem: 'That is not a mail address.' }));
      }
      await within('forgot password', (call) => db.transaction(call, (tx) => accounts.requestReset(tx, email)));
      const message = 'If there is an account with this address, a link is on its way to it.';
      sendPage(response, 200, donePage('Look into your mail', message));
    },
  };
}

const isUseless = (error: unknown): boolean => error instanceof RpcError && error.code === 'FAILED_PRECONDITION';

function cookieOf(header: string | undefined): string | null {
  const pair = header?.split(';').find((part) => part.trim().startsWith(`${cookie}=`));
  const value = pair?.trim().slice(cookie.length + 1);
  return value && /^[\w-]{32}$/.test(value) ? value : null;
}
