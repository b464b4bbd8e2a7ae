import { isInScope } from '@armature/runtime/context';
import {
  type Adapter,
  type Client,
  type Context,
  errors,
  type Grant,
  interactionPolicy,
  type Payload,
  Provider,
  type Token,
} from 'oidc-provider';
import type { SigningKey } from './key-store.ts';
import { errorPage, logoutPage, signedOutPage } from './pages.ts';
import { issuedScope, openidScopes, permissionWordsOf, registeredScope, scopesOf } from './scopes.ts';

/** What access tokens are for. As a resource indicator it must be a URI; as an audience it is just "armature". */
const resource = 'urn:armature';
const audience = 'armature';

const hourS = 3_600;
const dayS = 24 * hourS;

export interface ProviderParts {
  issuer: string;
  keys: readonly SigningKey[];
  cookieKeys: readonly string[];
  adapter: (model: string) => Adapter;
  accessTokenS: number;
  codeS: number;
  /** The refresh token that follows another one, always the same; it cannot be computed without the secret. */
  successorOf(refreshToken: string): string;
  /** Whether a person may be signed in, now. */
  isActive(userId: string): Promise<boolean>;
  /** What an ID token says of a person. */
  claims(userId: string): Promise<Record<string, unknown>>;
  /** Keeps what is needed to look a signed access token up again. */
  remember(token: Token, times: { iat: number; exp: number }): Promise<void>;
  /** Something is wrong on our side; the other end learns only that. */
  failed(error: unknown): void;
}

/**
 * The OpenID provider of one set of signing keys: authorization code with PKCE, refresh tokens that rotate, and client
 * credentials by signed assertion. Everything it remembers is in the adapter, so that one instance can take over from
 * another in the middle of a sign-in.
 */
export function openProvider(parts: ProviderParts): Provider {
  const provider = new Provider(parts.issuer, {
    adapter: parts.adapter,
    jwks: { keys: jwksOf(parts.keys) },
    cookies: {
      keys: parts.cookieKeys,
      names: { session: '__Host-session', interaction: 'interaction', resume: 'resume' },
      long: { httpOnly: true, secure: true, sameSite: 'lax', signed: true, path: '/' },
      short: { httpOnly: true, secure: true, sameSite: 'lax', signed: true },
    },
    clients: [],
    clientDefaults: {
      grant_types: ['authorization_code', 'refresh_token'],
      id_token_signed_response_alg: 'ES256',
      response_types: ['code'],
      token_endpoint_auth_method: 'none',
    },
    clientAuthMethods: ['none', 'private_key_jwt'],
    enabledJWA: {
      idTokenSigningAlgValues: ['ES256'],
      clientAuthSigningAlgValues: ['ES256'],
    },
    extraClientMetadata: { properties: ['first_party', 'permission_scopes'] },
    responseTypes: ['code'],
    scopes: openidScopes,
    claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['name'] },
    subjectTypes: ['public'],
    conformIdTokenClaims: false,
    clockTolerance: 5,
    pkce: { required: () => true },
    allowOmittingSingleRegisteredRedirectUri: false,
    enableHttpPostMethods: false,
    // Each use of a refresh token replaces it. One that is used again later was stolen, and ends the whole grant.
    rotateRefreshToken: true,
    issueRefreshToken: async (_context: Context, client: Client) => client.grantTypeAllowed('refresh_token'),
    expiresWithSession: async () => true,
    features: features(parts),
    formats: {
      customizers: {
        jwt(context: Context, token: Token, signed: { payload: Payload & { iat: number; exp: number } }) {
          const { client, entities, params } = context.oidc;
          const source = entities.AuthorizationCode ?? entities.RefreshToken;
          signed.payload.auth_time = source?.authTime;
          // The response of the endpoint says the scope of the token, too.
          if (client)
            token.scope = signed.payload.scope = issuedScope(client, source?.scope ?? params?.scope, token.scope);
          return parts.remember(token, signed.payload);
        },
      },
    },
    interactions: { policy: policy(), url: (_context: Context, { uid }: { uid: string }) => `/interaction/${uid}` },
    loadExistingGrant,
    async findAccount(_context: Context, userId: string) {
      if (!(await parts.isActive(userId))) return undefined;
      return { accountId: userId, claims: async () => ({ sub: userId, ...(await parts.claims(userId)) }) };
    },
    renderError: async (context: Context, { error }: { error: string }) => {
      context.type = 'html';
      context.body = errorPage(error);
    },
    ttl: {
      AccessToken: () => parts.accessTokenS,
      ClientCredentials: () => parts.accessTokenS,
      AuthorizationCode: () => parts.codeS,
      IdToken: () => hourS,
      RefreshToken: () => 30 * dayS,
      Interaction: () => hourS,
      Session: () => 30 * dayS,
      Grant: () => 30 * dayS,
    },
  });
  chainRefreshTokens(provider, parts.successorOf);
  provider.on('server_error', ((_context: Context, error: unknown) => parts.failed(error)) as never);
  return provider;
}

