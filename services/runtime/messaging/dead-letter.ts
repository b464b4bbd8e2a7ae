import { v7 as uuidv7 } from 'uuid';
import type { Sql, Tx } from '../db/tx.ts';
import type { Delivery } from './delivery.ts';
import { noteMessage, type Step, type Stream, stepSequence } from './inbox.ts';

/** A message that was set aside, as operators find it. */
export interface DeadLetter {
  id: string;
  consumer: string;
  messageId: string;
  publisher: string;
  type: string;
  aggregateId: string | null;
  body: Buffer;
  headers: string;
  reason: string;
  attempts: number;
  redrivenAt: string | Date | null;
}

/**
 * Sets a message aside in its turn: the letter, the inbox row and the step of the sequence commit together,
 * so later events of the aggregate go on and a copy of the message is a duplicate.
 */
export async function buryInTurn(sql: Sql, stream: Stream, delivery: Delivery, reason: string): Promise<Step> {
  const step = await stepSequence(sql, stream, delivery);
  if (step !== 'next') return step;
  if (await noteMessage(sql, stream, delivery, 'dead')) await insertDeadLetter(sql, stream.consumer, delivery, reason);
  return step;
}

/**
 * Sets aside what is not an event of the stream's source. It leaves no trace in inbox or sequence: whoever
 * forged it must not be able to make a real event look like a duplicate.
 */
export async function buryForeign(sql: Sql, stream: Stream, delivery: Delivery, reason: string): Promise<void> {
  const known = await sql.query(
    'select 1 from dead_letter where consumer = ? and message_id = ? and publisher = ? and reason = ? limit 1',
    [stream.consumer, delivery.messageId.slice(0, 255), delivery.publisher.slice(0, 128), reason],
  );
  // Only a copy after a crash between commit and acknowledgement is the same in all of these.
  if (known.length === 0 || delivery.messageId === '') await insertDeadLetter(sql, stream.consumer, delivery, reason);
}

async function insertDeadLetter(sql: Sql, consumer: string, delivery: Delivery, reason: string): Promise<void> {
  const inSequence = delivery.fault === null;
  await sql.execute(
    `insert into dead_letter (id, consumer, message_id, publisher, type, routing_key, aggregate_id, sequence,
       body, headers, reason, attempts, dead_at)
     values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, utc_timestamp(6))`,
    [
      uuidv7(),
      consumer,
      delivery.messageId.slice(0, 255),
      delivery.publisher.slice(0, 128),
      delivery.type.slice(0, 190),
      delivery.routingKey.slice(0, 255),
      inSequence ? delivery.aggregateId : null,
      inSequence ? delivery.sequence : null,
      delivery.message.content,
      JSON.stringify(delivery.message.properties.headers ?? {}).slice(0, 16_000),
      reason,
      delivery.attempt,
    ],
  );
}

export async function loadDeadLetter(sql: Sql, id: string): Promise<DeadLetter | null> {
  const rows = await sql.query<DeadLetter>(
    `select id, consumer, message_id as messageId, publisher, type, aggregate_id as aggregateId, body, headers,
       reason, attempts, redriven_at as redrivenAt
     from dead_letter where id = ?`,
    [id],
  );
  return rows[0] ?? null;
}

/**
 * Marks a letter as redriven. False when somebody did so before, or dropped it; a second caller waits for the first
 * to commit. The inbox forgets after a week and letters do not: one that is no longer noted there is still its own
 * guard, and the sequence keeps copies of the message out.
 */
export async function claimDeadLetter(tx: Tx, letter: DeadLetter): Promise<boolean> {
  const { affectedRows } = await tx.execute(
    'update dead_letter set redriven_at = utc_timestamp(6) where id = ? and redriven_at is null and dropped_at is null',
    [letter.id],
  );
  if (affectedRows === 0) return false;
  const noted = await tx.execute(
    "update inbox set outcome = 'applied' where consumer = ? and message_id = ? and outcome = 'dead'",
    [letter.consumer, letter.messageId],
  );
  if (noted.affectedRows > 0) return true;
  const known = await tx.query('select 1 from inbox where consumer = ? and message_id = ?', [
    letter.consumer,
    letter.messageId,
  ]);
  return known.length === 0;
}
