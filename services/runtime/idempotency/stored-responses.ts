import { status } from '@grpc/grpc-js';
import type { CallContext } from '../context/call-context.ts';
import { isDuplicateKey } from '../db/errno.ts';
import type { Sql, SqlReader } from '../db/tx.ts';
import { requestIdReused, responseErased } from '../errors/errors.ts';
import { encodeStatus } from '../errors/status.ts';
import { type IdempotencyKey, idempotencyKeyOf } from './key.ts';
import type { StoredHash } from './request-hash.ts';

/** A response as it was first sent. Code 0 is OK and the body a reply; otherwise the body is a google.rpc.Status. */
export interface StoredResponse {
  hash: StoredHash;
  code: number;
  body: Buffer;
}

const duplicate = Symbol('a response is stored under the key');

/** Thrown through the transaction, so that everything the duplicate did is rolled back. */
class DuplicateResponse extends Error {
  readonly mark = duplicate;
}

export const isDuplicateResponse = (error: unknown): boolean => error instanceof DuplicateResponse;

/**
 * Stores a response. Waits for a transaction that is storing one under the same key. A response that a process of an
 * earlier release stored under the key as it came is a duplicate, too.
 */
export async function insertStoredResponse(
  sql: Sql,
  key: IdempotencyKey,
  response: { code: number; body: Uint8Array },
  policyVersion: string,
  subject: string | null = null,
): Promise<void> {
  const { receivedKey } = key;
  if (receivedKey && (await find(sql, key, receivedKey)))
    throw new DuplicateResponse('a response is stored under the key as it came');
  try {
    await sql.execute(
      `insert into idempotency (principal, method, request_key, request_hash, hash_version, hash_key, code, body,
         policy_version, subject, created_at)
       values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, utc_timestamp(6))`,
      [
        key.principal,
        key.method,
        key.key,
        key.hash.digest,
        key.hash.version,
        key.hash.keyId,
        response.code,
        Buffer.from(response.body),
        policyVersion,
        subject?.slice(0, 64) ?? null,
      ],
    );
  } catch (error) {
    if (isDuplicateKey(error))
      throw new DuplicateResponse('a response was stored under the key meanwhile', { cause: undefined });
    throw error;
  }
}

export async function loadStoredResponse(sql: SqlReader, key: IdempotencyKey): Promise<StoredResponse | null> {
  const { receivedKey } = key;
  return (await find(sql, key, key.key)) ?? (receivedKey ? find(sql, key, receivedKey) : null);
}

async function find(
  sql: SqlReader,
  { principal, method }: IdempotencyKey,
  requestKey: string,
): Promise<StoredResponse | null> {
  const [row] = await sql.query<HashColumns & { code: number; body: Buffer }>(
    `select request_hash, hash_version, hash_key, code, body from idempotency
     where principal = ? and method = ? and request_key = ?`,
    [principal, method, requestKey],
  );
  return row ? { hash: storedHash(row), code: row.code, body: row.body } : null;
}

/** The columns in which a table keeps the hash of a request. */
export interface HashColumns {
  request_hash: Buffer;
  hash_version: number;
  hash_key: string;
}

export const storedHash = (row: HashColumns): StoredHash => ({
  version: row.hash_version,
  keyId: row.hash_key,
  digest: row.request_hash,
});

/**
 * Throws INVALID_ARGUMENT when a stored hash is of another request under the same idempotency key. A hash that cannot
 * be compared, because its key is gone or a newer release made it, counts as the same: a retry after a rotation must
 * get its response, and a second effect is impossible either way.
 */
export function assertSameRequest(call: CallContext, stored: StoredHash): void {
  const comparison = idempotencyKeyOf(call)?.hash.compare(stored);
  if (comparison === 'different') throw requestIdReused(call.method?.idempotency?.field ?? 'request_id');
  if (comparison === 'unknown') {
    call.log.warn(
      { hashVersion: stored.version, hashKey: stored.keyId },
      'stored request cannot be compared: its hash key is not in ARMATURE_REQUEST_HASH_PREVIOUS_KEYS, or the release is newer',
    );
  }
}

/**
 * Erases the stored responses about a person, and those that the person got. The keys stay, so that a repeated request
 * has no second effect: it fails with RESPONSE_ERASED.
 */
export async function eraseStoredResponses(sql: Sql, userId: string): Promise<void> {
  const body = Buffer.from(encodeStatus(responseErased(), ''));
  for (const [column, value] of [
    ['subject', userId],
    ['principal', `user:${userId}`],
  ] as const) {
    await sql.execute(`update idempotency set code = ?, body = ? where ${column} = ? and code = 0`, [
      status.FAILED_PRECONDITION,
      body,
      value,
    ]);
  }
}

/** Deletes stored responses older than `keepHours`, at most 1,000. Returns how many. */
export async function purgeStoredResponses(sql: Sql, keepHours: number): Promise<number> {
  const { affectedRows } = await sql.execute(
    'delete from idempotency where created_at < utc_timestamp(6) - interval ? hour limit 1000',
    [keepHours],
  );
  return affectedRows;
}
