import { type Database, exponentialBackoffMs, type Sql, sleep } from '@armature/runtime';
import { subjectHash } from './account.ts';

/** Failures that cost nothing: people mistype. A source is shared by many, so it gets more. */
const free = { account: 3, source: 20 };
const growth = { initialBackoffMs: 250, maxBackoffMs: 8_000 };
/** Who has not tried for so long begins anew. */
const forgottenAfterS = 15 * 60;

/** How long an attempt must wait when this many came before it without success. It doubles, and never grows past 8 s. */
export function delayAfter(failures: number, kind: keyof typeof free): number {
  const over = failures - free[kind];
  return over <= 0 ? 0 : exponentialBackoffMs(over, growth);
}

/** One attempt to sign in, which counts as failed until it is known to have succeeded. */
export interface Attempt {
  readonly delayMs: number;
  /** Waits for as long as the failures before it demand, or until the signal is aborted. */
  delay(signal: AbortSignal): Promise<void>;
  /** Forgets the failures of the account; the source keeps all but this one. */
  succeeded(): Promise<void>;
}

export type Throttle = ReturnType<typeof throttle>;

/**
 * Slows down guessing, by address and by source; no account is ever locked out. Counts are in the
 * database, so that restarts and other instances know them, under hashes, for addresses that have no account as well.
 */
export function throttle(db: Database) {
  return {
    /** Counts the attempt before anything is compared: those made side by side wait for one another's failures. */
    async begin(address: string, source: string): Promise<Attempt> {
      const account = subjectHash('address', address);
      const from = subjectHash('source', source);
      const counts = {
        account: await db.write(null, (sql) => count(sql, account)),
        source: await db.write(null, (sql) => count(sql, from)),
      };
      const delayMs = Math.max(delayAfter(counts.account - 1, 'account'), delayAfter(counts.source - 1, 'source'));
      return {
        delayMs,
        delay: (signal) => (delayMs > 0 ? sleep(delayMs, signal) : Promise.resolve()),
        async succeeded() {
          await db.write(null, (sql) => sql.execute('delete from attempt where subject_hash = ?', [account]));
          await db.write(null, (sql) =>
            sql.execute('update attempt set failures = greatest(failures - 1, 0) where subject_hash = ?', [from]),
          );
        },
      };
    },

    async purge(sql: Sql): Promise<number> {
      const { affectedRows } = await sql.execute(
        'delete from attempt where attempted_at < utc_timestamp(6) - interval ? second limit 500',
        [forgottenAfterS],
      );
      return affectedRows;
    },
  };
}

async function count(sql: Sql, subject: Buffer): Promise<number> {
  await sql.execute(
    `insert into attempt (subject_hash, failures, attempted_at) values (?, 1, utc_timestamp(6))
     on duplicate key update
       failures = if(attempted_at < utc_timestamp(6) - interval ? second, 1, least(failures + 1, 1000)),
       attempted_at = utc_timestamp(6)`,
    [subject, forgottenAfterS],
  );
  const rows = await sql.query<{ failures: number }>('select failures from attempt where subject_hash = ?', [subject]);
  return rows[0]?.failures ?? 1;
}
