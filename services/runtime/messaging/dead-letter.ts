import { hash } from 'node:crypto';
import { v7 as uuidv7 } from 'uuid';
import type { Param, Sql, SqlReader, Tx } from '../db/tx.ts';
import { rpcError } from '../errors/errors.ts';
import { bodyDigest, conflictOf, notedOf } from './conflict.ts';
import type { Delivery } from './delivery.ts';
import { noteMessage, type Step, type Stream, stepSequence } from './inbox.ts';

/** A message in the dead-letter store, as operators see it. */
export interface DeadLetter {
  id: string;
  consumer: string;
  messageId: string;
  publisher: string;
  type: string;
  aggregateId: string | null;
  sequence: string | number | null;
  body: Buffer;
  headers: string;
  reason: string;
  attempts: number;
  redrivenAt: string | Date | null;
}

/**
 * Makes a dead letter of a message in its turn: dead letter, inbox row and step of the sequence commit together,
 * so later events of the aggregate continue and a copy of the message is a duplicate.
 */
export async function deadLetterInTurn(sql: Sql, stream: Stream, delivery: Delivery, reason: string): Promise<Step> {
  const step = await stepSequence(sql, stream, delivery, 'dead');
  if (step === 'early' || step === 'superseded') return step;
  if (step !== 'duplicate' && (await noteMessage(sql, stream, delivery, 'dead'))) {
    await insertDeadLetters(sql, stream.consumer, [delivery], reason);
    return 'next';
  }
  // Its sequence or message id belongs to another event, whose inbox row stays.
  const noted = await notedOf(sql, stream.consumer, [delivery]);
  if (!conflictOf(delivery, noted.get(delivery.messageId))) return 'duplicate';
  await insertOnce(sql, stream.consumer, delivery, reason);
  return 'next';
}

/**
 * Makes a dead letter of a message that is not an event of the stream's source, or not the event with this place in the
 * sequence. Inbox and sequence do not record it: a forged message must not make a real event look like a duplicate.
 */
export const deadLetterForeign = insertOnce;

/**
 * Larger bodies are not kept. No event is nearly so large, and a statement must stay below the server's packet limit.
 */
export const keptBodyMax = 4 * 1024 * 1024;
/** Total size of the bodies in one statement. */
const insertBytesMax = 8 * 1024 * 1024;
const keptHeadersMax = 16_000;
const reasonMax = 1_000;
const lostBodyHeader = 'armature-lost-body-sha256';

const isBodyKept = (delivery: Delivery): boolean => delivery.message.content.length <= keptBodyMax;
const bodySha256 = (delivery: Delivery): string => hash('sha256', delivery.message.content);

/** For a body that is not kept, the reason contains its size and digest. */
function keptReason(delivery: Delivery, reason: string): string {
  if (isBodyKept(delivery)) return reason;
  const lost = ` (body not kept: ${delivery.message.content.length} bytes, SHA-256 ${bodySha256(delivery)})`;
  return reason.slice(0, reasonMax - lost.length) + lost;
}

function keptHeaders(delivery: Delivery): string {
  const lost = isBodyKept(delivery) ? {} : { [lostBodyHeader]: bodySha256(delivery) };
  const all = JSON.stringify({ ...delivery.message.properties.headers, ...lost });
  return all.length <= keptHeadersMax ? all : JSON.stringify({ traceparent: delivery.traceparent, ...lost });
}

/** Throws DEAD_LETTER_BODY_LOST when the body was too large to be kept. */
export function assertBodyKept({ id, body, headers }: DeadLetter): void {
  if (body.length > 0 || !(lostBodyHeader in JSON.parse(headers))) return;
  throw rpcError(
    'FAILED_PRECONDITION',
    'DEAD_LETTER_BODY_LOST',
    `the body of dead letter ${id} was above ${keptBodyMax} bytes and was not kept; publish a baseline and drop it`,
  );
}

async function insertOnce(sql: Sql, consumer: string, delivery: Delivery, reason: string): Promise<void> {
  const known = await sql.query(
    'select 1 from dead_letter where consumer = ? and message_id = ? and publisher = ? and reason = ? limit 1',
    [consumer, delivery.messageId.slice(0, 255), delivery.publisher.slice(0, 128), keptReason(delivery, reason)],
  );
  // Only a copy after a crash between commit and acknowledgement is equal in all of these.
  if (known.length === 0 || delivery.messageId === '') await insertDeadLetters(sql, consumer, [delivery], reason);
}

