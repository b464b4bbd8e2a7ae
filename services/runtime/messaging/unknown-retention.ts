import type { Database } from '../db/database.ts';
import type { Param } from '../db/tx.ts';
import type { Logger } from '../telemetry/log.ts';
import { Counter, type Registry } from '../telemetry/metrics.ts';

const defaults = { days: 30, rows: 100_000, rowsAtOnce: 1_000 } as const;

/**
 * Deletes events of unknown types that are older than 30 days or not among the newest 100,000, a bounded number at a
 * time. Each round resolves to the number deleted; it is counted and logged, because these events were never handled.
 */
export function unknownRetention(
  { log, registry }: { log: Logger; registry: Registry },
  limits: Partial<Record<keyof typeof defaults, number>> = {},
): (db: Pick<Database, 'read' | 'write'>) => Promise<number> {
  const { days, rows, rowsAtOnce } = { ...defaults, ...limits };
  const dropped = new Counter({
    name: 'armature_unknown_events_dropped_total',
    help: `Events of unknown types that were forgotten unhandled: after ${days} days, or beyond ${rows} rows`,
    registers: [registry],
  });
  return async (db) => {
    const waiting = 'unknown_type = 1 and redriven_at is null and dropped_at is null';
    const forget = async (condition: string, value: Param): Promise<number> => {
      const { affectedRows } = await db.write(null, (sql) =>
        sql.execute(`delete from dead_letter where ${waiting} and ${condition} order by dead_at limit ?`, [
          value,
          rowsAtOnce,
        ]),
      );
      return affectedRows;
    };
    const old = await forget('dead_at < utc_timestamp(6) - interval ? day', days);
    const [beyond] = await db.read(null, (sql) =>
      sql.query<{ deadAt: string }>(
        `select dead_at as deadAt from dead_letter where ${waiting} order by dead_at desc limit 1 offset ?`,
        [rows],
      ),
    );
    const gone = old + (beyond ? await forget('dead_at <= ?', beyond.deadAt) : 0);
    if (gone > 0) {
      dropped.inc(gone);
      log.error({ dropped: gone, days, rows }, 'events of unknown types forgotten: no version has handled them');
    }
    return gone;
  };
}
