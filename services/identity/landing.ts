import { randomBytes } from 'node:crypto';
import { type Background, type Database, RpcError, type Tx } from '@armature/runtime';
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
const linkInvalid = 'This link does not work, or no longer. Ask for a new one.';
const address = /^[^\s@]+@[^\s@]+\.[^\s@]+$/;

interface LandingParts {
  db: Database;
  accounts: Accounts;
  passwords: Passwords;
  sealing: Sealing;
  background: Background;
}

/**
 * The pages that links in e-mails lead to. Opening one does nothing, because programs that scan e-mails open links
 * as well; the effect comes when the person sends the form.
 */
export function landing(parts: LandingParts): Record<string, Page> {
  return {
    '/verify-email': verifyEmail(parts),
    '/reset-password': resetPassword(parts),
    '/forgot-password': forgotPassword(parts),
  };
}

const csrfOf = (sealing: Sealing, value: string): string => sealing.sign(`form\0${value}`);

/** The fields of a new form. Binds the form to the browser that shows it. */
function blank({ sealing }: LandingParts, action: string, request: HttpRequest, reply: HttpReply) {
  const known = cookieOf(request.headers.cookie);
  const value = known ?? randomBytes(24).toString('base64url');
  if (!known) reply.header('Set-Cookie', `${cookie}=${value}; Path=/; Secure; HttpOnly; SameSite=Strict`);
  return { action, csrf: csrfOf(sealing, value), problem: null };
}

/** The fields of a form that this browser was shown. Throws an HttpError 403 for another form. */
function received({ sealing }: LandingParts, request: HttpRequest): URLSearchParams {
  fromOurPages(request);
  const form = formOf(request);
  const value = cookieOf(request.headers.cookie);
  if (!value || form.get('csrf') !== csrfOf(sealing, value)) throw new HttpError(403, 'form_invalid');
  return form;
}

/** Runs work in a transaction of a call with this name. */
async function transact<T>({ db, background }: LandingParts, name: string, work: (tx: Tx) => Promise<T>): Promise<T> {
  const call = background(name, timeoutMs);
  try {
    return await db.transaction(call, work);
  } finally {
    call.close();
  }
}

const tokenOf = ({ query }: HttpRequest): string => String((query as Record<string, unknown>).token ?? '');

const verifyEmail = (parts: LandingParts): Page => ({
  async GET(request, reply) {
    const form = blank(parts, '/verify-email', request, reply);
    return sendPage(reply, 200, verifyEmailPage({ ...form, token: tokenOf(request) }));
  },
  async POST(request, reply) {
    const form = blank(parts, '/verify-email', request, reply);
    const token = received(parts, request).get('token') ?? '';
    try {
      await transact(parts, 'verify email', (tx) => parts.accounts.verifyEmail(tx, token));
    } catch (error) {
      if (!isLinkInvalid(error)) throw error;
      return sendPage(reply, 400, verifyEmailPage({ ...form, problem: linkInvalid, token }));
    }
    return sendPage(reply, 200, donePage('Verified', 'This address is yours. You may sign in with it now.'));
  },
});

const resetPassword = (parts: LandingParts): Page => ({
  async GET(request, reply) {
    const form = blank(parts, '/reset-password', request, reply);
    return sendPage(reply, 200, resetPasswordPage({ ...form, token: tokenOf(request) }));
  },
  async POST(request, reply) {
    const form = blank(parts, '/reset-password', request, reply);
    const sent = received(parts, request);
    const [token, password] = [sent.get('token') ?? '', sent.get('password') ?? ''];
    const again = (problem: string) => sendPage(reply, 400, resetPasswordPage({ ...form, problem, token }));
    const length = [...password].length;
    if (length < 8 || length > 128) return again('A password has 8 to 128 characters.');
    const weak = await weakness(password);
    if (weak === 'common') return again('This password is one of the first that attackers try. Choose another one.');
    if (weak) return again(`This password ${ruleOf(weak)}. Choose another one.`);
    const passwordHash = await parts.passwords.hash(password);
    try {
      await transact(parts, 'reset password', (tx) => parts.accounts.resetPassword(tx, token, passwordHash));
    } catch (error) {
      if (!isLinkInvalid(error)) throw error;
      return again(linkInvalid);
    }
    return sendPage(reply, 200, donePage('Your password is set', 'You may sign in with it now.'));
  },
});

const forgotPassword = (parts: LandingParts): Page => ({
  async GET(request, reply) {
    return sendPage(reply, 200, forgotPasswordPage(blank(parts, '/forgot-password', request, reply)));
  },
  async POST(request, reply) {
    const form = blank(parts, '/forgot-password', request, reply);
    const email = received(parts, request).get('email') ?? '';
    if (email.length > 254 || !address.test(email)) {
      return sendPage(reply, 400, forgotPasswordPage({ ...form, problem: 'That is not a mail address.' }));
    }
    await transact(parts, 'forgot password', (tx) => parts.accounts.requestReset(tx, email));
    const message = 'If there is an account with this address, a link is on its way to it.';
    return sendPage(reply, 200, donePage('Look into your mail', message));
  },
});

const isLinkInvalid = (error: unknown): boolean => error instanceof RpcError && error.code === 'FAILED_PRECONDITION';

function cookieOf(header: string | undefined): string | null {
  const pair = header?.split(';').find((part) => part.trim().startsWith(`${cookie}=`));
  const value = pair?.trim().slice(cookie.length + 1);
  return value && /^[\w-]{32}$/.test(value) ? value : null;
}
