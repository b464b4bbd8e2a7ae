import { status } from '@grpc/grpc-js';
import { policyVersionOf } from '../authz/authorization.ts';
import type { CallContext, Interceptor } from '../context/call-context.ts';
import type { Database } from '../db/database.ts';
import { type Code, RpcError } from '../errors/errors.ts';
import { encodeStatus } from '../errors/status.ts';
import { idempotencyKeyOf, storedResponseOf } from './key.ts';
import { replay } from './run-idempotent.ts';
import { insertStoredResponse, isDuplicateResponse, loadStoredResponse } from './stored-responses.ts';

/**
 * Codes of business refusals, which are stored: a repeated request gets the same one. Other failures may be retried.
 */
const sticky = new Set<Code>(['NOT_FOUND', 'ALREADY_EXISTS', 'FAILED_PRECONDITION', 'OUT_OF_RANGE']);

/** After these there is no time or no room to look for a stored response. */
const withoutLookup = new Set<Code>(['DEADLINE_EXCEEDED', 'CANCELLED', 'RESOURCE_EXHAUSTED']);

/**
 * Gives a repeated request the response of the first one. `runIdempotent` stores the response in the transaction of
 * its effect. A refusal, which has no effect, is stored here.
 *
 * Nothing is looked up before the handler runs: requests are rarely repeated, and a repeated request finds the stored
 * response in any case, at the end of its transaction or here.
 */
export function idempotency(db: Database, domain: string): Interceptor {
  return (next) => async (call) => {
    const key = idempotencyKeyOf(call);
    if (!key) return next(call);
    try {
      const reply = await next(call);
      if (!storedResponseOf(call)) throw new Error(`${call.name} responded without runIdempotent()`);
      return reply;
    } catch (error) {
      if (error instanceof RpcError && sticky.has(error.code)) return refuseForGood(db, call, error, domain);
      return earlierResponse(db, call, error);
    }
  };
}

/** A request that fails now may have succeeded before, when the data were others. */
async function earlierResponse(db: Database, call: CallContext, error: unknown): Promise<unknown> {
  const key = idempotencyKeyOf(call);
  if (!key || (error instanceof RpcError && withoutLookup.has(error.code))) throw error;
  const stored = await db
    .read(call, (sql) => loadStoredResponse(sql, key))
    .catch((failure: unknown) => {
      call.log.warn({ err: failure }, 'stored response not looked up');
      return null;
    });
  if (!stored) throw error;
  replay(call, stored);
  return storedResponseOf(call);
}

/** Stores the refusal. When a duplicate request stored its response meanwhile, that one is returned. */
async function refuseForGood(db: Database, call: CallContext, error: RpcError, domain: string): Promise<unknown> {
  const key = idempotencyKeyOf(call);
  if (!key) throw error;
  try {
    const body = encodeStatus(error, domain);
    await db.transaction(call, (tx) =>
      insertStoredResponse(tx, key, { code: status[error.code], body }, policyVersionOf(call)),
    );
  } catch (failure) {
    if (!isDuplicateResponse(failure)) throw failure;
    const stored = await db.read(call, (sql) => loadStoredResponse(sql, key));
    if (!stored) throw error;
    replay(call, stored);
    return storedResponseOf(call);
  }
  throw error;
}