/** Stores events of unknown types as dead letters, after their sequence was stepped. */
export function keepUnknown(sql: Sql, consumer: string, deliveries: readonly Delivery[]): Promise<void> {
  return insertDeadLetters(sql, consumer, deliveries, 'UNIMPLEMENTED EVENT_TYPE_UNKNOWN: kept for a later version', 1);
}

const columns = `id, consumer, message_id, publisher, type, routing_key, aggregate_id, sequence, body, headers, reason,
  attempts, unknown_type, dead_at`;

/** Inserts in as few statements as the size of the bodies allows. */
async function insertDeadLetters(
  sql: Sql,
  consumer: string,
  deliveries: readonly Delivery[],
  reason: string,
  unknownType: 0 | 1 = 0,
): Promise<void> {
  let batch: Delivery[] = [];
  let bytes = 0;
  for (const delivery of deliveries) {
    const size = isBodyKept(delivery) ? delivery.message.content.length : 0;
    if (batch.length > 0 && bytes + size > insertBytesMax) {
      await insertBatch(sql, consumer, batch, reason, unknownType);
      [batch, bytes] = [[], 0];
    }
    batch.push(delivery);
    bytes += size;
  }
  await insertBatch(sql, consumer, batch, reason, unknownType);
}

async function insertBatch(
  sql: Sql,
  consumer: string,
  deliveries: readonly Delivery[],
  reason: string,
  unknownType: 0 | 1,
): Promise<void> {
  const params = deliveries.flatMap((delivery): Param[] => {
    const inSequence = delivery.fault === null && delivery.sequence > 0n;
    return [
      uuidv7(),
      consumer,
      delivery.messageId.slice(0, 255),
      delivery.publisher.slice(0, 128),
      delivery.type.slice(0, 190),
      delivery.routingKey.slice(0, 255),
      inSequence ? delivery.aggregateId : null,
      inSequence ? delivery.sequence : null,
      isBodyKept(delivery) ? delivery.message.content : Buffer.alloc(0),
      keptHeaders(delivery),
      keptReason(delivery, reason),
      delivery.attempt,
      unknownType,
    ];
  });
  const row = `(${Array(13).fill('?').join(', ')}, utc_timestamp(6))`;
  await sql.execute(`insert into dead_letter (${columns}) values ${deliveries.map(() => row).join(', ')}`, params);
}

/** Counts open dead letters of a queue whose source is unknown, up to `max`. */
export async function countForeign(sql: SqlReader, queue: string, max: number): Promise<number> {
  const [row] = await sql.query<{ waiting: number | string }>(
    `select count(*) as waiting from
       (select 1 from dead_letter where consumer = ? and redriven_at is null and dropped_at is null limit ?) as capped`,
    [queue, max],
  );
  return Number(row?.waiting ?? 0);
}

export async function loadDeadLetter(sql: SqlReader, id: string): Promise<DeadLetter | null> {
  const rows = await sql.query<DeadLetter>(
    `select id, consumer, message_id as messageId, publisher, type, aggregate_id as aggregateId, sequence, body,
       headers, reason, attempts, redriven_at as redrivenAt
     from dead_letter where id = ?`,
    [id],
  );
  return rows[0] ?? null;
}

/** The order rules that apply to a dead letter's handler. */
export interface RedriveOrder {
  aggregate: string;
  /** Types whose order matters to the service; earlier dead letters of other types are left out. */
  orderedTypes: readonly string[];
}

/**
 * Throws when a dead letter would break the order of its aggregate: EVENT_SUPERSEDED when the service has applied a
 * later event or a baseline that covers it, EARLIER_DEAD_LETTER_OPEN while an earlier one waits. In a transaction
 * (`lock`) no later event is applied before it ends.
 */
