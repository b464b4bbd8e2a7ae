import {
  createHmac,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type JsonWebKey,
  type KeyObject,
  randomBytes,
  sign,
} from 'node:crypto';
import { readFileSync } from 'node:fs';
import { tokenAudience, tokenFiles, tokenIssuer } from '../support/token.ts';

export interface TokenRow {
  name: string;
  /** Every value of the authorization header, made anew for each call because some depend on the time. */
  authorization(): string | string[];
}

/** Claims or header fields to change in a valid token; undefined removes one. */
type Parts = Record<string, unknown>;

const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url');
export const bearer = (token: string) => `Bearer ${token}`;
const nowSeconds = () => Math.floor(Date.now() / 1000);

/** Makes tokens with the tests' own key, including invalid ones that no library would make. */
export function openForge(state: { dir: string }) {
  const jwk = JSON.parse(readFileSync(tokenFiles(state).key, 'utf8')) as JsonWebKey & { kid: string };
  const privateKey = createPrivateKey({ key: jwk, format: 'jwk' });
  const publicKey = createPublicKey(privateKey);
  const es256 = (input: string, key: KeyObject = privateKey) =>
    sign('sha256', Buffer.from(input), { key, dsaEncoding: 'ieee-p1363' }).toString('base64url');

  function token(claims: Parts = {}, header: Parts = {}, signature: (input: string) => string = es256): string {
    const iat = nowSeconds();
    const always = {
      iss: tokenIssuer,
      aud: tokenAudience,
      sub: 'ada',
      client_id: 'armature-tests',
      scope: 'all',
      iat,
      exp: iat + 600,
    };
    const input = `${encode({ alg: 'ES256', typ: 'at+jwt', kid: jwk.kid, ...header })}.${encode({ ...always, ...claims })}`;
    return `${input}.${signature(input)}`;
  }
  return { token, publicKey, es256 };
}

export type Forge = ReturnType<typeof openForge>;

/** Tokens that must be refused: every one must get the same response, without a cause. */
export function refusedTokens({ token, publicKey, es256 }: Forge): TokenRow[] {
  const stranger = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const byStranger = (input: string) => es256(input, stranger.privateKey);
  const strangerJwk = { ...stranger.publicKey.export({ format: 'jwk' }), kid: 'theirs' };
  const soon = (seconds: number) => nowSeconds() + seconds;
  const row = (name: string, make: () => string): TokenRow => ({ name, authorization: () => bearer(make()) });
  const header = (name: string, authorization: () => string | string[]): TokenRow => ({ name, authorization });
  return [
    row('alg none, without a signature', () => token({}, { alg: 'none' }, () => '')),
    row('alg NoNe', () => token({}, { alg: 'NoNe' }, () => '')),
    row('ES256 without a signature', () => token({}, {}, () => '')),
    row('a signature of zeroes', () => token({}, {}, () => Buffer.alloc(64).toString('base64url'))),
    ...publicForms(publicKey).map(([form, secret]) =>
      row(`HS256 with the public key as its secret, ${form}`, () =>
        token({}, { alg: 'HS256' }, (input) => createHmac('sha256', secret).update(input).digest('base64url')),
      ),
    ),
    row('a signature of another key', () => token({}, {}, byStranger)),
    row('jku', () => token({}, { jku: 'https://evil.example/jwks', kid: 'theirs' }, byStranger)),
    row('x5u', () => token({}, { x5u: 'https://evil.example/certificate' }, byStranger)),
    row('x5c', () => token({}, { x5c: ['AAAA'] }, byStranger)),
    row('jwk', () => token({}, { jwk: strangerJwk, kid: 'theirs' }, byStranger)),
    row('crit', () => token({}, { crit: ['exp'], exp: 1 })),
    row('an unknown header field', () => token({}, { zip: 'DEF' })),
    row('no key id', () => token({}, { kid: undefined })),
    row('an unknown key id', () => token({}, { kid: 'unknown' })),
    row('a key id that is a path', () => token({}, { kid: '../../etc/passwd' })),
    row('another audience', () => token({ aud: 'billing' })),
    row('an array of audiences', () => token({ aud: [tokenAudience, 'billing'] })),
    row('an array of our audience alone', () => token({ aud: [tokenAudience] })),
    row('no audience', () => token({ aud: undefined })),
    row('another issuer', () => token({ iss: 'https://evil.example' })),
    row('our issuer with a slash', () => token({ iss: `${tokenIssuer}/` })),
    row('an ID token', () => token({ nonce: 'n', aud: 'armature-cli' }, { typ: 'JWT' })),
    row('an ID token for our audience', () => token({ nonce: 'n' }, { typ: 'JWT' })),
    row('no type', () => token({}, { typ: undefined })),
    row('AT+JWT', () => token({}, { typ: 'AT+JWT' })),
    row('expired by 6 s', () => token({ exp: soon(-6) })),
    row('no expiry', () => token({ exp: undefined })),
    row('an expiry that is a text', () => token({ exp: String(soon(600)) })),
    row('valid from a minute on', () => token({ nbf: soon(60) })),
    row('issued in a minute', () => token({ iat: soon(60) })),
    row('no time of issue', () => token({ iat: undefined })),
    row('no subject', () => token({ sub: undefined })),
    row('no client', () => token({ client_id: undefined })),
    ...['', 'role:admin', 'ada bo', 'ada\n', 'Ada', '../admin', 'ada\u0000', 'äda', '*', 'a'.repeat(65)].map((sub) =>
      row(`the subject ${JSON.stringify(sub)}`, () => token({ sub })),
    ),
    row('a subject that is a list', () => token({ sub: ['ada'] })),
    row('a changed claim', () => {
      const [head, , signature] = token().split('.');
      return `${head}.${token({ sub: 'admin' }).split('.')[1]}.${signature}`;
    }),
    row('two parts', () => token().split('.').slice(0, 2).join('.')),
    row('four parts', () => `${token()}.${token().split('.')[2]}`),
    row('random characters', () => randomBytes(300).toString('base64url')),
    row('characters that are no Base64', () => token().replaceAll('.', '~.')),
    header('nothing', () => ''),
    header('a scheme alone', () => 'Bearer'),
    header('two spaces before the token', () => `Bearer  ${token()}`),
    header('a tab before the token', () => `Bearer\t${token()}`),
    header('a space in the token', () => bearer(token().replace('.', ' .'))),
    header('the token without a scheme', () => token()),
    header('another scheme', () => `Basic ${Buffer.from('ada:hunter2').toString('base64')}`),
    header('DPoP', () => `DPoP ${token()}`),
    header('two tokens in one header', () => `${bearer(token())}, ${bearer(token())}`),
    header('two headers, both of them good', () => [bearer(token()), bearer(token())]),
    header('two headers, the second one bad', () => [bearer(token()), bearer('x')]),
    header('two headers, the first one bad', () => [bearer('x'), bearer(token())]),
    header('the key in quotes', () => `Bearer "${token()}"`),
  ];
}

