/**
 * Baselines, as the owner of an aggregate publishes them to the queue of one consumer: the sequence of each aggregate,
 * then its events that are still in the outbox. See docs/adr/0040.
 */

import { Baseline } from '@armature/proto/runtime/v1/baseline.ts';
import { v7 as uuidv7 } from 'uuid';
import { policyVersionOf } from '../authz/authorization.ts';
import { type CallContext, principalOf } from '../context/call-context.ts';
import { traceparent } from '../context/trace.ts';
import type { Database } from '../db/database.ts';
import type { SqlReader } from '../db/tx.ts';
import { rpcError } from '../errors/errors.ts';
import type { AggregatePlace, BaselineSource } from './baseline-source.ts';
import type { Broker } from './connection.ts';
import { baselineType } from './delivery.ts';
import type { OutgoingMessage } from './publisher.ts';
import { type OutboxRow, outboxColumns, toMessage } from './relay-batch.ts';
import { baselineRoutingKey, eventsExchange } from './topology.ts';

export interface BaselinePublisher {
  /**
   * Publishes the baselines of these aggregates and their events in the outbox, and waits for the broker's confirms.
   * Throws BASELINE_UNROUTED when the consumer has not bound its queue, UNAVAILABLE when the broker is unreachable.
   * Stops early, after a whole aggregate, shortly before the deadline of `call`; `done` says how many are complete.
   */
  publish(call: CallContext, request: BaselineRequest): Promise<Published>;
}

export interface BaselineRequest {
  db: Pick<Database, 'read'>;
  aggregate: string;
  consumer: string;
  places: readonly AggregatePlace[];
  source: BaselineSource;
  skipHistory: boolean;
  dryRun: boolean;
}

export interface Published {
  done: number;
  baselines: number;
  events: bigint;
}

/** Number of events that are read and published at once. */
const chunkRows = 100;
/** The part of the call's time that is reserved for its response. */
const reserveMs = 5_000;

export function baselinePublisher(parts: { service: string; broker: Pick<Broker, 'publish'> }): BaselinePublisher {
  return {
    async publish(call, request) {
      const ids = request.places.map((place) => place.id);
      const histories = await request.db.read(call, (sql) => historiesOf(sql, request.aggregate, ids));
      const published: Published = { done: 0, baselines: 0, events: 0n };
      for (const place of request.places) {
        if (published.done > 0 && Date.now() > call.deadline - reserveMs) break;
        const plan = planOf(place, histories.get(place.id), request.skipHistory);
        published.baselines += await publishBaseline(parts, call, request, place, plan);
        published.events += await publishHistory(parts, call, request, place, plan);
        published.done += 1;
      }
      return published;
    },
  };
}

/** The events of an aggregate that the outbox contains. */
interface History {
  first: bigint;
  /** The last one that was published. */
  published: bigint;
  last: bigint;
  rows: bigint;
}

async function historiesOf(sql: SqlReader, aggregate: string, ids: readonly string[]): Promise<Map<string, History>> {
  if (ids.length === 0) return new Map();
  const rows = await sql.query<Record<'id' | 'first' | 'last' | 'many', string> & { pending: string | null }>(
    `select aggregate_id as id, min(sequence) as first, max(sequence) as last, count(*) as many,
       min(if(pending = 1, sequence, null)) as pending
     from outbox where aggregate = ? and aggregate_id in (?) group by aggregate_id`,
    [aggregate, ids],
  );
  return new Map(
    rows.map(({ id, first, last, many, pending }) => {
      const published = pending === null ? BigInt(last) : BigInt(pending) - 1n;
      return [id, { first: BigInt(first), last: BigInt(last), rows: BigInt(many), published }];
    }),
  );
}

/** The sequence after which the consumer gets events, and which of them are published again. */
interface Plan {
  /** Events after this one are published again or still pending. */
  historyAfter: bigint;
  /** The last one that is published again; not above `historyAfter` when none is. */
  replayTo: bigint;
}

/**
 * The relay publishes pending events. Of a history with a gap, which only a manual repair makes, nothing is published
 * again.
 */
function planOf(place: AggregatePlace, history: History | undefined, skipHistory: boolean): Plan {
  if (!history) return { historyAfter: place.sequence, replayTo: 0n };
  const whole = history.last - history.first + 1n === history.rows;
  if (skipHistory || !whole) return { historyAfter: history.published, replayTo: 0n };
  return { historyAfter: history.first - 1n, replayTo: history.published };
}

type Parts = Parameters<typeof baselinePublisher>[0];

/** Returns how many messages were published: none when the whole history is published again and there is no state. */
async function publishBaseline(
  parts: Parts,
  call: CallContext,
  { db, aggregate, consumer, source, skipHistory, dryRun }: BaselineRequest,
  { id, sequence }: AggregatePlace,
  { historyAfter }: Plan,
): Promise<number> {
  const { stateType = '', state: readState } = source;
  const loaded = readState ? await db.read(call, (sql) => readState(sql, id)) : null;
  if (!loaded && historyAfter <= 0n) return 0;
  if (dryRun) return 1;
  const baseline: Baseline = {
    ...{ aggregate, aggregateId: id, historyAfter, historySkipped: skipHistory },
    sequence: loaded?.sequence ?? sequence,
    stateType: loaded ? stateType : '',
    state: loaded?.state ?? new Uint8Array(),
  };
  await confirmed(parts, consumer, [
    {
      exchange: eventsExchange,
      routingKey: baselineRoutingKey(parts.service, aggregate, consumer),
      body: Buffer.from(Baseline.encode(baseline).finish()),
      properties: {
        messageId: uuidv7(),
        type: baselineType,
        contentType: 'application/protobuf',
        timestamp: Math.floor(Date.now() / 1000),
        appId: parts.service,
        headers: {
          aggregate,
          'aggregate-id': id,
          'created-at-ms': Date.now(),
          'created-by': principalOf(call.caller),
          traceparent: traceparent(call.trace),
          'policy-version': policyVersionOf(call),
        },
      },
    },
  ]);
  return 1;
}

async function publishHistory(
  parts: Parts,
  call: CallContext,
  { db, aggregate, consumer, dryRun }: BaselineRequest,
  { id }: AggregatePlace,
  { historyAfter, replayTo }: Plan,
): Promise<bigint> {
  if (replayTo <= historyAfter) return 0n;
  if (dryRun) return replayTo - historyAfter;
  const routingKey = baselineRoutingKey(parts.service, aggregate, consumer);
  for (let after = historyAfter; after < replayTo; ) {
    const rows = await db.read(call, (sql) =>
      sql.query<OutboxRow>(
        `select ${outboxColumns} from outbox
         where aggregate = ? and aggregate_id = ? and sequence > ? and sequence <= ? order by sequence limit ?`,
        [aggregate, id, after, replayTo, chunkRows],
      ),
    );
    // The retention job has just deleted them.
    if (rows.length === 0) break;
    await confirmed(
      parts,
      consumer,
      rows.map((row) => toMessage(row, parts.service, routingKey)),
    );
    after = BigInt(rows.at(-1)!.sequence);
  }
  return replayTo - historyAfter;
}

async function confirmed({ service, broker }: Parts, consumer: string, messages: readonly OutgoingMessage[]) {
  const outcomes = await Promise.all(messages.map((message) => broker.publish(message)));
  if (!outcomes.includes('unrouted')) return;
  throw rpcError(
    'FAILED_PRECONDITION',
    'BASELINE_UNROUTED',
    `no queue of ${consumer} takes baselines of ${service}; start ${consumer} and wait until it is ready`,
    { consumer },
  );
}