export async function assertInOrder(
  sql: SqlReader,
  deadLetter: Pick<DeadLetter, 'id' | 'consumer' | 'type' | 'aggregateId' | 'sequence'>,
  { aggregate, orderedTypes }: RedriveOrder,
  lock: boolean,
): Promise<void> {
  if (deadLetter.aggregateId === null || deadLetter.sequence === null || !orderedTypes.includes(deadLetter.type))
    return;
  const sequence = BigInt(deadLetter.sequence);
  const [place] = await sql.query<
    Record<'applied' | 'baseline', string | number> & { handled: string | number | null }
  >(
    `select applied, handled, baseline from inbox_sequence where consumer = ? and aggregate = ? and aggregate_id = ?
     ${lock ? 'for update' : ''}`,
    [deadLetter.consumer, aggregate, deadLetter.aggregateId],
  );
  // In a sequence from before `handled` was recorded, every later event counts as one with an effect.
  const handled = BigInt(place?.handled ?? place?.applied ?? 0);
  if (place?.handled === null ? handled > sequence : handled >= sequence) {
    throw rpcError(
      'FAILED_PRECONDITION',
      'EVENT_SUPERSEDED',
      `event ${sequence} of ${aggregate} ${deadLetter.aggregateId} is older than event ${handled}, which was applied; drop it`,
      { sequence: String(sequence), handled: String(handled) },
    );
  }
  const baseline = BigInt(place?.baseline ?? 0);
  if (baseline >= sequence) {
    // Between the two are events that were not handled here; the baseline covers them as well.
    throw rpcError(
      'FAILED_PRECONDITION',
      'EVENT_SUPERSEDED',
      `event ${sequence} of ${aggregate} ${deadLetter.aggregateId} is older than its baseline at event ${baseline}; drop it`,
      { sequence: String(sequence), baseline: String(baseline) },
    );
  }
  const [earlier] = await sql.query<{ id: string }>(
    `select id from dead_letter where aggregate_id = ? and sequence < ? and consumer = ? and type in (?)
       and redriven_at is null and dropped_at is null order by sequence limit 1`,
    [deadLetter.aggregateId, sequence, deadLetter.consumer, orderedTypes],
  );
  if (earlier) {
    throw rpcError(
      'FAILED_PRECONDITION',
      'EARLIER_DEAD_LETTER_OPEN',
      `dead letter ${earlier.id} is an earlier event of the same ${aggregate}; redrive or drop it first`,
      { dead_letter_id: earlier.id },
    );
  }
}

/**
 * Throws MESSAGE_ID_REUSED for a dead letter whose message id and sequence belong to another event: handling it would
 * replace that event's row in the inbox.
 */
export async function assertOwnMessageId(sql: SqlReader, deadLetter: DeadLetter): Promise<void> {
  const [noted] = await sql.query<{ type: string; aggregateId: string; digest: Buffer | null }>(
    `select type, aggregate_id as aggregateId, body_digest as digest from inbox
     where consumer = ? and message_id = ? and sequence = ?`,
    [deadLetter.consumer, deadLetter.messageId, deadLetter.sequence],
  );
  if (!noted) return;
  const same =
    noted.type === deadLetter.type &&
    noted.aggregateId === deadLetter.aggregateId &&
    (noted.digest === null || noted.digest.equals(bodyDigest(deadLetter.body)));
  if (same) return;
  throw rpcError(
    'FAILED_PRECONDITION',
    'MESSAGE_ID_REUSED',
    `dead letter ${deadLetter.id} has the message id ${deadLetter.messageId} of another event; drop it, and let its publisher publish it under an id of its own`,
  );
}

/**
 * Marks a dead letter as redriven. Returns false when another call has redriven or dropped it; a second caller waits
 * for the first to commit. The inbox deletes rows after a week, the dead-letter store does not. So a dead letter
 * without an inbox row is protected by its own row, and the sequence rejects copies of the message.
 */
export async function claimDeadLetter(tx: Tx, deadLetter: DeadLetter, order: RedriveOrder): Promise<boolean> {
  const { affectedRows } = await tx.execute(
    'update dead_letter set redriven_at = utc_timestamp(6) where id = ? and redriven_at is null and dropped_at is null',
    [deadLetter.id],
  );
  if (affectedRows === 0) return false;
  await assertInOrder(tx, deadLetter, order, true);
  await assertOwnMessageId(tx, deadLetter);
  const noted = await tx.execute(
    `update inbox set outcome = 'applied' where consumer = ? and message_id = ? and sequence = ? and outcome = 'dead'`,
    [deadLetter.consumer, deadLetter.messageId, deadLetter.sequence],
  );
  const fresh =
    noted.affectedRows > 0 ||
    // Another event is recorded under the same id and another sequence.
    (
      await tx.query('select 1 from inbox where consumer = ? and message_id = ? and sequence = ?', [
        deadLetter.consumer,
        deadLetter.messageId,
        deadLetter.sequence,
      ])
    ).length === 0;
  if (!fresh) return false;
  await tx.execute(
    `update inbox_sequence set handled = greatest(handled, ?)
     where consumer = ? and aggregate = ? and aggregate_id = ?`,
    [deadLetter.sequence, deadLetter.consumer, order.aggregate, deadLetter.aggregateId],
  );
  return true;
}
