import type { Param, Sql, SqlReader } from '../db/tx.ts';
import { RpcError } from '../errors/errors.ts';
import { oldestIdOf } from '../id/id.ts';
import { conflictOf, digestOf, notedOf } from './conflict.ts';
import type { Delivery } from './delivery.ts';

/**
 * The inbox of a consumer: which events of each aggregate have had their effect.
 *
 * `inbox_sequence` has one row per aggregate. `applied` is the last event of the unbroken sequence, so an event is
 * handled when it is `applied + 1`, and a smaller one is a duplicate. `inbox` has one row per message for some days,
 * with the digest of its body: it tells a second delivery from another event under a used id or sequence. A baseline
 * moves `applied` forward past events that are missing; `baseline_from` and `superseded` say which of them still need
 * an effect when they arrive after all.
 */

/**
 * The place of an event in the sequence of its aggregate. `next`: handle it now. `duplicate`: handled before. `early`:
 * an event before it is missing. `superseded`: it arrived after a baseline that includes its effect.
 */
export type Step = 'next' | 'duplicate' | 'early' | 'superseded';

/** `missed`: a baseline has moved the sequence past the event, and the event still needs its effect. */
export type Place = Step | 'missed';

/** The result of a message: its effect committed, not for this service, or a dead letter. */
export type Outcome = 'applied' | 'skipped' | 'dead';

/** A stream of events that one consumer applies: the queue, and the aggregate in it. */
export interface Stream {
  readonly consumer: string;
  readonly aggregate: string;
}

/**
 * Moves the aggregate's sequence to this event if it is the next one, and returns its place. The caller runs the
 * handler in the same transaction. The row stays locked until the transaction ends: a second consumer of the queue,
 * such as one that was paused, waits for it and then finds a duplicate.
 */
export async function stepSequence(sql: Sql, stream: Stream, delivery: Delivery, outcome: Outcome): Promise<Place> {
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
    // After the update, not before: an insert that finds the row keeps a shared lock, and two consumers that then tried
    // to update it would deadlock.
    const inserted = await sql.execute(
      'insert ignore into inbox_sequence (consumer, aggregate, aggregate_id, applied, handled) values (?, ?, ?, 1, ?)',
      [...key, applied ? 1 : 0],
    );
    if (inserted.affectedRows > 0) return 'next';
  }
  const [row] = await sql.query<SequenceRow>(
    `select ${sequenceColumns} from inbox_sequence where consumer = ? and aggregate = ? and aggregate_id = ?`,
    key,
  );
  const position = positionOf(row);
  if (sequence > position.applied) return 'early';
  if (sequence > position.baseline || (await notedOf(sql, stream.consumer, [delivery])).size > 0) return 'duplicate';
  return behindBaseline(position, sequence);
}

/** The position of an aggregate's sequence, and what its baselines have changed. */
interface Position {
  applied: bigint;
  /** The last event that a baseline replaced. */
  baseline: bigint;
  /** The sequence before its first baseline. */
  baselineFrom: bigint;
  /** Events up to here need no effect. */
  superseded: bigint;
}

type SequenceRow = Record<keyof Position, string | number>;
const sequenceColumns = 'applied, baseline, baseline_from as baselineFrom, superseded';

function positionOf(row: SequenceRow | undefined): Position {
  return {
    applied: BigInt(row?.applied ?? 0),
    baseline: BigInt(row?.baseline ?? 0),
    baselineFrom: BigInt(row?.baselineFrom ?? 0),
    superseded: BigInt(row?.superseded ?? 0),
  };
}

/** The place of an event that no baseline covers, and whose message was not recorded. */
function behindBaseline({ baselineFrom, superseded }: Position, sequence: bigint): Place {
  if (sequence > baselineFrom) return 'missed';
  return sequence <= superseded ? 'superseded' : 'duplicate';
}

/**
 * Decides on an event that a baseline has passed. It has its effect when no later event had one or the order does not
 * matter, and none when the state of a baseline includes it (`skipped`). Throws EVENT_SUPERSEDED when it would undo a
 * later event. The row stays locked until the transaction ends.
 */
