import { randomBytes } from 'node:crypto';
import { emailProblem } from '@armature/proto/email.ts';
import { IdentityErrorReason } from '@armature/proto/identity/v1/contract.ts';
import { type Background, type CallContext, type Database, RpcError, type Tx } from '@armature/runtime';
import { HttpError, type HttpReply, type HttpRequest } from '@armature/runtime/http';
import type { Accounts } from './accounts.ts';
import type { MailPurpose } from './mail-token.ts';
import { newPasswordHash, requireStrongPassword } from './new-password.ts';
import {
  donePage,
  forgotPasswordPage,
  linkInvalidPage,
  resetPasswordPage,
  tooManyAttempts,
  undoEmailChangePage,
  verifyEmailPage,
} from './pages.ts';
import type { Passwords } from './passwords.ts';
import type { Sealing } from './sealing.ts';
import type { Page } from './site.ts';
import type { Verification } from './verification.ts';
import { formOf, fromOurPages, sendPage } from './web.ts';

const cookie = '__Host-form';
/** The longest wait of an attempt, the longest wait for a hash, and a reserve. */
const timeoutMs = 25_000;

interface LandingParts {
  db: Database;
  accounts: Accounts;
  passwords: Passwords;
  verification: Verification;
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
    '/undo-email-change': undoEmailChange(parts),
    '/forgot-password': forgotPassword(parts),
  };
}

const proven = (value: string): string => `form\0${value}`;

/** The fields of a new form. Binds the form to the browser that shows it. */
function blank({ sealing }: LandingParts, action: string, request: HttpRequest, reply: HttpReply) {
  const known = cookieOf(request.headers.cookie);
  const value = known ?? randomBytes(24).toString('base64url');
  if (!known) reply.header('Set-Cookie', `${cookie}=${value}; Path=/; Secure; HttpOnly; SameSite=Strict`);
  return { action, csrf: sealing.sign(proven(value)), problem: null };
}

/** The fields of a form that this browser was shown. Throws an HttpError 403 for another form. */
function received({ sealing }: LandingParts, request: HttpRequest): URLSearchParams {
  fromOurPages(request);
  const form = formOf(request);
  const value = cookieOf(request.headers.cookie);
  if (!value || !sealing.verifies(proven(value), form.get('csrf') ?? '')) throw new HttpError(403, 'form_invalid');
  return form;
}

/** Runs work in a call of this name. */
async function during<T>({ background }: LandingParts, name: string, work: (call: CallContext) => Promise<T>) {
  const call = background(name, timeoutMs);
  try {
    return await work(call);
  } finally {
    call.close();
  }
}

/**
 * Responds to the form of a link: runs `work`, and shows the form again with what is wrong with it, or that the link is
 * not valid.
 */
async function submit(
  reply: HttpReply,
  { work, done, again }: { work: () => Promise<void>; done: string; again: (problem: string) => Promise<string> },
): Promise<HttpReply> {
  try {
    await work();
  } catch (error) {
    if (!(error instanceof RpcError)) throw error;
    if (error.code === 'FAILED_PRECONDITION') return sendPage(reply, 400, linkInvalidPage());
    const problem = problemOf(error);
    if (problem === null) throw error;
    const wait = waitOf(error);
    if (wait !== null) reply.header('Retry-After', wait);
    return sendPage(reply, wait === null ? 400 : 429, await again(problem));
  }
  return sendPage(reply, 200, done);
}

/** After how many seconds the next attempt is possible; null for another error. */
const waitOf = ({ reason, details }: RpcError): number | null =>
  reason === IdentityErrorReason.ATTEMPT_TOO_SOON ? Math.ceil((details.retryDelayMs ?? 1_000) / 1_000) : null;

/** What is wrong with a password, as a sentence for its owner; null for other errors. */
function problemOf(error: RpcError): string | null {
  const { code, reason, details } = error;
  if (waitOf(error) !== null) return tooManyAttempts(waitOf(error) ?? 0);
  if (reason === IdentityErrorReason.PASSWORD_WRONG) return 'That is not the password of the account.';
  const rule = code === 'INVALID_ARGUMENT' ? details.fieldViolations?.[0]?.description : undefined;
  return rule === undefined ? null : `This password ${rule}. Choose another one.`;
}

const tokenOf = ({ query }: HttpRequest): string => String((query as Record<string, unknown>).token ?? '');

