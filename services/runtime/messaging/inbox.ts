import { hash } from 'node:crypto';
import type { Param, Sql } from '../db/tx.ts';
import { oldestIdOf } from '../id.ts';
import type { Delivery } from './delivery.ts';

/** Where an event stands in the sequence of its aggregate. */
export type Step = 'next' | 'duplicate' | 'early';

/** What became of a message: its effect committed, not for this service, or set aside. */
export type Outcome = 'applied' | 'skipped' | 'dead';

/** A stream of events that one consumer applies: the queue, and the aggregate it carries. */
export interface Stream {
  readonly consumer: string;
  readonly aggregate: string;
}

/**
 * Steps the aggregate's sequence to this event if it is the next one, and notes whether it has an effect here. The row stays locked until the
 * transaction ends, so that a second consumer, such as one that was believed dead, waits and then finds a
 * duplicate.
 */
export async function stepSequence(sql: Sql, stream: Stream, delivery: Delivery, outcome: Outcome): Promise<Step> {
  const key: Param[] = [stream.consumer, stream.aggregate, delivery.aggregateId];
  const { sequence } = delivery;
  const applied = outcome === 'applied';
  const { affectedRows } = await sql.execute(
    `update inbox_sequence set applied = ?${applied ? ', handled = ?' : ''}
     where consumer = ? and aggregate = ? and aggregate_id = ? and applied = ?`,
    [sequence, ...(applied ? [sequence] : []), ...key, sequence - 1n],
  );
  if (affectedRows > 0) return 'next';
  if (sequence === 1n) {
    // After the update, not before: an insert that meets the row keeps a shared lock, and two consumers that then
    // wanted to update it would wait for each other.
    const inserted = await sql.execute(
      'insert ignore into inbox_sequence (consumer, aggregate, aggregate_id, applied, handled) values (?, ?, ?, 1, ?)',
      [...key, applied ? 1 : 0],
    );
    if (inserted.affectedRows > 0) return 'next';
  }
  const rows = await sql.query<{ applied: string | number }>(
    'select applied from inbox_sequence where consumer = ? and aggregate = ? and aggregate_id = ?',
    key,
  );
  return BigInt(rows[0]?.applied ?? 0) >= sequence ? 'duplicate' : 'early';
}

/** Notes that the message was dealt with. False when it was noted before. */
export async function noteMessage(sql: Sql, stream: Stream, delivery: Delivery, outcome: Outcome): Promise<boolean> {
  return (await noteMessages(sql, stream, [delivery], outcome)) > 0;
}

async function noteMessages(
  sql: Sql,
  stream: Stream,
  deliveries: readonly Delivery[],
  outcome: Outcome,
): Promise<number> {
  const params: Param[] = deliveries.flatMap((delivery) => [
    stream.consumer,
    delivery.messageId,
    delivery.type,
    delivery.aggregateId,
    delivery.sequence,
    outcome,
    digestOf(delivery),
  ]);
  const { affectedRows } = await sql.execute(
    `insert ignore into inbox (consumer, message_id, type, aggregate_id, sequence, outcome, body_digest, created_at)
     values ${deliveries.map(() => '(?, ?, ?, ?, ?, ?, ?, utc_timestamp(6))').join(', ')}`,
    params,
  );
  return affectedRows;
}

/** The first half of the SHA-256 of the body. */
export const digestOf = (delivery: Delivery): Buffer => bodyDigest(delivery.message.content);

export const bodyDigest = (body: Buffer): Buffer => hash('sha256', body, 'buffer').subarray(0, 16);

/** Whether this message id was dealt with as another event: of another type or sequence, or with another body. */
export async function isConflict(sql: Sql, stream: Stream, delivery: Delivery): Promise<boolean> {
  const [noted] = await sql.query<{
    type: string;
    aggregateId: string;
    sequence: string | number;
    digest: Buffer | null;
  }>(
    `select type, aggregate_id as aggregateId, sequence, body_digest as digest from inbox
     where consumer = ? and message_id = ?`,
    [stream.consumer, delivery.messageId],
  );
  if (!noted) return false;
  return (
    noted.type !== delivery.type ||
    noted.aggregateId !== delivery.aggregateId ||
    BigInt(noted.sequence) !== delivery.sequence ||
    (noted.digest !== null && !noted.digest.equals(digestOf(delivery)))
  );
}

/**
 * Moves an aggregate's sequence forward to a baseline. False when it is there already or further: it never moves back.
 * `withState`: the baseline brings the effects of the events that it stands in for, so that none of them is redriven.
 */
