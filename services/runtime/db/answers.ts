import type { IdempotencyKey } from '../rpc/call.ts';
import { isDuplicateKey } from './errno.ts';
import type { Sql } from './tx.ts';

/** An answer as it was first given. Code 0 is OK and the body a reply; otherwise the body is a google.rpc.Status. */
export interface StoredAnswer {
  hash: Buffer;
  code: number;
  body: Buffer;
}

const duplicate = Symbol('the key was answered meanwhile');

/** Thrown through the transaction, so that everything the duplicate did is rolled back. */
class DuplicateAnswer extends Error {
  readonly mark = duplicate;
}

export const isDuplicateAnswer = (error: unknown): boolean => error instanceof DuplicateAnswer;

/** Stores an answer. Waits for a transaction that is storing one under the same key. */
export async function insertAnswer(
  sql: Sql,
  key: IdempotencyKey,
  answer: { code: number; body: Uint8Array },
  policyVersion: string,
): Promise<void> {
  try {
    await sql.execute(
      `insert into idempotency (principal, method, request_key, request_hash, code, body, policy_version, created_at)
       values (?, ?, ?, ?, ?, ?, ?, utc_timestamp(6))`,
      [key.principal, key.method, key.key, key.hash, answer.code, Buffer.from(answer.body), policyVersion],
    );
  } catch (error) {
    if (isDuplicateKey(error)) throw new DuplicateAnswer('the key was answered meanwhile', { cause: undefined });
    throw error;
  }
}

export async function loadAnswer(sql: Sql, key: IdempotencyKey): Promise<StoredAnswer | null> {
  const rows = await sql.query<StoredAnswer>(
    'select request_hash as hash, code, body from idempotency where principal = ? and method = ? and request_key = ?',
    [key.principal, key.method, key.key],
  );
  return rows[0] ?? null;
}

/** Forgets answers older than the promised time, a bounded number at a time. Returns how many went. */
export async function purgeAnswers(sql: Sql, keepHours: number): Promise<number> {
  const { affectedRows } = await sql.execute(
    'delete from idempotency where created_at < utc_timestamp(6) - interval ? hour limit 1000',
    [keepHours],
  );
  return affectedRows;
}
