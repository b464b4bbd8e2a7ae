/** The actions of operators: written with the effect, or before it where there are several transactions. */

import { type CallContext, principalOf } from '../context/call-context.ts';
import { isDuplicateKey } from '../db/errno.ts';
import type { SqlReader, Tx } from '../db/tx.ts';
import { idempotencyKeyOf } from '../idempotency/key.ts';
import { assertSameRequest, type HashColumns, storedHash } from '../idempotency/stored-responses.ts';

/** The ids that a request acts on, and whether there are more that match. */
export interface Chosen {
  ids: string[];
  more: boolean;
}

/** Records an action. A repeat finds the stored response and is rolled back with everything it did. */
export async function noteAction(tx: Tx, call: CallContext, why: string, chosen: Chosen): Promise<void> {
  const { hash, key } = keyOf(call);
  await tx.execute(
    `insert into operator_action (principal, request_id, request_hash, hash_version, hash_key, method, targets, more,
       why, at)
     values (?, ?, ?, ?, ?, ?, ?, ?, ?, utc_timestamp(6))`,
    [
      principalOf(call.caller),
      key,
      hash.digest,
      hash.version,
      hash.keyId,
      call.name,
      JSON.stringify(chosen.ids),
      chosen.more ? 1 : 0,
      why,
    ],
  );
}

/**
 * Records the ids of an action with many transactions before it begins, and returns those recorded first: a repeat,
 * such as one after a crash, continues with the same ids and no others.
 */
export async function chooseOnce(tx: Tx, call: CallContext, choose: () => Promise<Chosen>, why = ''): Promise<Chosen> {
  const before = await load(tx, call);
  if (before) return before;
  const chosen = await choose();
  try {
    await noteAction(tx, call, why, chosen);
    return chosen;
  } catch (error) {
    // A copy of the request has committed meanwhile: under READ COMMITTED its row can be read.
    const first = isDuplicateKey(error) ? await load(tx, call) : null;
    if (!first) throw error;
    return first;
  }
}

async function load(sql: SqlReader, call: CallContext): Promise<Chosen | null> {
  const { key } = keyOf(call);
  const [row] = await sql.query<HashColumns & { targets: string; more: number }>(
    `select request_hash, hash_version, hash_key, targets, more from operator_action
     where principal = ? and request_id = ? and method = ?`,
    [principalOf(call.caller), key, call.name],
  );
  if (!row) return null;
  assertSameRequest(call, storedHash(row));
  return { ids: JSON.parse(row.targets) as string[], more: row.more === 1 };
}

function keyOf(call: CallContext) {
  const key = idempotencyKeyOf(call);
  if (!key) throw new Error(`${call.name} has no idempotency key`);
  return key;
}
