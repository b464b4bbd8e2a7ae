import type { IncomingMessage } from 'node:http';
import * as errors from './errors.ts';

export const BODY_LIMIT_BYTES = 16 * 1024;
/** How much of a body over the limit is read and dropped, so that its sender can read the response. */
const DISCARD_LIMIT_BYTES = 1024 * 1024;

/** The JSON object a request carries; an empty body counts as an empty object. */
export async function readBody(request: IncomingMessage): Promise<Record<string, unknown>> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size <= BODY_LIMIT_BYTES) chunks.push(chunk);
    if (size > DISCARD_LIMIT_BYTES) break;
  }
  if (size > BODY_LIMIT_BYTES) throw errors.bodyTooLarge(BODY_LIMIT_BYTES);
  if (size === 0) return {};
  const value = parseJson(Buffer.concat(chunks));
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw errors.bodyInvalid();
  return value as Record<string, unknown>;
}

const decoder = new TextDecoder('utf-8', { fatal: true });

function parseJson(bytes: Buffer): unknown {
  try {
    return JSON.parse(decoder.decode(bytes));
  } catch {
    // The messages of decoder and parser would not help the caller.
    throw errors.bodyInvalid();
  }
}

const keyPattern = /^[!-~]{1,200}$/;

/** The key that makes a request safe to repeat. */
export function readKey(header: string | string[] | undefined): string {
  if (typeof header !== 'string' || !keyPattern.test(header)) throw errors.keyInvalid();
  return header;
}

/** A check of a field, and the rule as text. */
type FieldRule = { holds: (value: unknown) => boolean; rule: string };

const matches = (pattern: RegExp, rule: string): FieldRule => ({
  holds: (value) => typeof value === 'string' && pattern.test(value),
  rule,
});

const AMOUNT_LIMIT_MINOR = 100_000_000_000_000;

const fieldRules = {
  order_reference: matches(/^[!-~]{1,128}$/, 'must be 1 to 128 printable ASCII characters without spaces'),
  amount_minor: {
    holds: (value) => Number.isSafeInteger(value) && Number(value) >= 1 && Number(value) <= AMOUNT_LIMIT_MINOR,
    rule: `must be a whole number from 1 to ${AMOUNT_LIMIT_MINOR}`,
  },
  currency_code: matches(/^[A-Z]{3}$/, 'must be three upper-case letters'),
  payment_method: matches(/^[a-z0-9_]{3,64}$/, 'must match ^[a-z0-9_]{3,64}$'),
  idempotency_key: matches(keyPattern, 'must be 1 to 200 printable ASCII characters'),
  customer_reference: {
    holds: (value) => typeof value === 'string' && value.length >= 1 && value.length <= 200,
    rule: 'must be text of 1 to 200 characters',
  },
  card: matches(/^[a-z0-9_]{3,64}$/, 'must be one of the test cards'),
} satisfies Record<string, FieldRule>;

type FieldName = keyof typeof fieldRules;

/** Throws a Problem that names the first field that is missing, wrong, or not known to this request. */
export function checkFields(body: Record<string, unknown>, required: FieldName[], optional: FieldName[] = []): void {
  const allowed: readonly string[] = [...required, ...optional];
  for (const field of Object.keys(body)) {
    if (!allowed.includes(field)) throw errors.fieldUnknown(field.slice(0, 64));
  }
  for (const field of [...required, ...optional]) {
    if (!Object.hasOwn(body, field) && optional.includes(field)) continue;
    const { holds, rule } = fieldRules[field];
    if (!holds(body[field])) throw errors.fieldInvalid(field, rule);
  }
}

/** A whole number of the query within bounds, or the default when it is absent. */
export function readNumber(query: URLSearchParams, name: string, bounds: { least: number; most: number; or: number }) {
  const text = query.get(name);
  if (text === null) return bounds.or;
  const value = Number(text);
  if (!/^\d{1,15}$/.test(text) || value < bounds.least || value > bounds.most) {
    throw errors.fieldInvalid(name, `must be a whole number from ${bounds.least} to ${bounds.most}`);
  }
  return value;
}

const operationIdsPattern = /^op_[0-9a-f]{32}(,op_[0-9a-f]{32}){0,99}$/;

/** The operation ids of a lookup: 1 to 100, separated by commas. */
export function readOperationIds(text: string): string[] {
  if (!operationIdsPattern.test(text)) {
    throw errors.fieldInvalid('operation_ids', 'must be 1 to 100 operation ids, separated by commas');
  }
  return text.split(',');
}