export async function stepMissed(
  sql: Sql,
  stream: Stream,
  { aggregateId, sequence }: Delivery,
  orderIndependent: boolean,
): Promise<'applied' | 'skipped'> {
  const key: Param[] = [stream.consumer, stream.aggregate, aggregateId];
  const { affectedRows } = await sql.execute(
    `update inbox_sequence set handled = ?
     where consumer = ? and aggregate = ? and aggregate_id = ? and coalesce(handled, applied) < ?`,
    [sequence, ...key, sequence],
  );
  if (affectedRows > 0 || orderIndependent) return 'applied';
  const [row] = await sql.query<{ handled: string | number; superseded: string | number }>(
    'select handled, superseded from inbox_sequence where consumer = ? and aggregate = ? and aggregate_id = ?',
    key,
  );
  if (sequence <= BigInt(row?.superseded ?? 0)) return 'skipped';
  throw new RpcError(
    'FAILED_PRECONDITION',
    'EVENT_SUPERSEDED',
    `event ${sequence} came after event ${row?.handled}, which was applied; a baseline had passed it`,
  );
}

/** Records that the message was handled. Returns false when it was recorded before. */
export async function noteMessage(sql: Sql, stream: Stream, delivery: Delivery, outcome: Outcome): Promise<boolean> {
  return (await noteMessages(sql, stream, [delivery], outcome)) > 0;
}