/** Public forms of the key that implementations have wrongly accepted as a shared secret. */
function publicForms(publicKey: KeyObject): [string, string | Buffer][] {
  const { x = '', y = '', ...jwk } = publicKey.export({ format: 'jwk' });
  return [
    ['as PEM', publicKey.export({ format: 'pem', type: 'spki' })],
    ['as DER', publicKey.export({ format: 'der', type: 'spki' })],
    ['as JWK', JSON.stringify({ ...jwk, x, y })],
    ['as a point', Buffer.concat([Buffer.from(x, 'base64url'), Buffer.from(y, 'base64url')])],
  ];
}

/**
 * HTTP/2 forbids values that begin or end with a space, and Node's library drops such a header silently. The call is
 * then a call without a token, and has the permissions of its workload.
 */
export function vanishingTokens({ token }: Forge): TokenRow[] {
  return [
    { name: 'a scheme and a space', authorization: () => 'Bearer ' },
    { name: 'a space behind the token', authorization: () => `${bearer(token())} ` },
    { name: 'a space before the scheme', authorization: () => ` ${bearer(token())}` },
  ];
}

/** Tokens that must be accepted. */
export function acceptedTokens({ token }: Forge): TokenRow[] {
  const soon = (seconds: number) => nowSeconds() + seconds;
  return [
    { name: 'an access token', authorization: () => bearer(token()) },
    { name: 'expired by 4 s', authorization: () => bearer(token({ exp: soon(-4) })) },
    { name: 'issued 4 s ahead of our clock', authorization: () => bearer(token({ iat: soon(4) })) },
    { name: 'valid from 4 s ahead of our clock', authorization: () => bearer(token({ nbf: soon(4) })) },
    { name: 'bearer in lower case', authorization: () => `bearer ${token()}` },
    { name: 'BEARER in upper case', authorization: () => `BEARER ${token()}` },
    { name: 'unknown claims', authorization: () => bearer(token({ groups: ['admin'] })) },
    { name: 'a scope of several words', authorization: () => bearer(token({ scope: 'openid inventory.read' })) },
  ];
}
