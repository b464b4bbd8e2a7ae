import type { Database } from '../db/database.ts';
import type { Param, SqlReader } from '../db/tx.ts';
import { crashPoint } from '../sync/crash-point.ts';
import type { Broker } from './connection.ts';
import type { RelayMetrics } from './metrics.ts';
import type { OutgoingMessage } from './publisher.ts';
import { eventsExchange } from './topology.ts';

export const leaseName = 'relay';

/** An outbox row as the database returns it: 64-bit numbers as number or string, times as UTC strings. */
export interface OutboxRow {
  position: string | number;
  messageId: string;
  type: string;
  routingKey: string;
  aggregate: string;
  aggregateId: string;
  sequence: string | number;
  payload: Buffer;
  traceparent: string;
  policyVersion: string;
  createdAt: string | Date;
}

export interface BatchResult {
  /** Positions that may be marked. */
  routed: (string | number)[];
  unrouted: (string | number)[];
  /** Events that were returned although a consumer is expected. */
  returned: number;
  /** The first failure; null when every row may be marked. */
  failure: Error | null;
}

export const outboxColumns = `position, message_id as messageId, type, routing_key as routingKey, aggregate,
  aggregate_id as aggregateId, sequence, payload, traceparent, policy_version as policyVersion, created_at as createdAt`;

/** Selects the oldest pending rows, except of aggregates whose queues are missing. */
export function selectPending(
  db: Pick<Database, 'read' | 'write'>,
  rowsMax: number,
  without: readonly string[],
): Promise<OutboxRow[]> {
  return db.read(null, async (sql) => {
    if (without.length === 0) {
      return sql.query<OutboxRow>(`select ${outboxColumns} from outbox where pending = 1 order by position limit ?`, [
        rowsMax,
      ]);
    }
    // One by one, because a filter on the oldest rows would read all rows that are blocked.
    const wanted = (await pendingAggregates(sql)).filter((aggregate) => !without.includes(aggregate));
    if (wanted.length === 0) return [];
    const one = `(select ${outboxColumns} from outbox where pending = 1 and aggregate = ? order by position limit ?)`;
    return sql.query<OutboxRow>(`${wanted.map(() => one).join(' union all ')} order by position limit ?`, [
      ...wanted.flatMap((aggregate) => [aggregate, rowsMax]),
      rowsMax,
    ]);
  });
}

/** Returns the aggregates with pending rows: one index lookup for each of the few that exist. */
async function pendingAggregates(sql: SqlReader): Promise<string[]> {
  const found: string[] = [];
  for (let last = ''; ; ) {
    const [row] = await sql.query<{ aggregate: string }>(
      'select aggregate from outbox where pending = 1 and aggregate > ? order by aggregate limit 1',
      [last],
    );
    if (!row) return found;
    found.push(row.aggregate);
    last = row.aggregate;
  }
}

/** Marks rows as published, unless another process holds the lease. Returns how many were marked. */
export async function markPublished(
  db: Pick<Database, 'read' | 'write'>,
  token: bigint,
  positions: readonly (string | number)[],
  unrouted: 0 | 1,
): Promise<number> {
  if (positions.length === 0) return 0;
  const params: Param[] = [unrouted, ...positions, leaseName, token];
  const { affectedRows } = await db.write(null, (sql) =>
    sql.execute(
      `update outbox set pending = null, published_at = utc_timestamp(6), unrouted = ?
       where position in (${positions.map(() => '?').join(', ')})
         and exists (select 1 from lease where name = ? and token = ?)`,
      params,
    ),
  );
  return affectedRows;
}

/**
 * Publishes rows in order and waits for every confirm. Of an aggregate, no event after a failed one counts as
 * published.
 */
export async function publishBatch(batch: {
  rows: readonly OutboxRow[];
  broker: Broker;
  service: string;
  metrics: RelayMetrics;
  expects: (aggregate: string) => boolean;
}): Promise<BatchResult> {
  const { rows, broker, service, metrics } = batch;
  const since = performance.now();
  const sent = rows.map((row) => broker.publish(toMessage(row, service)));
  crashPoint('relay.published');
  const confirms = await Promise.allSettled(sent);
  metrics.confirmSeconds.observe((performance.now() - since) / 1000);
  const result: BatchResult = { routed: [], unrouted: [], returned: 0, failure: null };
  const broken = new Set<string>();
  for (const [index, row] of rows.entries()) {
    const confirm = confirms[index]!;
    const key = `${row.aggregate}/${row.aggregateId}`;
    if (confirm.status === 'rejected') {
      broken.add(key);
      result.failure ??= confirm.reason;
    } else if (confirm.value === 'unrouted' && batch.expects(row.aggregate)) {
      broken.add(key);
      result.returned += 1;
      result.failure ??= new Error(`${row.type} ${row.messageId} came back: no queue is bound to ${row.routingKey}`);
    } else if (!broken.has(key)) {
      result[confirm.value].push(row.position);
    }
  }
  metrics.returned.inc(result.returned);
  return result;
}

/** Makes the message of an event, under its own routing key or another. */
export function toMessage(row: OutboxRow, service: string, routingKey = row.routingKey): OutgoingMessage {
  const createdAtMs = parseUtc(row.createdAt);
  return {
    exchange: eventsExchange,
    routingKey,
    body: row.payload,
    properties: {
      messageId: row.messageId,
      type: row.type,
      contentType: 'application/protobuf',
      timestamp: Math.floor(createdAtMs / 1000),
      appId: service,
      headers: {
        aggregate: row.aggregate,
        'aggregate-id': row.aggregateId,
        sequence: String(row.sequence),
        'created-at-ms': createdAtMs,
        traceparent: row.traceparent,
        'policy-version': row.policyVersion,
      },
    },
  };
}

/** The database returns "2026-11-01 12:00:00.123456", in UTC. */
export function parseUtc(time: string | Date): number {
  return time instanceof Date ? time.getTime() : Date.parse(`${time.replace(' ', 'T').slice(0, 23)}Z`);
}
