import type { Database } from '../db/database.ts';
import { Gauge, type Registry } from '../telemetry/metrics.ts';
import { cached } from './metrics.ts';

/** Counting stops here; above it the exact depth does not matter. */
const depthMax = 100_000;
const cacheMs = 5_000;

/** Depth and age of the outbox, read by a scrape and at most every 5 s. */
export function outboxGauges(db: Pick<Database, 'read'>, registry: Registry): void {
  const load = cached(cacheMs, async () => {
    const rows = await db.read(null, (sql) =>
      sql.query<{ depth: number | string; age: number | string | null }>(
        `select (select count(*) from (select 1 from outbox where pending = 1 limit ?) as capped) as depth,
           (select timestampdiff(microsecond, created_at, utc_timestamp(6)) from outbox
            where pending = 1 order by position limit 1) as age`,
        [depthMax],
      ),
    );
    return { depth: Number(rows[0]?.depth ?? 0), ageSeconds: Number(rows[0]?.age ?? 0) / 1e6 };
  });
  new Gauge({
    name: 'armature_outbox_depth',
    help: `Events not yet confirmed by the broker, counted up to ${depthMax}`,
    registers: [registry],
    async collect() {
      this.set((await load()).depth);
    },
  });
  new Gauge({
    name: 'armature_outbox_oldest_age_seconds',
    help: 'Age of the oldest event not yet confirmed by the broker',
    registers: [registry],
    async collect() {
      this.set((await load()).ageSeconds);
    },
  });
}