/**
 * Derives each refresh token from the one that it replaces. Requests that use one token at the same time, or again
 * because a response was lost, so get the same successor, and a family has one current token (ADR 0049). The library
 * has no setting for ids of tokens; it asks the model.
 */
function chainRefreshTokens(provider: Provider, successorOf: ProviderParts['successorOf']): void {
  const { prototype } = provider.RefreshToken;
  const randomId = prototype.generateTokenId;
  prototype.generateTokenId = function (this: Token) {
    const replaced = Provider.ctx?.oidc.entities.RotatedRefreshToken;
    return replaced ? successorOf(replaced.jti) : randomId.call(this);
  };
}

/** The key that signs comes first; the others are there to be published, and to verify with. */
function jwksOf(keys: readonly SigningKey[]) {
  const signing = keys.filter(({ phase }) => phase === 'current');
  const others = keys.filter(({ phase }) => phase !== 'current');
  return [...signing, ...others].map(({ privateJwk }) => privateJwk);
}

function features(parts: ProviderParts) {
  const kid = parts.keys.find(({ phase }) => phase === 'current')?.kid;
  return {
    devInteractions: { enabled: false },
    dPoP: { enabled: false },
    pushedAuthorizationRequests: { enabled: false },
    userinfo: { enabled: false },
    clientCredentials: { enabled: true },
    revocation: { enabled: true, allowedPolicy: mayRevoke },
    introspection: { enabled: true, allowedPolicy: mayIntrospect },
    rpInitiatedLogout: { enabled: true, logoutSource, postLogoutSuccessSource },
    resourceIndicators: {
      enabled: true,
      defaultResource: async () => resource,
      useGrantedResource: async () => true,
      async getResourceServerInfo(context: Context, wanted: string, client: Client) {
        if (wanted !== resource) throw new errors.InvalidTarget();
        const registered = registeredScope(client);
        const beyond = permissionWordsOf(context.oidc.params?.scope).find((word) => !isInScope(registered, word));
        if (beyond) throw new errors.InvalidScope('the client is not registered for this scope', beyond);
        return {
          scope: scopesOf(client).join(' '),
          audience,
          accessTokenTTL: parts.accessTokenS,
          accessTokenFormat: 'jwt',
          jwt: { sign: { alg: 'ES256', kid } },
        };
      },
    },
  };
}

/** Programs with a key of their own may ask about any token; those without, about what was issued to them. */
async function mayIntrospect(_context: Context, client: Client, token: Payload): Promise<boolean> {
  return client.clientAuthMethod !== 'none' || token.clientId === client.clientId;
}

async function mayRevoke(_context: Context, client: Client, token: Payload): Promise<boolean> {
  return token.clientId === client.clientId;
}

const isFirstParty = (client: Client | undefined): boolean => client?.first_party === true;

/** The library's order of questions. Whether to ask for consent depends on whose program it is, and on nothing else. */
function policy() {
  const { Check } = interactionPolicy;
  const prompts = interactionPolicy.base();
  const { checks } = prompts.get('consent');
  checks.remove('native_client_prompt');
  checks.add(
    new Check('third_party', 'programs of others are let in each time', 'consent_required', ({ oidc }) =>
      isFirstParty(oidc.client) || oidc.result?.consent ? Check.NO_NEED_TO_PROMPT : Check.REQUEST_PROMPT,
    ),
  );
  return prompts;
}

/** A first-party program has the grant that it asks for; others have the one that was given on the consent page. */
async function loadExistingGrant({ oidc }: Context) {
  const { client, session, provider } = oidc;
  if (!client || !session?.accountId) return undefined;
  const id = oidc.result?.consent?.grantId ?? session.grantIdFor(client.clientId);
  const existing = id ? await provider.Grant.find(id) : undefined;
  if (!isFirstParty(client)) return existing;
  const grant = existing ?? new provider.Grant({ accountId: session.accountId, clientId: client.clientId });
  allow(grant, [...oidc.requestParamOIDCScopes, ...permissionWordsOf(oidc.params?.scope)].join(' '));
  await grant.save();
  return grant;
}

/** Adds scopes to a grant: to what its ID tokens tell, and to what its access tokens say. */
export function allow(grant: Grant, scope: string): void {
  grant.addOIDCScope(scope);
  grant.addResourceScope(resource, scope);
}

async function logoutSource(context: Context, form: string): Promise<void> {
  context.body = logoutPage(form);
}

async function postLogoutSuccessSource(context: Context): Promise<void> {
  context.type = 'html';
  context.body = signedOutPage();
}
