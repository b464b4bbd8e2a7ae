import * as oauth from 'openid-client';
import { browser, formWith } from './browser.ts';
import { textOf } from './html.ts';
import type { Https } from './https.ts';

/** An access token and when it ends. */
export interface IssuedToken {
  token: string;
  /** Milliseconds since 1970. */
  expiresAt: number;
}

/** A person, and the program that they sign in to. */
export interface PersonSigningIn {
  issuer: string;
  https: Https;
  clientId: string;
  /** The program's own loopback address. Nothing listens there: this program is browser and listener in one. */
  redirectUri: string;
  email: string;
  password: string;
}

/** Signs a person in: authorization code with PKCE, through the pages that they would see. */
export async function signInPerson(signing: PersonSigningIn): Promise<IssuedToken> {
  const { issuer, https, clientId, redirectUri, email, password } = signing;
  const config = await discover(issuer, https, clientId, oauth.None());
  const [verifier, state] = [oauth.randomPKCECodeVerifier(), oauth.randomState()];
  const window = browser(https, redirectUri);
  const asked = await window.open(
    oauth.buildAuthorizationUrl(config, {
      redirect_uri: redirectUri,
      scope: 'openid',
      state,
      code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
      code_challenge_method: 'S256',
    }),
  );
  const { page, form } = formWith(asked, 'password');
  const response = await window.submit(page, form, { email, password });
  if (response.kind === 'page') {
    throw new Error(`${issuer} does not let ${email} in (${response.status}): ${textOf(response.html)}`);
  }
  return issued(
    await oauth.authorizationCodeGrant(config, response.url, { pkceCodeVerifier: verifier, expectedState: state }),
  );
}

/** A program, and the private key whose public half its account has. */
export interface ProgramSigningIn {
  issuer: string;
  https: Https;
  clientId: string;
  key: oauth.CryptoKey;
}

/** Signs a program in: client credentials, by an assertion that it signs. */
export async function signInProgram({ issuer, https, clientId, key }: ProgramSigningIn): Promise<IssuedToken> {
  const config = await discover(issuer, https, clientId, oauth.PrivateKeyJwt(key));
  return issued(await oauth.clientCredentialsGrant(config));
}

function discover(
  issuer: string,
  https: Https,
  clientId: string,
  auth: oauth.ClientAuth,
): Promise<oauth.Configuration> {
  const fetchThere: oauth.CustomFetch = (url, { method, headers, body }) =>
    https(url, { method, headers, body: body === undefined || body === null ? undefined : String(body) });
  return oauth.discovery(new URL(issuer), clientId, undefined, auth, { [oauth.customFetch]: fetchThere });
}

function issued(response: oauth.TokenEndpointResponse & oauth.TokenEndpointResponseHelpers): IssuedToken {
  const seconds = response.expiresIn();
  if (seconds === undefined) throw new Error('the token that was issued does not say when it ends');
  return { token: response.access_token, expiresAt: Date.now() + seconds * 1000 };
}
