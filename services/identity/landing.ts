import { randomBytes } from 'node:crypto';
import { type Background, type CallContext, type Database, RpcError } from '@armature/runtime';
import { HttpError, type HttpReply, type HttpRequest } from '@armature/runtime/http';
import type { Accounts } from './accounts.ts';
import { donePage, forgotPasswordPage, resetPasswordPage, verifyEmailPage } from './pages.ts';
import { ruleOf } from './password-strength.ts';
import { type Passwords, weakness } from './passwords.ts';
import type { Sealing } from './sealing.ts';
import type { Page } from './site.ts';
import { formOf, fromOurPages, sendPage } from './web.ts';

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
  function issue(request: HttpRequest, reply: HttpReply): string {
    const known = cookieOf(request.headers.cookie);
    const value = known ?? randomBytes(24).toString('base64url');
    if (!known) reply.header('Set-Cookie', `${cookie}=${value}; Path=/; Secure; HttpOnly; SameSite=Strict`);
    return csrfOf(value);
  }

  function received(request: HttpRequest): URLSearchParams {
    fromOurPages(request);
    const form = formOf(request);
    const value = cookieOf(request.headers.cookie);
    if (!value || form.get('csrf') !== csrfOf(value)) throw new HttpError(403, 'form_invalid');
    return form;
  }

  async function within<T>(name: string, work: (call: CallContext) => Promise<T>): Promise<T> {
    const call = parts.background(name, timeoutMs);
    try {
      return await work(call);
    } finally {
      call.close();
    }
  }

  const blank = (action: string, request: HttpRequest, reply: HttpReply) => ({
    action,
    csrf: issue(request, reply),
    problem: null,
  });
  const tokenOf = ({ query }: HttpRequest): string => String((query as Record<string, unknown>).token ?? '');

  const verifyEmail: Page = {
    async GET(request, reply) {
      const form = blank('/verify-email', request, reply);
      return sendPage(reply, 200, verifyEmailPage({ ...form, token: tokenOf(request) }));
    },
    async POST(request, reply) {
      const form = blank('/verify-email', request, reply);
      const token = received(request).get('token') ?? '';
      try {
        await within('verify email', (call) => db.transaction(call, (tx) => accounts.verifyEmail(tx, token)));
      } catch (error) {
        if (!isUseless(error)) throw error;
        return sendPage(reply, 400, verifyEmailPage({ ...form, problem: useless, token }));
      }
      return sendPage(reply, 200, donePage('Verified', 'This address is yours. You may sign in with it now.'));
    },
  };

  const resetPassword: Page = {
    async GET(request, reply) {
      const form = blank('/reset-password', request, reply);
      return sendPage(reply, 200, resetPasswordPage({ ...form, token: tokenOf(request) }));
    },
    async POST(request, reply) {
      const form = blank('/reset-password', request, reply);
      const sent = received(request);
      const [token, password] = [sent.get('token') ?? '', sent.get('password') ?? ''];
      const again = (problem: string) => sendPage(reply, 400, resetPasswordPage({ ...form, problem, token }));
      const length = [...password].length;
      if (length < 8 || length > 128) return again('A password has 8 to 128 characters.');
      const weak = await weakness(password);
      if (weak === 'common') return again('Everybody tries this password first. Choose another one.');
      if (weak) return again(`This password ${ruleOf(weak)}. Choose another one.`);
      const passwordHash = await passwords.hash(password);
      try {
        await within('reset password', (call) =>
          db.transaction(call, (tx) => accounts.resetPassword(tx, token, passwordHash)),
        );
      } catch (error) {
        if (!isUseless(error)) throw error;
        return again(useless);
      }
      return sendPage(reply, 200, donePage('Your password is set', 'You may sign in with it now.'));
    },
  };

  const forgotPassword: Page = {
    async GET(request, reply) {
      return sendPage(reply, 200, forgotPasswordPage(blank('/forgot-password', request, reply)));
    },
    async POST(request, reply) {
      const form = blank('/forgot-password', request, reply);
      const email = received(request).get('email') ?? '';
      if (email.length > 254 || !address.test(email)) {
        return sendPage(reply, 400, forgotPasswordPage({ ...form, problem: 'That is not a mail address.' }));
      }
      await within('forgot password', (call) => db.transaction(call, (tx) => accounts.requestReset(tx, email)));
      const message = 'If there is an account with this address, a link is on its way to it.';
      return sendPage(reply, 200, donePage('Look into your mail', message));
    },
  };

  return {
    '/verify-email': verifyEmail,
    '/reset-password': resetPassword,
    '/forgot-password': forgotPassword,
  };
}

const isUseless = (error: unknown): boolean => error instanceof RpcError && error.code === 'FAILED_PRECONDITION';

function cookieOf(header: string | undefined): string | null {
  const pair = header?.split(';').find((part) => part.trim().startsWith(`${cookie}=`));
  const value = pair?.trim().slice(cookie.length + 1);
  return value && /^[\w-]{32}$/.test(value) ? value : null;
}
