import { randomUUID } from 'node:crypto';
import type { Database } from '../db/database.ts';
import { sleep } from '../time/sleep.ts';

/** A lease that one process at a time holds, by the database's clock. */
export interface Lease {
  /**
   * Takes or renews the lease. Returns the fencing token while this process holds it, else null. The holder renews once
   * in a third of the lease's time. Other processes ask at least twice a second, because the work of a dead holder
   * waits.
   */
  hold(): Promise<bigint | null>;
  /**
   * Runs work that may take longer than the lease, and renews the lease meanwhile. Work that is in progress keeps its
   * token: when the lease is lost nevertheless, its fenced statements change nothing.
   */
  during<T>(work: () => Promise<T>): Promise<T>;
  /** Drops the lease without a database access, after a fenced statement showed that it is lost. */
  lose(): void;
  /** Releases the lease so that another process need not wait for it to expire. */
  release(): Promise<void>;
}

const vacantAskMs = 500;

/**
 * The token grows with every change of holder. A statement that only the holder may run must compare it in its own
 * condition: a process that was paused past the expiry still assumes that it holds the lease.
 */
export function openLease(db: Pick<Database, 'read' | 'write'>, name: string, durationMs: number): Lease {
  const holder = randomUUID();
  let token: bigint | null = null;
  // By this process's monotonic clock, counted from before the statement: the holder stops using the lease before the
  // database lets it expire.
  let askAgainAt = 0;

  async function take(): Promise<void> {
    if (!(await seize()) && !((await create(db, name, holder)) && (await seize()))) return;
    const rows = await db.read(null, (sql) =>
      sql.query<{ token: string | number }>('select token from lease where name = ? and holder = ?', [name, holder]),
    );
    if (rows[0]) token = BigInt(rows[0].token);
  }

  async function seize(): Promise<boolean> {
    const { affectedRows } = await db.write(null, (sql) =>
      sql.execute(
        `update lease set holder = ?, token = token + 1, expires_at = utc_timestamp(6) + interval ? microsecond
         where name = ? and expires_at <= utc_timestamp(6)`,
        [holder, durationMs * 1000, name],
      ),
    );
    return affectedRows > 0;
  }

  async function renew(current: bigint): Promise<void> {
    const { affectedRows } = await db.write(null, (sql) =>
      sql.execute(
        `update lease set expires_at = utc_timestamp(6) + interval ? microsecond
         where name = ? and token = ? and expires_at > utc_timestamp(6)`,
        [durationMs * 1000, name, current],
      ),
    );
    if (affectedRows === 0) token = null;
    askAgainAt = performance.now() + durationMs / 3;
  }

  /** Ends when the signal is aborted or the lease is lost. A renewal that fails is tried again. */
  async function keepRenewing(ended: AbortSignal): Promise<void> {
    for (;;) {
      await sleep(durationMs / 3, ended);
      if (ended.aborted || token === null) return;
      // The work fails by itself where the database is unreachable.
      await renew(token).catch(() => undefined);
    }
  }

  return {
    async hold() {
      const now = performance.now();
      if (now < askAgainAt) return token;
      if (token !== null) await renew(token);
      if (token === null) await take();
      askAgainAt = now + (token === null ? Math.min(durationMs / 3, vacantAskMs) : durationMs / 3);
      return token;
    },
    async during(work) {
      const ended = new AbortController();
      const renewing = keepRenewing(ended.signal);
      try {
        return await work();
      } finally {
        ended.abort();
        await renewing;
      }
    },
    lose() {
      token = null;
      askAgainAt = 0;
    },
    async release() {
      if (token === null) return;
      const released = token;
      token = null;
      await db.write(null, (sql) =>
        sql.execute('update lease set expires_at = utc_timestamp(6) where name = ? and token = ?', [name, released]),
      );
    },
  };
}

/** Makes the row of a lease, free to take. Returns false when it is there already. */
async function create(db: Pick<Database, 'write'>, name: string, holder: string): Promise<boolean> {
  const { affectedRows } = await db.write(null, (sql) =>
    sql.execute('insert ignore into lease (name, holder, token, expires_at) values (?, ?, 0, utc_timestamp(6))', [
      name,
      holder,
    ]),
  );
  return affectedRows > 0;
}
