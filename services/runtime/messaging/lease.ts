import { randomUUID } from 'node:crypto';
import type { Database } from '../db/database.ts';

/** A lease that one process at a time holds, by the database's clock. */
export interface Lease {
  /**
   * Takes or renews the lease. Returns the fencing token while this process holds it, else null. The holder renews once
   * in a third of the lease's time. Other processes ask at least twice a second, because the work of a dead holder
   * waits.
   */
  hold(): Promise<bigint | null>;
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
    if (!(await seize()) && !((await create()) && (await seize()))) return;
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

  async function create(): Promise<boolean> {
    const { affectedRows } = await db.write(null, (sql) =>
      sql.execute('insert ignore into lease (name, holder, token, expires_at) values (?, ?, 0, utc_timestamp(6))', [
        name,
        holder,
      ]),
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
