import type { Database } from '../db/database.ts';
import { Gauge, type Registry } from '../telemetry/metrics.ts';
import { cached } from './metrics.ts';

const cacheMs = 10_000;

/** How many dead letters wait for an operator and since when, looked up by a scrape and at most every 10 s. */
export function deadLetterGauges(db: Pick<Database, 'read'>, registry: Registry): void {
  const load = cached(cacheMs, async () => {
    const rows = await db.read(null, (sql) =>
      sql.query<{ letters: number | string; age: number | string | null; unknown: number | string }>(
        `select coalesce(sum(unknown_type = 0), 0) as letters, coalesce(sum(unknown_type = 1), 0) as unknown,
           timestampdiff(microsecond, min(if(unknown_type = 0, dead_at, null)), utc_timestamp(6)) as age
         from dead_letter where redriven_at is null and dropped_at is null`,
      ),
    );
    const [row] = rows;
    return {
      letters: Number(row?.letters ?? 0),
      ageSeconds: Number(row?.age ?? 0) / 1e6,
      unknown: Number(row?.unknown ?? 0),
    };
  });
  const gauge = (name: string, help: string, value: (found: Awaited<ReturnType<typeof load>>) => number) =>
    new Gauge({
      name,
      help,
      registers: [registry],
      async collect() {
        this.set(value(await load()));
      },
    });
  gauge('armature_dead_letters', 'Dead letters that wait for an operator', ({ letters }) => letters);
  gauge(
    'armature_dead_letters_oldest_age_seconds',
    'Age of the oldest of them; 0 when there is none',
    ({ ageSeconds }) => ageSeconds,
  );
  gauge(
    'armature_unknown_events_kept',
    'Events of unknown types that are kept for a later version of this service',
    ({ unknown }) => unknown,
  );
}
