import { address, integer, runtimeVariables, text, url, words } from '@armature/runtime';
import { readNetworks } from './source.ts';

const seconds = (name: string, about: string, fallback: number, min = 1) =>
  integer(name, `${about}, seconds`, { min, max: 366 * 86_400, fallback });

const leastSecret = 32;

const identitySecret = text('ARMATURE_IDENTITY_SECRET', 'at least 32 random characters, the same on every instance', {
  secret: true,
});

const otherSecrets = words(
  'ARMATURE_IDENTITY_OTHER_SECRETS',
  'while the secret is replaced: its next value, and earlier ones that stored values or links may still need',
  { fallback: [], secret: true },
);

export const config = {
  ...runtimeVariables,
  identityAddress: address('ARMATURE_IDENTITY_ADDRESS', 'where to serve OpenID Connect over HTTPS', {
    fallback: '127.0.0.1:0',
  }),
  identitySecret: {
    ...identitySecret,
    parse(raw: string): string {
      if (raw.length < leastSecret) throw new Error(`is shorter than ${leastSecret} characters`);
      return raw;
    },
  },
  otherIdentitySecrets: {
    ...otherSecrets,
    parse(raw: string): readonly string[] {
      const secrets = otherSecrets.parse(raw);
      if (secrets.some((secret) => secret.length < leastSecret)) {
        throw new Error(`contains a secret of fewer than ${leastSecret} characters`);
      }
      return secrets;
    },
  },
  trustedProxies: {
    ...words(
      'ARMATURE_IDENTITY_TRUSTED_PROXIES',
      'addresses and networks of proxies in front of the HTTPS port, whose X-Forwarded-For is believed',
      { fallback: [] },
    ),
    parse: readNetworks,
  },
  bootstrapFile: text('ARMATURE_IDENTITY_BOOTSTRAP_FILE', 'accounts and clients to make where they are missing, JSON', {
    fallback: '',
  }),
  mailUrl: url('ARMATURE_MAIL_URL', 'where e-mails go: smtp://user:password@host:port or maildir:///folder', [
    'smtp',
    'smtps',
    'maildir',
  ]),
  mailFrom: text('ARMATURE_MAIL_FROM', 'sender of every e-mail', {
    fallback: 'Armature Shop <accounts@shop.armature.local>',
  }),
  accessTokenS: integer('ARMATURE_ACCESS_TOKEN_S', 'how long an access token is valid, seconds', {
    min: 1,
    max: 3_600,
    fallback: 600,
  }),
  codeS: integer('ARMATURE_AUTHORIZATION_CODE_S', 'how long an authorization code may be redeemed, seconds', {
    min: 1,
    max: 600,
    fallback: 60,
  }),
  refreshReuseS: integer(
    'ARMATURE_REFRESH_REUSE_S',
    'how long after its first use a refresh token may be used again, seconds',
    { min: 0, max: 60, fallback: 10 },
  ),
  keyPeriodS: seconds('ARMATURE_SIGNING_KEY_PERIOD_S', 'how long a signing key is used', 30 * 86_400),
  keyLeadS: seconds('ARMATURE_SIGNING_KEY_LEAD_S', 'how long a signing key is published before it is used', 3_600),
  keyKeptS: seconds('ARMATURE_SIGNING_KEY_KEPT_S', 'how long a signing key is published after its last use', 86_400),
  mailTokenS: seconds('ARMATURE_MAIL_TOKEN_S', 'how long a link in an e-mail is valid', 3_600),
  undoTokenS: seconds(
    'ARMATURE_UNDO_TOKEN_S',
    'how long the link in an e-mail to the former address undoes a change of address',
    7 * 86_400,
  ),
  signInMaxAgeS: seconds(
    'ARMATURE_SIGN_IN_MAX_AGE_S',
    'how long after a sign-in an account may change its address, be exported, closed or erased',
    300,
  ),
} as const;
