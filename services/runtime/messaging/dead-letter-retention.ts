import type { Database } from '../db/database.ts';

/** How long a dead letter is kept after an operator has redriven or dropped it. Open ones are kept until then. */
const resolvedDays = 90;
const rowsMax = 500;

/** Deletes dead letters that were resolved more than 90 days ago, a bounded number at a time. Returns how many. */
export async function purgeDeadLetters(db: Pick<Database, 'write'>): Promise<number> {
  let purged = 0;
  for (const resolved of ['redriven_at', 'dropped_at']) {
    const { affectedRows } = await db.write(null, (sql) =>
      sql.execute(
        `delete from dead_letter where ${resolved} < utc_timestamp(6) - interval ${resolvedDays} day
         order by ${resolved} limit ${rowsMax}`,
      ),
    );
    purged += affectedRows;
  }
  return purged;
}
