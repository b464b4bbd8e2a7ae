import type { VerificationKind } from './verification.ts';

/** HTML that is safe to put into a page. Only `html` makes it. */
export class Html {
  readonly text: string;
  constructor(text: string) {
    this.text = text;
  }
}

type Part = string | number | Html | null | false | readonly Html[];

const entities: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };
const escaped = (text: string) => text.replace(/[&<>"']/g, (character) => entities[character] ?? '');

function shown(part: Part): string {
  if (part === null || part === false) return '';
  if (part instanceof Html) return part.text;
  if (typeof part === 'object') return part.map(shown).join('');
  return escaped(String(part));
}

/** A template whose values are escaped, unless they are HTML themselves. */
export function html(strings: TemplateStringsArray, ...parts: Part[]): Html {
  return new Html(strings.reduce((text, string, index) => `${text}${shown(parts[index - 1] ?? null)}${string}`));
}

/** A whole page. Everything that is shown to people here is made by this, without a script. */
function page(title: string, content: Html): string {
  return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="robots" content="noindex">
<title>${title} – Armature</title>
<link rel="stylesheet" href="/style.css">
</head>
<body>
<main>
<p class="brand">Armature</p>
<h1>${title}</h1>
${content}
</main>
</body>
</html>
`.text;
}

/** What went wrong, where readers and screen readers find it first. */
const alert = (message: string | null) =>
  message === null ? null : html`<p class="alert" role="alert" id="problem">${message}</p>`;

const describedBy = (problem: string | null) =>
  problem === null ? null : html` aria-invalid="true" aria-describedby="problem"`;

const hidden = (name: string, value: string) => html`<input type="hidden" name="${name}" value="${value}">`;

export interface FormPage {
  action: string;
  /** Proves that the form came from us to this browser. */
  csrf: string;
  problem: string | null;
}

export function loginPage(form: FormPage & { client: string; email: string }): string {
  const { problem } = form;
  return page(
    'Sign in',
    html`<p>to go on to <strong>${form.client}</strong></p>
${alert(problem)}
<form method="post" action="${form.action}">
${hidden('csrf', form.csrf)}
<label for="email">Email address</label>
<input id="email" name="email" type="email" value="${form.email}" autocomplete="username" maxlength="254" required${form.email ? null : html` autofocus`}${describedBy(problem)}>
<label for="password">Password</label>
<input id="password" name="password" type="password" autocomplete="current-password" maxlength="128" required${form.email ? html` autofocus` : null}${describedBy(problem)}>
<button type="submit">Sign in</button>
</form>
<form method="post" action="${form.action}/abort">
${hidden('csrf', form.csrf)}
<button type="submit" class="quiet">Cancel</button>
</form>
<p class="small"><a href="/forgot-password">Forgot your password?</a></p>`,
  );
}

const scopeNames: Record<string, string> = {
  openid: 'Know that it is you',
  email: 'See your email address',
  profile: 'See your name',
  all: 'Do everything that you may do',
};

export function consentPage(form: FormPage & { client: string; scopes: readonly string[] }): string {
  return page(
    'Let this program in?',
    html`<p><strong>${form.client}</strong> wants to act for you at the shop, and to:</p>
<ul>${form.scopes.map((scope) => html`<li>${scopeNames[scope] ?? scope}</li>`)}</ul>
${alert(form.problem)}
<form method="post" action="${form.action}">
${hidden('csrf', form.csrf)}
<button type="submit">Allow</button>
</form>
<form method="post" action="${form.action}/abort">
${hidden('csrf', form.csrf)}
<button type="submit" class="quiet">Do not allow</button>
</form>`,
  );
}

export function verifyEmailPage(form: FormPage & { token: string; kind: VerificationKind }): string {
  const chosen = form.kind === 'registration';
  return page(
    'Verify your address',
    html`${alert(form.problem)}
<form method="post" action="${form.action}">
${hidden('csrf', form.csrf)}${hidden('token', form.token)}
<p>One more step: this address is mine, and I want to use it here.</p>
${chosen ? newPasswordField('Your password', form.problem, 'You sign in with this password from now on. It has 8 to 128 characters and is not easy to guess.') : currentPasswordField(form.problem)}
<button type="submit">Verify my address</button>
</form>`,
  );
}

const newPasswordField = (
  label: string,
  problem: string | null,
  rule: string,
) => html`<label for="password">${label}</label>
<input id="password" name="password" type="password" autocomplete="new-password" minlength="8" maxlength="128" required autofocus aria-describedby="rule${problem === null ? '' : ' problem'}">
<p class="small" id="rule">${rule}</p>`;

const currentPasswordField = (problem: string | null) => html`<label for="password">The password of your account</label>
<input id="password" name="password" type="password" autocomplete="current-password" maxlength="128" required autofocus${describedBy(problem)}>`;

const newPasswordRule = '8 to 128 characters, and not easy to guess. You will be signed out everywhere.';

export function resetPasswordPage(form: FormPage & { token: string }): string {
  return page(
    'Choose a new password',
    html`${alert(form.problem)}
<form method="post" action="${form.action}">
${hidden('csrf', form.csrf)}${hidden('token', form.token)}
${newPasswordField('New password', form.problem, newPasswordRule)}
<button type="submit">Set the password</button>
</form>`,
  );
}

export function undoEmailChangePage(form: FormPage & { token: string }): string {
  return page(
    'Undo the change of your address',
    html`${alert(form.problem)}
<form method="post" action="${form.action}">
${hidden('csrf', form.csrf)}${hidden('token', form.token)}
<p>Your account returns to this address. Changes of the address that were made later are undone as well.</p>
${newPasswordField('New password', form.problem, newPasswordRule)}
<button type="submit">Undo the change</button>
</form>`,
  );
}

export const linkInvalidPage = (): string =>
  page('That did not work', html`<p role="alert">This link does not work, or no longer. Ask for a new one.</p>`);

export function forgotPasswordPage(form: FormPage): string {
  return page(
    'Forgot your password?',
    html`${alert(form.problem)}
<p>We mail you a link with which you can choose a new one.</p>
<form method="post" action="${form.action}">
${hidden('csrf', form.csrf)}
<label for="email">Email address</label>
<input id="email" name="email" type="email" autocomplete="username" maxlength="254" required autofocus${describedBy(form.problem)}>
<button type="submit">Send me a link</button>
</form>`,
  );
}

/** The problem of an attempt that is refused without being compared. */
export const tooManyAttempts = (seconds: number): string =>
  `There were too many attempts with a wrong password. Wait ${seconds === 1 ? '1 second' : `${seconds} seconds`} and try again.`;

export const donePage = (title: string, message: string): string => page(title, html`<p role="status">${message}</p>`);

/** The provider brings the form itself; its buttons belong to it by their attribute. */
export function logoutPage(form: string): string {
  return page(
    'Sign out?',
    html`<p>You are signed in at the shop.</p>
${new Html(form)}
<button type="submit" form="op.logoutForm" name="logout" value="yes" autofocus>Sign out</button>
<button type="submit" form="op.logoutForm" class="quiet">Stay signed in</button>`,
  );
}

export const signedOutPage = (): string => donePage('Signed out', 'You are signed out. You may close this page.');

const explanations: Record<string, string> = {
  invalid_redirect_uri: 'The program that sent you here gave an address for the way back that is not one of its own.',
  invalid_client: 'The program that sent you here is not known here.',
  server_error: 'This is our fault. Please try again in a moment.',
  temporarily_unavailable: 'Too many people are signing in right now. Please try again in a moment.',
  session_expired: 'This sign-in has taken too long, or was begun in another window. Go back and begin again.',
  form_invalid: 'This page was not sent by us, or is too old. Go back and begin again.',
};

/** `error` is OAuth's name of it, which programs that brought the person here know. */
export function errorPage(error: string): string {
  return page(
    'That did not work',
    html`<p role="alert">${explanations[error] ?? 'The program that sent you here asked for something that is not possible.'}</p>
<p class="small">Reason: <code>${error}</code></p>`,
  );
}
