import { hash } from 'node:crypto';
import type { SqlReader } from '../db/tx.ts';
import { RpcError } from '../errors/errors.ts';
import { oldestIdOf } from '../id/id.ts';
import type { Delivery } from './delivery.ts';

/**
 * How long the inbox stores message ids: longer than the outbox, so that every event that can be published again is
 * still recognised.
 */
export const inboxKeptHours = 7 * 24;
/** Around the retention limit, also by the clock of another process, a missing message id proves nothing. */
const marginHours = 1;

/** The first half of the SHA-256 of the body. */
export const digestOf = (delivery: Delivery): Buffer => bodyDigest(delivery.message.content);

export const bodyDigest = (body: Buffer): Buffer => hash('sha256', body, 'buffer').subarray(0, 16);

interface Noted {
  messageId: string;
  type: string;
  aggregateId: string;
  sequence: string | number;
  digest: Buffer | null;
}

/** The inbox rows of these messages, by message id. */
export async function notedOf(
  sql: SqlReader,
  consumer: string,
  deliveries: readonly Delivery[],
): Promise<ReadonlyMap<string, Noted>> {
  if (deliveries.length === 0) return new Map();
  const rows = await sql.query<Noted>(
    `select message_id as messageId, type, aggregate_id as aggregateId, sequence, body_digest as digest from inbox
     where consumer = ? and message_id in (${deliveries.map(() => '?').join(', ')})`,
    [consumer, ...deliveries.map(({ messageId }) => messageId)],
  );
  return new Map(rows.map((row) => [row.messageId, row]));
}

/**
 * Returns what is wrong with a message whose sequence or message id was used; null for a second delivery of the same
 * message. It is another event under a used id (MESSAGE_ID_REUSED), or under a new id and a used sequence
 * (SEQUENCE_REUSED), as after the database of its owner was restored.
 */
export function conflictOf(delivery: Delivery, noted: Noted | undefined): RpcError | null {
  const { messageId, sequence } = delivery;
  // Identifies the body by its digest, so that two such events under one id are two dead letters.
  const body = `event ${sequence} with a body with digest ${digestOf(delivery).toString('hex')}`;
  if (noted) {
    if (isSame(delivery, noted)) return null;
    const text = `${body} came under the message id ${messageId} of another event`;
    return new RpcError('INVALID_ARGUMENT', 'MESSAGE_ID_REUSED', text);
  }
  if (messageId < oldestIdOf(new Date(Date.now() - (inboxKeptHours - marginHours) * 3_600_000))) return null;
  const text = `${body} came under the message id ${messageId}; that sequence belongs to another event`;
  return new RpcError('INVALID_ARGUMENT', 'SEQUENCE_REUSED', text);
}

const isSame = (delivery: Delivery, noted: Noted): boolean =>
  noted.type === delivery.type &&
  noted.aggregateId === delivery.aggregateId &&
  BigInt(noted.sequence) === delivery.sequence &&
  (noted.digest === null || noted.digest.equals(digestOf(delivery)));
