import { parseEmail } from '@armature/proto/email.ts';
import { IdentityErrorReason } from '@armature/proto/identity/v1/contract.ts';
import { type Background, RpcError } from '@armature/runtime';
import { equalSecrets } from '@armature/runtime/credentials';
import { HttpError, type HttpReply, type HttpRequest } from '@armature/runtime/http';
import { errors, type Interaction, type Provider } from 'oidc-provider';
import { consentPage, loginPage, tooManyAttempts } from './pages.ts';
import { allow } from './provider.ts';
import type { Sealing } from './sealing.ts';
import type { SignIn, SignInOutcome } from './sign-in.ts';
import type { Page } from './site.ts';
import { formOf, formsLeadTo, fromOurPages, sendPage } from './web.ts';

const path = /^\/interaction\/([\w-]{1,64})(\/abort)?$/;
/** The longest wait of an attempt, the longest wait for a comparison, and a reserve. */
const timeoutMs = 25_000;
const wrong = 'That address and password do not belong together, or the account is closed or not verified yet.';

interface InteractionParts {
  provider: () => Promise<Provider>;
  signIn: SignIn;
  sealing: Sealing;
  background: Background;
  stopping: AbortSignal;
}

/** Attempts to sign in. Ends with the connection: a password is compared only for a client that is still connected. */
async function attempt(
  { signIn, background, stopping }: InteractionParts,
  {
    request,
    reply,
    ...entered
  }: { request: HttpRequest; reply: HttpReply } & Pick<Parameters<SignIn>[0], 'address' | 'password' | 'clientId'>,
): Promise<SignInOutcome | { kind: 'too_soon'; seconds: number }> {
  const gone = new AbortController();
  reply.raw.once('close', () => gone.abort());
  const call = background('sign in', timeoutMs);
  try {
    const signal = AbortSignal.any([gone.signal, stopping]);
    return await signIn({ ...entered, ip: request.ip, signal }, call);
  } catch (error) {
    if (!(error instanceof RpcError) || error.reason !== IdentityErrorReason.ATTEMPT_TOO_SOON) throw error;
    return { kind: 'too_soon', seconds: Math.ceil((error.details.retryDelayMs ?? 1_000) / 1_000) };
  } finally {
    call.close();
  }
}

/** The pages between an authorization request and its response: sign-in and consent. */
export function interactions(parts: InteractionParts): Page {
  const { sealing } = parts;
  const proven = (uid: string) => `interaction\0${uid}`;

  async function show(
    reply: HttpReply,
    provider: Provider,
    interaction: Interaction,
    again?: { problem: string; email: string; status: number },
  ) {
    const client = await provider.Client.find(String(interaction.params.client_id));
    const form = {
      action: `/interaction/${interaction.uid}`,
      csrf: sealing.sign(proven(interaction.uid)),
      problem: again?.problem ?? null,
    };
    const name = client?.clientName ?? client?.clientId ?? '';
    // Browsers hold the redirect that follows a form against the policy of its page.
    formsLeadTo("'self'", ...originOf(interaction.params.redirect_uri))(reply);
    const known = again?.email ?? interaction.params.login_hint;
    const text =
      interaction.prompt.name === 'login'
        ? loginPage({ ...form, client: name, email: typeof known === 'string' ? known : '' })
        : consentPage({ ...form, client: name, scopes: String(interaction.params.scope ?? '').split(' ') });
    return sendPage(reply, again?.status ?? 200, text);
  }

  async function submit(
    request: HttpRequest,
    reply: HttpReply,
    { provider, interaction, abort }: { provider: Provider; interaction: Interaction; abort: boolean },
  ) {
    const form = formOf(request);
    if (!sealing.verifies(proven(interaction.uid), form.get('csrf') ?? '')) throw new HttpError(403, 'form_invalid');
    let result: Record<string, unknown>;
    if (abort) {
      result = { error: 'access_denied', error_description: 'the person said no' };
    } else if (interaction.prompt.name === 'login') {
      const [email, password] = [form.get('email') ?? '', form.get('password') ?? ''];
      const again = (status: number, problem: string) =>
        show(reply, provider, interaction, { status, problem, email: email.slice(0, 254) });
      const parsed = parseEmail(email);
      if ('problem' in parsed) return again(400, `The email address ${parsed.problem}.`);
      if ([...password].length > 128) return again(401, wrong);
      const clientId = String(interaction.params.client_id);
      const outcome = await attempt(parts, { request, reply, address: parsed.key, password, clientId });
      if (outcome.kind === 'too_soon') {
        reply.header('Retry-After', outcome.seconds);
        return again(429, tooManyAttempts(outcome.seconds));
      }
      if (outcome.kind === 'refused') return again(401, wrong);
      result = { login: { accountId: outcome.userId, amr: ['pwd'] } };
    } else {
      result = { consent: { grantId: await grantOf(provider, interaction) } };
    }
    const merge = { mergeWithLastSubmission: interaction.prompt.name !== 'login' };
    return reply.redirect(await provider.interactionResult(request.raw, reply.raw, result, merge), 303);
  }

  /** The sign-in that a request belongs to. A request keeps the provider that it began with, also while keys change. */
  async function begun(request: HttpRequest, reply: HttpReply) {
    const [, uid, abort] = path.exec(request.url.split('?')[0] ?? '') ?? [];
    if (!uid) throw new HttpError(404, 'not_found');
    const provider = await parts.provider();
    const interaction = await provider.interactionDetails(request.raw, reply.raw).catch((error) => {
      throw error instanceof errors.SessionNotFound ? new HttpError(400, 'session_expired') : error;
    });
    if (!equalSecrets(uid, interaction.uid)) throw new HttpError(400, 'session_expired');
    return { provider, interaction, abort: abort !== undefined };
  }

  return {
    async GET(request, reply) {
      const { provider, interaction } = await begun(request, reply);
      return show(reply, provider, interaction);
    },
    async POST(request, reply) {
      const sent = await begun(request, reply);
      fromOurPages(request);
      return submit(request, reply, sent);
    },
  };
}

/** The grant of what the person has just agreed to. */
async function grantOf(provider: Provider, interaction: Interaction): Promise<string> {
  const clientId = String(interaction.params.client_id);
  const accountId = interaction.session?.accountId;
  if (!accountId) throw new HttpError(400, 'session_expired');
  const existing = interaction.grantId ? await provider.Grant.find(interaction.grantId) : undefined;
  const grant = existing ?? new provider.Grant({ accountId, clientId });
  allow(grant, String(interaction.params.scope ?? ''));
  return grant.save();
}

/** As a source for a policy: the origin of a web address, else the scheme of a program on the machine of a person. */
function originOf(redirectUri: unknown): string[] {
  const url = URL.parse(String(redirectUri));
  if (!url) return [];
  return [url.protocol === 'https:' || url.protocol === 'http:' ? url.origin : url.protocol];
}
