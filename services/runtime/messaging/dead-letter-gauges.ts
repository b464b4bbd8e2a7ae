import type { Database } from '../db/database.ts';
import { Gauge, type Registry } from '../telemetry/metrics.ts';
import { cached } from './metrics.ts';

const cacheMs = 10_000;
/** Counting stops here; above it the exact number does not matter. */
const countMax = 10_000;

/** The index dead_letter_waiting serves these queries, however many resolved dead letters there are. */
const waiting = (unknownType: 0 | 1) => `unknown_type = ${unknownType} and redriven_at is null and dropped_at is null`;
const countOf = (unknownType: 0 | 1) =>
  `select count(*) from (select 1 from dead_letter where ${waiting(unknownType)} limit ${countMax}) as capped`;
const oldestAge = `select timestampdiff(microsecond, dead_at, utc_timestamp(6)) from dead_letter where ${waiting(0)}
  order by dead_at limit 1`;

export const gaugeStatements: readonly string[] = [countOf(0), countOf(1), oldestAge];

/**
 * The number of dead letters that wait for an operator and the age of the oldest, read by a scrape and at most every 10
 * s.
 */
export function deadLetterGauges(db: Pick<Database, 'read'>, registry: Registry): void {
  const load = cached(cacheMs, async () => {
    const rows = await db.read(null, (sql) =>
      sql.query<{ waiting: number | string; age: number | string | null; kept: number | string }>(
        `select (${countOf(0)}) as waiting, (${countOf(1)}) as kept, (${oldestAge}) as age`,
      ),
    );
    const [row] = rows;
    return {
      waiting: Number(row?.waiting ?? 0),
      ageSeconds: Number(row?.age ?? 0) / 1e6,
      unknown: Number(row?.kept ?? 0),
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
  gauge(
    'armature_dead_letters',
    `Dead letters that wait for an operator, counted up to ${countMax}`,
    ({ waiting }) => waiting,
  );
  gauge(
    'armature_dead_letters_oldest_age_seconds',
    'Age of the oldest of them; 0 when there is none',
    ({ ageSeconds }) => ageSeconds,
  );
  gauge(
    'armature_unknown_events_kept',
    `Events of unknown types that are kept for a later version of this service, counted up to ${countMax}`,
    ({ unknown }) => unknown,
  );
}
