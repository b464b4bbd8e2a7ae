import type { CallContext } from '../context/call-context.ts';
import { contextKey } from '../context/keys.ts';
import type { RequestHash } from './request-hash.ts';

/** Identifies one keyed request: the same principal, method and key must mean the same effect. */
export interface IdempotencyKey {
  readonly principal: string;
  readonly method: string;
  readonly key: string;
  /** The key as received, when that was in another case: earlier releases stored it so. */
  readonly receivedKey?: string;
  readonly hash: RequestHash;
}

const attachedKey = contextKey<IdempotencyKey | null>('idempotency key', null);
const attachedResponse = contextKey<Uint8Array | null>('stored response', null);

/** The idempotency key of a call to a keyed method, once its message is decoded; null for other calls. */
export const idempotencyKeyOf = (call: CallContext): IdempotencyKey | null => call.get(attachedKey);

export const setIdempotencyKey = (call: CallContext, key: IdempotencyKey): void => call.set(attachedKey, key);

/** The encoded response, once it is stored under the idempotency key. */
export const storedResponseOf = (call: CallContext): Uint8Array | null => call.get(attachedResponse);

export const setStoredResponse = (call: CallContext, response: Uint8Array): void =>
  call.set(attachedResponse, response);
