import type { SqlReader } from '../db/tx.ts';

/** An aggregate, and the sequence of its last event. */
export interface AggregatePlace {
  readonly id: string;
  readonly sequence: bigint;
}

/** Reads the sequences of the aggregates of one type, from the tables of their owner. */
export interface BaselineSource {
  readonly aggregate: string;
  /** Returns the next aggregates in the order of their ids, at most `limit`; `ids`, when given, are the only ones. */
  page(sql: SqlReader, of: { after: string; limit: number; ids: readonly string[] }): Promise<AggregatePlace[]>;
  /** Full name of the message that `state` returns; required with it. */
  readonly stateType?: string;
  /**
   * Returns the aggregate's state and the sequence of the last event that it includes, both from one statement, so that
   * they belong together. Null when the aggregate no longer exists.
   */
  readonly state?: (sql: SqlReader, id: string) => Promise<{ sequence: bigint; state: Uint8Array } | null>;
}

/**
 * Reads sequences from a table that has a row for each aggregate, with its id (unique) and the sequence of its last
 * event.
 */
export function tableBaselines(of: { aggregate: string; table: string; id: string; sequence: string }): BaselineSource {
  const { aggregate, table, id, sequence } = of;
  return {
    aggregate,
    async page(sql, { after, limit, ids }) {
      const rows = await sql.query<{ id: string; sequence: string | number }>(
        `select ${id} as id, ${sequence} as sequence from ${table}
         where ${id} > ? ${ids.length > 0 ? `and ${id} in (?)` : ''} order by ${id} limit ?`,
        ids.length > 0 ? [after, ids, limit] : [after, limit],
      );
      return rows.map((row) => ({ id: row.id, sequence: BigInt(row.sequence) }));
    },
  };
}

/** Reads the sequences of aggregates that have events in the outbox; every service has one. */
export function outboxBaselines(aggregate: string): BaselineSource {
  return {
    aggregate,
    async page(sql, { after, limit, ids }) {
      const rows = await sql.query<{ id: string; sequence: string | number }>(
        `select aggregate_id as id, max(sequence) as sequence from outbox
         where aggregate = ? and aggregate_id > ? ${ids.length > 0 ? 'and aggregate_id in (?)' : ''}
         group by aggregate_id order by aggregate_id limit ?`,
        ids.length > 0 ? [aggregate, after, ids, limit] : [aggregate, after, limit],
      );
      return rows.map((row) => ({ id: row.id, sequence: BigInt(row.sequence) }));
    },
  };
}

/** Merges the sequences of several sources in the order of their ids; of one id the highest. */
export async function placesOf(
  sql: SqlReader,
  sources: readonly BaselineSource[],
  of: { after: string; limit: number; ids: readonly string[] },
): Promise<AggregatePlace[]> {
  const found = new Map<string, AggregatePlace>();
  for (const source of sources) {
    for (const place of await source.page(sql, of)) {
      const other = found.get(place.id);
      if (!other || other.sequence < place.sequence) found.set(place.id, place);
    }
  }
  return [...found.values()].sort((a, b) => (a.id < b.id ? -1 : 1)).slice(0, of.limit);
}
