import { createHmac } from 'node:crypto';

/**
 * The signature of a webhook: HMAC-SHA256 over "timestamp.body", once for each secret, so that a receiver may
 * know the old or the new one while a secret is being replaced.
 */
export function signature(secrets: readonly string[], timestamp_s: number, body: string): string {
  const signed = secrets.map((secret) => {
    const digest = createHmac('sha256', secret).update(`${timestamp_s}.${body}`).digest('hex');
    return `v1=${digest}`;
  });
  return [`t=${timestamp_s}`, ...signed].join(',');
}
