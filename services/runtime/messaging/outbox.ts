import type { EventContract } from '@armature/proto/contract.ts';
import { v7 as uuidv7 } from 'uuid';
import { policyVersionOf } from '../authz/authorization.ts';
import { type CallContext, principalOf } from '../context/call-context.ts';
import { contextKey } from '../context/keys.ts';
import { traceparent } from '../context/trace.ts';
import type { CommitParticipant, Param, Sql, Tx } from '../db/tx.ts';
import { crashPointOf } from '../sync/crash-point.ts';

/** An event that a transaction emitted. `sequence` is the aggregate's own count: from 1, without gaps. */
export interface OutboxEvent {
  readonly event: EventContract;
  readonly message: unknown;
  readonly sequence: bigint;
}

const emitted = contextKey<OutboxEvent[] | null>('emitted events', null);

/**
 * Adds an event to the transaction. `sequence` is the aggregate's own count: from 1, without gaps. All events of a
 * transaction are inserted together, just before it commits.
 */
export function emit<E>(tx: Tx, event: EventContract<E>, message: E, sequence: bigint): void {
  const events = tx.get(emitted);
  if (!events) throw new Error(`${event.type}: this database has no outbox`);
  events.push({ event, message, sequence });
}

/** Writes the events that a transaction emitted. `onCommitted` is called after a commit that wrote events. */
export const outbox = (onCommitted: () => void = () => {}): CommitParticipant => ({
  begin: (tx) => tx.set(emitted, []),
  async beforeCommit(tx, call) {
    const events = tx.get(emitted) ?? [];
    if (events.length === 0) return;
    await tx.em.flush();
    await writeOutbox(tx, call, events);
    crashPointOf(call.name, 'before-commit');
  },
  committed(tx, call) {
    if (!tx.get(emitted)?.length) return;
    crashPointOf(call.name, 'committed');
    onCommitted();
  },
});

/** Large content belongs elsewhere; the event refers to it by an id. */
export const eventBytesMax = 1024 * 1024;

/** The pattern of aggregate ids that consumers accept. */
export const aggregateIdPattern = /^[\x21-\x7e]{1,64}$/;

const columns = 11;
const rowPlaceholders = `(${Array(columns - 1)
  .fill('?')
  .join(', ')}, utc_timestamp(6))`;

/**
 * Writes events in one statement, inside the transaction of the change that they report. A used sequence number
 * violates the unique key, which reveals a lost update of an aggregate.
 */
export async function writeOutbox(sql: Sql, call: CallContext, events: readonly OutboxEvent[]): Promise<void> {
  if (events.length === 0) return;
  const parent = traceparent(call.trace);
  const author = principalOf(call.caller).slice(0, 128);
  const params: Param[] = [];
  for (const { event, message, sequence } of events) {
    if (sequence < 1n) throw new Error(`${event.type}: sequence ${sequence} must be 1 or more`);
    const payload = Buffer.from(event.message.encode(message).finish());
    if (payload.length > eventBytesMax) {
      throw new Error(`${event.type}: an event of ${payload.length} bytes exceeds ${eventBytesMax}`);
    }
    const aggregateId = event.aggregateId(message);
    if (!aggregateIdPattern.test(aggregateId)) {
      throw new Error(`${event.type}: the id of its ${event.aggregate} must be 1 to 64 visible ASCII characters`);
    }
    params.push(uuidv7(), event.type, event.routingKey, event.aggregate, aggregateId, sequence, payload);
    params.push(parent, policyVersionOf(call), author);
  }
  await sql.execute(
    `insert into outbox (message_id, type, routing_key, aggregate, aggregate_id, sequence, payload,
       traceparent, policy_version, created_by, created_at)
     values ${Array(events.length).fill(rowPlaceholders).join(', ')}`,
    params,
  );
}

/** Deletes events that were published longer ago than this, a bounded number at a time. Returns how many. */
export async function purgeOutbox(sql: Sql, keepHours: number, rowsMax = 1000): Promise<number> {
  const { affectedRows } = await sql.execute(
    // Pending rows have no published_at.
    `delete from outbox where published_at < utc_timestamp(6) - interval ? hour order by published_at limit ?`,
    [keepHours, rowsMax],
  );
  return affectedRows;
}
