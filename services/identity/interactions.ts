import { timingSafeEqual } from 'node:crypto';
import { errors, type Interaction, type Provider } from 'oidc-provider';
import { consentPage, loginPage } from './pages.ts';
import { allow } from './provider.ts';
import type { Sealing } from './sealing.ts';
import type { SignIn } from './sign-in.ts';
import { type Exchange, fromOurPages, type Page, PageError, readForm, redirect, secure, sendPage } from './web.ts';

const route = /^\/interaction\/([\w-]{1,64})(\/abort)?$/;
const wrong = 'That address and password do not belong together, or the account is closed or not verified yet.';

/** The pages between an authorization request and its answer: signing in, and letting a program in. */
export function interactions(parts: { provider: () => Promise<Provider>; signIn: SignIn; sealing: Sealing }): Page {
  const { sealing, signIn } = parts;
  const csrfOf = (uid: string) => sealing.sign(`interaction\0${uid}`);

  async function show(
    exchange: Exchange,
    provider: Provider,
    interaction: Interaction,
    again?: { problem: string; email: string },
  ) {
    const { response } = exchange;
    const client = await provider.Client.find(String(interaction.params.client_id));
    const form = {
      action: `/interaction/${interaction.uid}`,
      csrf: csrfOf(interaction.uid),
      problem: again?.problem ?? null,
    };
    const name = client?.clientName ?? client?.clientId ?? '';
    // Browsers hold the redirect that follows a form against the policy of its page.
    secure(response, `'self' ${originOf(interaction.params.redirect_uri)}`);
    const known = again?.email ?? interaction.params.login_hint;
    const text =
      interaction.prompt.name === 'login'
        ? loginPage({ ...form, client: name, email: typeof known === 'string' ? known : '' })
        : consentPage({ ...form, client: name, scopes: String(interaction.params.scope ?? '').split(' ') });
    sendPage(response, again ? 401 : 200, text);
  }

  async function submit(exchange: Exchange, provider: Provider, interaction: Interaction, abort: boolean) {
    const { request, response, source } = exchange;
    const form = await readForm(exchange);
    if (!same(form.get('csrf') ?? '', csrfOf(interaction.uid))) throw new PageError(403, 'form_invalid');
    let result: Record<string, unknown>;
    if (abort) {
      result = { error: 'access_denied', error_description: 'the person said no' };
    } else if (interaction.prompt.name === 'login') {
      const [email, password] = [form.get('email') ?? '', form.get('password') ?? ''];
      const possible = email.length <= 254 && [...password].length <= 128;
      const clientId = String(interaction.params.client_id);
      const outcome = possible ? await signIn({ email, password, source, clientId }) : { kind: 'refused' as const };
      if (outcome.kind === 'refused')
        return show(exchange, provider, interaction, { problem: wrong, email: email.slice(0, 254) });
      result = { login: { accountId: outcome.userId, amr: ['pwd'] } };
    } else {
      result = { consent: { grantId: await grantOf(provider, interaction) } };
    }
    const merge = { mergeWithLastSubmission: interaction.prompt.name !== 'login' };
    redirect(response, await provider.interactionResult(request, response, result, merge));
  }

  return async (exchange) => {
    const [, uid, abort] = route.exec(exchange.url.pathname) ?? [];
    if (!uid) throw new PageError(404, 'not_found');
    // A request keeps the provider that it began with, also while keys change.
    const provider = await parts.provider();
    const interaction = await provider.interactionDetails(exchange.request, exchange.response).catch((error) => {
      throw error instanceof errors.SessionNotFound ? new PageError(400, 'session_expired') : error;
    });
    if (interaction.uid !== uid) throw new PageError(400, 'session_expired');
    if (exchange.request.method === 'POST') {
      fromOurPages(exchange);
      return submit(exchange, provider, interaction, abort !== undefined);
    }
    return show(exchange, provider, interaction);
  };
}

/** The grant of what the person has just agreed to. */
async function grantOf(provider: Provider, interaction: Interaction): Promise<string> {
  const clientId = String(interaction.params.client_id);
  const accountId = interaction.session?.accountId;
  if (!accountId) throw new PageError(400, 'session_expired');
  const existing = interaction.grantId ? await provider.Grant.find(interaction.grantId) : undefined;
  const grant = existing ?? new provider.Grant({ accountId, clientId });
  allow(grant, String(interaction.params.scope ?? ''));
  return grant.save();
}

/** As a source for a policy: the origin of a web address, else the scheme of a program on somebody's machine. */
function originOf(redirectUri: unknown): string {
  const url = URL.parse(String(redirectUri));
  if (!url) return '';
  return url.protocol === 'https:' || url.protocol === 'http:' ? url.origin : url.protocol;
}

function same(given: string, expected: string): boolean {
  const [a, b] = [Buffer.from(given), Buffer.from(expected)];
  return a.length === b.length && timingSafeEqual(a, b);
}
