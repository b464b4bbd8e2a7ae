import type { Sql } from '../db/tx.ts';

/** How long a dead letter is kept after an operator has redriven or dropped it. Open ones are kept until then. */
const resolvedDays = 90;
const rowsMax = 500;

/** Deletes dead letters that were resolved long ago, a bounded number at a time. Returns how many went. */
export async function purgeDeadLetters(sql: Sql): Promise<number> {
  let purged = 0;
  for (const resolved of ['redriven_at', 'dropped_at']) {
    const { affectedRows } = await sql.execute(
      `delete from dead_letter where ${resolved} < utc_timestamp(6) - interval ${resolvedDays} day
       order by ${resolved} limit ${rowsMax}`,
    );
    purged += affectedRows;
  }
  return purged;
}
