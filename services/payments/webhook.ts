/** Verifies and parses webhooks of the acquirer. Pure functions, so that tests cover every invalid input. */
import { createHmac } from 'node:crypto';
import { equalSecrets } from '@armature/runtime/credentials';

/** The most seconds between the timestamp of a signature and the local clock. An older signature may be a replay. */
export const timestampWindowS = 300;

export type Verdict = 'genuine' | 'unsigned' | 'forged' | 'untimely';

/**
 * Verifies the header `t=<seconds>,v1=<hex>[,v1=<hex>]`, whose signatures are of "timestamp.body". Any of the secrets
 * may have signed, so that they can be rotated. The signature is checked before the timestamp, so an unsigned request
 * reveals nothing.
 */
export function verifySignature(header: unknown, body: Buffer, secrets: readonly string[], nowMs: number): Verdict {
  const signature = typeof header === 'string' ? readSignature(header) : null;
  if (!signature) return 'unsigned';
  let genuine = false;
  for (const secret of secrets) {
    const expected = createHmac('sha256', secret).update(`${signature.timestampS}.`).update(body).digest();
    // Every pair is compared.
    for (const digest of signature.digests) genuine = equalSecrets(digest, expected) || genuine;
  }
  if (!genuine) return 'forged';
  return Math.abs(nowMs / 1_000 - Number(signature.timestampS)) > timestampWindowS ? 'untimely' : 'genuine';
}

/** The timestamp stays text, because the signature covers its text. */
function readSignature(header: string): { timestampS: string; digests: Buffer[] } | null {
  const match = /^t=(\d{1,12})((?:,v1=[0-9a-f]{64}){1,2})$/.exec(header);
  if (!match?.[1] || !match[2]) return null;
  const digests = match[2].split(',v1=').slice(1);
  return { timestampS: match[1], digests: digests.map((hex) => Buffer.from(hex, 'hex')) };
}

/**
 * The fields of an event that are used: the key whose status may have changed, and the charge whose hold may have
 * ended.
 */
export interface WebhookEvent {
  eventId: string;
  key: string;
  /** The charge whose hold may have ended; empty for every other event. */
  endedChargeId: string;
}

/** The types of events that end a hold. */
const endTypes: ReadonlySet<unknown> = new Set(['void.voided', 'expiration.expired']);
const chargeIdPattern = /^[a-z0-9_]{1,64}$/;

const eventIdPattern = /^[\x21-\x7e]{1,100}$/;
const keyPattern = /^[\x21-\x7e]{1,200}$/;

/** Null where the body is no event. Its amounts and outcomes are not read. */
export function readEvent(body: Buffer): WebhookEvent | null {
  let event: unknown;
  try {
    event = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body));
  } catch {
    return null;
  }
  if (typeof event !== 'object' || event === null) return null;
  const { event_id: eventId, idempotency_key: key, type, operation } = event as Record<string, unknown>;
  if (typeof eventId !== 'string' || !eventIdPattern.test(eventId)) return null;
  if (typeof key !== 'string' || !keyPattern.test(key)) return null;
  return { eventId, key, endedChargeId: endTypes.has(type) ? chargeIdOf(operation) : '' };
}

function chargeIdOf(operation: unknown): string {
  if (typeof operation !== 'object' || operation === null) return '';
  const { charge_id: id } = operation as Record<string, unknown>;
  return typeof id === 'string' && chargeIdPattern.test(id) ? id : '';
}

const operationIdPattern = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

/** Whether a key can be of this service, whose keys are ids of operations. */
export const isOperationId = (key: string): boolean => operationIdPattern.test(key);