export async function moveToBaseline(
  sql: Sql,
  stream: Stream,
  { aggregateId, sequence, withState }: { aggregateId: string; sequence: bigint; withState: boolean },
): Promise<boolean> {
  const key: Param[] = [stream.consumer, stream.aggregate, aggregateId];
  await sql.execute(
    `insert into inbox_sequence (consumer, aggregate, aggregate_id, applied, handled) values (?, ?, ?, 0, 0)
     on duplicate key update applied = applied`,
    key,
  );
  const { affectedRows } = await sql.execute(
    `update inbox_sequence set applied = ?, baseline = ?${withState ? ', handled = ?' : ''}
     where consumer = ? and aggregate = ? and aggregate_id = ? and applied < ?`,
    [sequence, sequence, ...(withState ? [sequence] : []), ...key, sequence],
  );
  return affectedRows > 0;
}

/**
 * Steps the sequences of many aggregates past events that this service does not handle, in four
 * statements. Deliveries of one aggregate must come in the order of their sequence. Those that `isUnknown` accepts are
 * noted as dead: the caller keeps them for a version of the service that knows them.
 */
export async function skipMessages(
  sql: Sql,
  stream: Stream,
  deliveries: readonly Delivery[],
  isUnknown: (delivery: Delivery) => boolean,
): Promise<Step[]> {
  const ids = [...new Set(deliveries.map((delivery) => delivery.aggregateId))].sort();
  const before = await lockSequences(sql, stream, ids);
  const after = new Map(before);
  const steps = deliveries.map(({ aggregateId, sequence }): Step => {
    const applied = after.get(aggregateId) ?? 0n;
    if (sequence <= applied) return 'duplicate';
    if (sequence > applied + 1n) return 'early';
    after.set(aggregateId, sequence);
    return 'next';
  });
  const next = deliveries.filter((_, index) => steps[index] === 'next');
  if (next.length === 0) return steps;
  const [unknown, skipped] = [next.filter(isUnknown), next.filter((delivery) => !isUnknown(delivery))];
  if (skipped.length > 0) await noteMessages(sql, stream, skipped, 'skipped');
  if (unknown.length > 0) await noteMessages(sql, stream, unknown, 'dead');
  const moved = ids.filter((id) => after.get(id) !== before.get(id));
  await sql.execute(
    `insert into inbox_sequence (consumer, aggregate, aggregate_id, applied)
     values ${moved.map(() => '(?, ?, ?, ?)').join(', ')} on duplicate key update applied = values(applied)`,
    moved.flatMap((id) => [stream.consumer, stream.aggregate, id, after.get(id) ?? 0n]),
  );
  return steps;
}

/** Locks in one order, and makes missing rows first: a lock on a missing row would be a gap lock. */
async function lockSequences(sql: Sql, stream: Stream, ids: readonly string[]): Promise<Map<string, bigint>> {
  await sql.execute(
    `insert into inbox_sequence (consumer, aggregate, aggregate_id, applied, handled)
     values ${ids.map(() => '(?, ?, ?, 0, 0)').join(', ')} on duplicate key update applied = applied`,
    ids.flatMap((id) => [stream.consumer, stream.aggregate, id]),
  );
  const rows = await sql.query<{ id: string; applied: string | number }>(
    `select aggregate_id as id, applied from inbox_sequence
     where consumer = ? and aggregate = ? and aggregate_id in (${ids.map(() => '?').join(', ')})`,
    [stream.consumer, stream.aggregate, ...ids],
  );
  return new Map(rows.map((row) => [row.id, BigInt(row.applied)]));
}

/**
 * Forgets messages published longer ago than this, a bounded number at a time; the sequences still tell
 * their duplicates. Message ids are UUIDv7, so that their order is the order of time. Returns how many went.
 */
export async function purgeInbox(sql: Sql, keepHours: number, now: Date, rowsMax = 1000): Promise<number> {
  const oldestId = oldestIdOf(new Date(now.getTime() - keepHours * 3_600_000));
  const consumers = await sql.query<{ consumer: string }>('select distinct consumer from inbox');
  let purged = 0;
  for (const { consumer } of consumers) {
    const { affectedRows } = await sql.execute(
      'delete from inbox where consumer = ? and message_id < ? order by message_id limit ?',
      [consumer, oldestId, rowsMax],
    );
    purged += affectedRows;
  }
  return purged;
}
