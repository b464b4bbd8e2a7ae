import { address, integer, runtimeVariables, text, url } from '@armature/runtime';

const webhookSecrets = text(
  'ARMATURE_ACQUIRER_WEBHOOK_SECRET',
  'what webhooks of the acquirer are signed with: one secret, or two separated by a comma while one replaces the other',
  { secret: true },
);

export const config = {
  ...runtimeVariables,
  acquirerUrl: url('ARMATURE_ACQUIRER_URL', 'where the acquirer is, http://host:port', ['http', 'https']),
  webhookAddress: address('ARMATURE_PAYMENTS_WEBHOOK_ADDRESS', 'where to take webhooks of the acquirer over HTTPS', {
    fallback: '127.0.0.1:0',
  }),
  webhookSecrets: {
    ...webhookSecrets,
    fallback: undefined,
    parse(raw: string): readonly string[] {
      const secrets = raw.split(',');
      if (secrets.length > 2) throw new Error('holds more than two secrets');
      if (secrets.some((secret) => secret.length < 32)) throw new Error('holds one of fewer than 32 characters');
      return secrets;
    },
  },
  webhooksInFlightMax: integer('ARMATURE_PAYMENTS_WEBHOOKS_MAX', 'webhooks that are dealt with at a time', {
    min: 1,
    max: 1_000,
    fallback: 64,
  }),
  acquirerTimeoutMs: integer('ARMATURE_ACQUIRER_TIMEOUT_MS', 'how long the acquirer may take to answer, milliseconds', {
    min: 50,
    max: 20_000,
    fallback: 3_000,
  }),
  acquirerConnectionsMax: integer('ARMATURE_ACQUIRER_CONNECTIONS_MAX', 'connections to the acquirer', {
    min: 1,
    max: 1_000,
    fallback: 64,
  }),
  pendingResolveMs: integer(
    'ARMATURE_PENDING_RESOLVE_MS',
    'after how long without an outcome an operation is looked into, milliseconds',
    { min: 100, max: 600_000, fallback: 10_000 },
  ),
  pendingAbandonMs: integer(
    'ARMATURE_PENDING_ABANDON_MS',
    'after how long without a caller an authorization that never reached the acquirer is cancelled, milliseconds',
    { min: 100, max: 24 * 60 * 60_000, fallback: 120_000 },
  ),
  sendAgainMs: integer(
    'ARMATURE_ACQUIRER_SEND_AGAIN_MS',
    'for how long an operation may be sent to the acquirer, milliseconds; must stay below the time for which the acquirer remembers keys',
    { min: 50, max: 90 * 24 * 60 * 60_000, fallback: 48 * 60 * 60_000 },
  ),
  reconcileMs: integer('ARMATURE_RECONCILE_MS', 'how often ledger and acquirer are compared, milliseconds', {
    min: 10,
    max: 24 * 60 * 60_000,
    fallback: 60_000,
  }),
  reconcileFullMs: integer(
    'ARMATURE_RECONCILE_FULL_MS',
    'how often they are compared from the first record, milliseconds',
    { min: 10, max: 90 * 24 * 60 * 60_000, fallback: 24 * 60 * 60_000 },
  ),
  reconcileGraceMs: integer(
    'ARMATURE_RECONCILE_GRACE_MS',
    'how old a record is before it is compared, because its outcome may be on its way, milliseconds',
    { min: 0, max: 60 * 60_000, fallback: 60_000 },
  ),
  pendingJobMs: integer('ARMATURE_PENDING_SWEEP_MS', 'how often operations without an outcome are looked for', {
    min: 10,
    max: 60_000,
    fallback: 1_000,
  }),
} as const;