const verifyEmail = (parts: LandingParts): Page => ({
  async GET(request, reply) {
    const token = tokenOf(request);
    const kind = await parts.verification.kindOf(token);
    if (!kind) return sendPage(reply, 400, linkInvalidPage());
    return sendPage(reply, 200, verifyEmailPage({ ...blank(parts, '/verify-email', request, reply), token, kind }));
  },
  async POST(request, reply) {
    const form = blank(parts, '/verify-email', request, reply);
    const sent = received(parts, request);
    const [token, password] = [sent.get('token') ?? '', sent.get('password') ?? ''];
    return submit(reply, {
      done: donePage('Verified', 'This address is yours. You may sign in with it now.'),
      work: () =>
        during(parts, 'verify email', async (call) => {
          const proof = await parts.verification.prove({ token, password }, call);
          await parts.db.transaction(call, (tx) => parts.accounts.verifyEmail(tx, token, proof));
        }),
      async again(problem) {
        const kind = await parts.verification.kindOf(token);
        return kind ? verifyEmailPage({ ...form, problem, token, kind }) : linkInvalidPage();
      },
    });
  },
});

/** The page of a link that sets a new password, and more that belongs to its purpose. */
const newPassword = (
  parts: LandingParts,
  {
    path,
    name,
    purpose,
    page,
    done,
    effect,
  }: {
    path: string;
    name: string;
    purpose: MailPurpose;
    page: typeof resetPasswordPage;
    done: string;
    effect: (tx: Tx, token: string, passwordHash: string) => Promise<void>;
  },
): Page => ({
  async GET(request, reply) {
    return sendPage(reply, 200, page({ ...blank(parts, path, request, reply), token: tokenOf(request) }));
  },
  async POST(request, reply) {
    const form = blank(parts, path, request, reply);
    const sent = received(parts, request);
    const token = sent.get('token') ?? '';
    return submit(reply, {
      done,
      async work() {
        const [password, field] = [sent.get('password') ?? '', 'password'];
        await requireStrongPassword(password, { field });
        await during(parts, name, async (call) => {
          await parts.db.read(call, (sql) => parts.accounts.requireLink(sql, purpose, token));
          const passwordHash = await newPasswordHash(parts.passwords, password, { use: 'replacement', field });
          await parts.db.transaction(call, (tx) => effect(tx, token, passwordHash));
        });
      },
      again: async (problem) => page({ ...form, problem, token }),
    });
  },
});

const resetPassword = (parts: LandingParts): Page =>
  newPassword(parts, {
    path: '/reset-password',
    name: 'reset password',
    purpose: 'reset_password',
    page: resetPasswordPage,
    done: donePage('Your password is set', 'You may sign in with it now.'),
    effect: (tx, token, passwordHash) => parts.accounts.resetPassword(tx, token, passwordHash),
  });

const undoEmailChange = (parts: LandingParts): Page =>
  newPassword(parts, {
    path: '/undo-email-change',
    name: 'undo email change',
    purpose: 'address_changing',
    page: undoEmailChangePage,
    done: donePage('The change is undone', 'Your account has this address again. Sign in with your new password.'),
    effect: (tx, token, passwordHash) => parts.accounts.undoEmailChange(tx, token, passwordHash),
  });

const forgotPassword = (parts: LandingParts): Page => ({
  async GET(request, reply) {
    return sendPage(reply, 200, forgotPasswordPage(blank(parts, '/forgot-password', request, reply)));
  },
  async POST(request, reply) {
    const form = blank(parts, '/forgot-password', request, reply);
    const email = received(parts, request).get('email') ?? '';
    const wrong = emailProblem(email);
    if (wrong) {
      return sendPage(reply, 400, forgotPasswordPage({ ...form, problem: `The email address ${wrong}.` }));
    }
    await during(parts, 'forgot password', (call) =>
      parts.db.transaction(call, (tx) => parts.accounts.requestReset(tx, email)),
    );
    const message = 'If there is an account with this address, a link is on its way to it.';
    return sendPage(reply, 200, donePage('Look into your mail', message));
  },
});

function cookieOf(header: string | undefined): string | null {
  const pair = header?.split(';').find((part) => part.trim().startsWith(`${cookie}=`));
  const value = pair?.trim().slice(cookie.length + 1);
  return value && /^[\w-]{32}$/.test(value) ? value : null;
}
