import { status } from '@grpc/grpc-js';
import type { Call, Interceptor } from '../context/call.ts';
import { type Database, replay } from '../db/database.ts';
import { type Code, RpcError } from '../errors/errors.ts';
import { encodeStatus } from '../errors/status.ts';
import { insertAnswer, isDuplicateAnswer, loadAnswer } from './answers.ts';

/** Answers of the business: the same question gets them again. Everything else may be tried anew. */
const sticky = new Set<Code>(['NOT_FOUND', 'ALREADY_EXISTS', 'FAILED_PRECONDITION', 'OUT_OF_RANGE']);

/** There is no time or no room to look for an earlier answer. */
const hopeless = new Set<Code>(['DEADLINE_EXCEEDED', 'CANCELLED', 'RESOURCE_EXHAUSTED']);

/**
 * Gives a repeated request its first answer. The answer itself is stored by `Database.answer`, in the
 * transaction of its effect; a rejection, which has no effect, is stored here.
 *
 * Nothing is looked up before the handler runs: requests are rarely repeated, and a repetition runs into
 * the stored answer whichever way it ends, at the end of its transaction or here.
 */
export function idempotency(db: Database, domain: string): Interceptor {
  return (next) => async (call) => {
    const key = call.idempotency;
    if (!key) return next(call);
    try {
      const reply = await next(call);
      if (!call.answer) throw new Error(`${call.name} changed something without Database.answer()`);
      return reply;
    } catch (error) {
      if (error instanceof RpcError && sticky.has(error.code)) return rejectForGood(db, call, error, domain);
      return earlierAnswer(db, call, error);
    }
  };
}

/** What failed now may have been answered before, when the world looked different. */
async function earlierAnswer(db: Database, call: Call, error: unknown): Promise<unknown> {
  const key = call.idempotency;
  if (!key || (error instanceof RpcError && hopeless.has(error.code))) throw error;
  const stored = await db
    .read(call, (sql) => loadAnswer(sql, key))
    .catch((failure: unknown) => {
      call.log.warn({ err: failure }, 'no look for an earlier answer');
      return null;
    });
  if (!stored) throw error;
  replay(call, stored);
  return call.answer;
}

/** Stores the rejection, unless a duplicate was answered meanwhile: then that answer counts. */
async function rejectForGood(db: Database, call: Call, error: RpcError, domain: string): Promise<unknown> {
  const key = call.idempotency;
  if (!key) throw error;
  try {
    const body = encodeStatus(error, domain);
    await db.transaction(call, (tx) => insertAnswer(tx, key, { code: status[error.code], body }, call.policyVersion));
  } catch (failure) {
    if (!isDuplicateAnswer(failure)) throw failure;
    const stored = await db.read(call, (sql) => loadAnswer(sql, key));
    if (!stored) throw error;
    replay(call, stored);
    return call.answer;
  }
  throw error;
}
