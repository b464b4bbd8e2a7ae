import { address, integer, runtimeVariables, text, url } from '@armature/runtime';

const webhookSecrets = text(
  'ARMATURE_ACQUIRER_WEBHOOK_SECRET',
  'secret that signs webhooks of the acquirer; two, separated by a comma, while one replaces the other',
  { secret: true },
);

export const config = {
  ...runtimeVariables,
  acquirerUrl: url('ARMATURE_ACQUIRER_URL', 'URL of the acquirer, http://host:port', ['http', 'https']),
  webhookAddress: address(
    'ARMATURE_PAYMENTS_WEBHOOK_ADDRESS',
    'address that receives webhooks of the acquirer over HTTPS',
    {
      fallback: '127.0.0.1:0',
    },
  ),
  webhookSecrets: {
    ...webhookSecrets,
    fallback: undefined,
    parse(raw: string): readonly string[] {
      const secrets = raw.split(',');
      if (secrets.length > 2) throw new Error('contains more than two secrets');
      if (secrets.some((secret) => secret.length < 32))
        throw new Error('contains a secret of fewer than 32 characters');
      return secrets;
    },
  },
  webhooksInFlightMax: integer('ARMATURE_PAYMENTS_WEBHOOKS_MAX', 'webhooks that are processed at the same time', {
    min: 1,
    max: 1_000,
    fallback: 64,
  }),
  acquirerTimeoutMs: integer('ARMATURE_ACQUIRER_TIMEOUT_MS', 'timeout of a request to the acquirer, milliseconds', {
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
    'time without an outcome after which the periodic job processes an operation, milliseconds',
    { min: 100, max: 600_000, fallback: 10_000 },
  ),
  pendingAbandonMs: integer(
    'ARMATURE_PENDING_ABANDON_MS',
    'time since the last attempt after which an authorization unknown to the acquirer is cancelled, milliseconds',
    { min: 100, max: 24 * 60 * 60_000, fallback: 120_000 },
  ),
  sendAgainMs: integer(
    'ARMATURE_ACQUIRER_SEND_AGAIN_MS',
    'time for which an operation may be sent, milliseconds; must be shorter than the acquirer keeps keys',
    { min: 50, max: 90 * 24 * 60 * 60_000, fallback: 48 * 60 * 60_000 },
  ),
  reconcileMs: integer('ARMATURE_RECONCILE_MS', 'interval of the comparison of ledger and acquirer, milliseconds', {
    min: 10,
    max: 24 * 60 * 60_000,
    fallback: 60_000,
  }),
  reconcileFullMs: integer(
    'ARMATURE_RECONCILE_FULL_MS',
    'interval of the comparison from the first record, milliseconds',
    { min: 10, max: 90 * 24 * 60 * 60_000, fallback: 24 * 60 * 60_000 },
  ),
  reconcileGraceMs: integer(
    'ARMATURE_RECONCILE_GRACE_MS',
    'age at which a record is compared, because the outcome of a newer one may not be committed yet, milliseconds',
    { min: 0, max: 60 * 60_000, fallback: 60_000 },
  ),
  pendingJobMs: integer(
    'ARMATURE_PENDING_SWEEP_MS',
    'interval of the periodic job for pending operations, milliseconds',
    {
      min: 10,
      max: 60_000,
      fallback: 1_000,
    },
  ),
} as const;
