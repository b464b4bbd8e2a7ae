import type { Param, Sql } from '../db/tx.ts';
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
 * Steps the aggregate's sequence to this event if it is the next one. The row stays locked until the
 * transaction ends, so that a second consumer, such as one that was believed dead, waits and then finds a
 * duplicate.
 */
export async function stepSequence(sql: Sql, stream: Stream, delivery: Delivery): Promise<Step> {
  const key: Param[] = [stream.consumer, stream.aggregate, delivery.aggregateId];
  const { sequence } = delivery;
  if (sequence === 1n) {
    const { affectedRows } = await sql.execute(
      'insert ignore into inbox_sequence (consumer, aggregate, aggregate_id, applied) values (?, ?, ?, 1)',
      key,
    );
    if (affectedRows > 0) return 'next';
  }
  const { affectedRows } = await sql.execute(
    'update inbox_sequence set applied = ? where consumer = ? and aggregate = ? and aggregate_id = ? and applied = ?',
    [sequence, ...key, sequence - 1n],
  );
  if (affectedRows > 0) return 'next';
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
  ]);
  const { affectedRows } = await sql.execute(
    `insert ignore into inbox (consumer, message_id, type, aggregate_id, sequence, outcome, created_at)
     values ${deliveries.map(() => '(?, ?, ?, ?, ?, ?, utc_timestamp(6))').join(', ')}`,
    params,
  );
  return affectedRows;
}

/**
 * Steps the sequences of many aggregates past events that this service does not handle, in four
 * statements. Deliveries of one aggregate must come in the order of their sequence.
 */
export async function skipMessages(sql: Sql, stream: Stream, deliveries: readonly Delivery[]): Promise<Step[]> {
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
  await noteMessages(sql, stream, next, 'skipped');
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
    `insert into inbox_sequence (consumer, aggregate, aggregate_id, applied)
     values ${ids.map(() => '(?, ?, ?, 0)').join(', ')} on duplicate key update applied = applied`,
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
  const oldestMs = now.getTime() - keepHours * 3_600_000;
  const hex = oldestMs.toString(16).padStart(12, '0');
  const oldestId = `${hex.slice(0, 8)}-${hex.slice(8)}-0000-0000-000000000000`;
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