async function noteMessages(
  sql: Sql,
  stream: Stream,
  deliveries: readonly Delivery[],
  outcome: Outcome,
): Promise<number> {
  if (deliveries.length === 0) return 0;
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

/**
 * Throws MESSAGE_ID_REUSED or SEQUENCE_REUSED when a message with a used id or sequence is not a second delivery of the
 * same message.
 */
export async function assertDuplicate(sql: SqlReader, stream: Stream, delivery: Delivery): Promise<void> {
  const noted = await notedOf(sql, stream.consumer, [delivery]);
  const conflict = conflictOf(delivery, noted.get(delivery.messageId));
  if (conflict) throw conflict;
}

/**
 * Moves an aggregate's sequence forward to a baseline. Returns false when it is further already, or equal and the
 * baseline has no state: it never moves back. `withState`: the baseline's state includes the effects of the events that
 * it covers, so none of them is redriven. `skipped`: they must have no effect.
 */
export async function moveToBaseline(
  sql: Sql,
  stream: Stream,
  baseline: { aggregateId: string; sequence: bigint; withState: boolean; skipped: boolean },
): Promise<boolean> {
  const { aggregateId, sequence, withState, skipped } = baseline;
  const key: Param[] = [stream.consumer, stream.aggregate, aggregateId];
  await sql.execute(
    `insert into inbox_sequence (consumer, aggregate, aggregate_id, applied, handled) values (?, ?, ?, 0, 0)
     on duplicate key update applied = applied`,
    key,
  );
  // Assigned from left to right, so that the first two see the previous position.
  const { affectedRows } = await sql.execute(
    `update inbox_sequence set
       baseline_from = ${skipped ? '?' : 'if(baseline = 0, applied, baseline_from)'},
       handled = ${withState ? '?' : 'coalesce(handled, applied)'},
       ${withState || skipped ? 'superseded = ?,' : ''} applied = ?, baseline = ?
     where consumer = ? and aggregate = ? and aggregate_id = ? and applied ${withState ? '<=' : '<'} ?`,
    [
      ...(skipped ? [sequence] : []),
      ...(withState ? [sequence] : []),
      ...(withState || skipped ? [sequence] : []),
      ...[sequence, sequence, ...key, sequence],
    ],
  );
  return affectedRows > 0;
}

/** The result of a batch of events without a handler. */
export interface Skipped {
  readonly steps: readonly Step[];
  /**
   * Events of unknown types, recorded as dead: the caller stores them for a version of the service that knows the
   * types.
   */
  readonly unknown: readonly Delivery[];
  /** Messages with a used sequence or message id that are not duplicates: the caller makes dead letters of them. */
  readonly conflicts: ReadonlyMap<Delivery, RpcError>;
}

/**
 * Steps the sequences of many aggregates past events that this service does not handle, in a few
 * statements. Deliveries of one aggregate must come in the order of their sequence.
 */
export async function skipMessages(
  sql: Sql,
  stream: Stream,
  deliveries: readonly Delivery[],
  isUnknown: (delivery: Delivery) => boolean,
): Promise<Skipped> {
  const ids = [...new Set(deliveries.map((delivery) => delivery.aggregateId))].sort();
  const positions = await lockSequences(sql, stream, ids);
  const moved = new Map<string, bigint>();
  const steps = deliveries.map(({ aggregateId, sequence }): Step => {
    const applied = moved.get(aggregateId) ?? positions.get(aggregateId)!.applied;
    if (sequence <= applied) return 'duplicate';
    if (sequence > applied + 1n) return 'early';
    moved.set(aggregateId, sequence);
    return 'next';
  });
  const next = deliveries.filter((_, index) => steps[index] === 'next');
  const unknown = next.filter(isUnknown);
  const skipped = next.filter((delivery) => !isUnknown(delivery));
  const fresh =
    (await noteMessages(sql, stream, skipped, 'skipped')) + (await noteMessages(sql, stream, unknown, 'dead'));
  if (moved.size > 0) {
    await sql.execute(
      `insert into inbox_sequence (consumer, aggregate, aggregate_id, applied)
       values ${[...moved].map(() => '(?, ?, ?, ?)').join(', ')} on duplicate key update applied = values(applied)`,
      [...moved].flatMap(([id, applied]) => [stream.consumer, stream.aggregate, id, applied]),
    );
  }
  // After the others were recorded: a batch may contain a message twice.
  const doubted = deliveries.filter((_, index) => steps[index] === 'duplicate' || fresh < next.length);
  const noted = await notedOf(sql, stream.consumer, doubted);
  const conflicts = new Map<Delivery, RpcError>();
  const late = new Map<string, Delivery>();
  for (const [index, delivery] of deliveries.entries()) {
    if (!doubted.includes(delivery) || steps[index] === 'early') continue;
    const known = noted.get(delivery.messageId);
    const position = positions.get(delivery.aggregateId)!;
    const behind = !known && delivery.sequence <= position.baseline;
    const place = behind ? behindBaseline(position, delivery.sequence) : 'duplicate';
    const conflict = place === 'duplicate' ? conflictOf(delivery, known) : null;
    if (conflict) conflicts.set(delivery, conflict);
    if (place === 'duplicate') continue;
    const isKept = place === 'missed' && isUnknown(delivery) && delivery.sequence > position.superseded;
    if (isKept) late.set(delivery.messageId, delivery);
    steps[index] = isKept ? 'next' : 'superseded';
  }
  await noteMessages(sql, stream, [...late.values()], 'dead');
  return { steps, unknown: [...unknown.filter((one) => !conflicts.has(one)), ...late.values()], conflicts };
}

/** Locks in one order, and inserts missing rows first: a lock on a missing row would be a gap lock. */
async function lockSequences(sql: Sql, stream: Stream, ids: readonly string[]): Promise<Map<string, Position>> {
  await sql.execute(
    `insert into inbox_sequence (consumer, aggregate, aggregate_id, applied, handled)
     values ${ids.map(() => '(?, ?, ?, 0, 0)').join(', ')} on duplicate key update applied = applied`,
    ids.flatMap((id) => [stream.consumer, stream.aggregate, id]),
  );
  const rows = await sql.query<SequenceRow & { id: string }>(
    `select aggregate_id as id, ${sequenceColumns} from inbox_sequence
     where consumer = ? and aggregate = ? and aggregate_id in (${ids.map(() => '?').join(', ')})`,
    [stream.consumer, stream.aggregate, ...ids],
  );
  return new Map(rows.map((row) => [row.id, positionOf(row)]));
}

/**
 * Deletes messages published longer ago than this, a bounded number at a time; the sequences still detect their
 * duplicates. Message ids are UUIDv7, so they sort by time. Returns how many.
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
