import { dataSubjectOf, policyVersionOf, setOwnerChecked } from '../authz/authorization.ts';
import type { CallContext } from '../context/call-context.ts';
import type { Database } from '../db/database.ts';
import type { Tx } from '../db/tx.ts';
import { contention } from '../errors/errors.ts';
import { decodeStatus } from '../errors/status.ts';
import { idempotencyKeyOf, setStoredResponse } from './key.ts';
import {
  assertSameRequest,
  insertStoredResponse,
  isDuplicateResponse,
  loadStoredResponse,
  type StoredResponse,
} from './stored-responses.ts';

/**
 * Runs `work` in one transaction, as `Database.transaction` does, for a call to a keyed method. What `work` returns is
 * the response, and is stored under the idempotency key in the same transaction. When a duplicate request stored its
 * response meanwhile, nothing of `work` remains and the stored response is returned.
 * Throws: what `Database.transaction` throws; INVALID_ARGUMENT `REQUEST_ID_REUSED` when the stored response is of
 * another request under the same key; the stored error, when the first request was refused.
 */
export async function runIdempotent<R>(db: Database, call: CallContext, work: (tx: Tx) => Promise<R>): Promise<R> {
  const { method } = call;
  const key = idempotencyKeyOf(call);
  if (!method || !key) throw new Error(`${call.name}: runIdempotent() is for keyed methods`);
  let bytes: Uint8Array = new Uint8Array();
  try {
    const response = await db.transaction(call, async (tx) => {
      const made = await work(tx);
      bytes = method.response.encode(made).finish();
      await tx.em.flush();
      await insertStoredResponse(tx, key, { code: 0, body: bytes }, policyVersionOf(call), dataSubjectOf(call));
      return made;
    });
    setStoredResponse(call, bytes);
    return response;
  } catch (error) {
    if (!isDuplicateResponse(error)) throw error;
    const stored = await db.read(call, (sql) => loadStoredResponse(sql, key));
    if (!stored) throw contention(error);
    return replay(call, stored) as R;
  }
}

/** Returns the stored response decoded, or throws the stored error again. */
export function replay(call: CallContext, stored: StoredResponse): unknown {
  const { method } = call;
  if (!method) throw new Error(`${call.name}: replay() is for keyed methods`);
  assertSameRequest(call, stored.hash);
  setOwnerChecked(call);
  if (stored.code !== 0) throw decodeStatus(stored.body);
  setStoredResponse(call, stored.body);
  return method.response.decode(stored.body);
}
