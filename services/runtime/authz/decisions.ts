import type { Decision } from '@armature/proto/access/v1/access.ts';
import { type Param, type Sql, type SqlReader, utcDate } from '../db/tx.ts';

/** A decision that waits to be sent to access. */
export interface PendingDecision {
  readonly position: string;
  readonly decision: Decision;
}

const columns =
  'decision_id, workload, subject, permission, target, allowed, reason, policy_version, call_id, times, decided_at';
const placeholders = `(${Array(11).fill('?').join(', ')})`;

/** Values that are too long are cut here, so that the statement does not fail: a record may be shortened, not lost. */
export async function insertDecisions(sql: Sql, decisions: readonly Decision[]): Promise<void> {
  if (decisions.length === 0) return;
  const params = decisions.flatMap((one): Param[] => [
    one.decisionId,
    one.workload.slice(0, 80),
    one.subject.slice(0, 80),
    one.permission.slice(0, 98),
    one.target.slice(0, 190),
    one.allowed,
    one.reason.slice(0, 300),
    one.policyVersion.slice(0, 64),
    one.callId.slice(0, 64),
    one.count,
    one.decideTime ?? new Date(),
  ]);
  const rows = Array(decisions.length).fill(placeholders).join(', ');
  await sql.execute(`insert into decision_outbox (${columns}) values ${rows}`, params);
}

interface Row {
  position: string | number;
  decision_id: string;
  workload: string;
  subject: string;
  permission: string;
  target: string;
  allowed: number;
  reason: string;
  policy_version: string;
  call_id: string;
  times: number;
  decided_at: string;
}

/** The oldest, at most `limit`. */
export async function pendingDecisions(sql: SqlReader, limit: number): Promise<PendingDecision[]> {
  const rows = await sql.query<Row>(
    `select position, ${columns} from decision_outbox where refused_at is null order by position limit ?`,
    [limit],
  );
  return rows.map((row) => ({
    position: String(row.position),
    decision: {
      decisionId: row.decision_id,
      service: '',
      workload: row.workload,
      subject: row.subject,
      permission: row.permission,
      target: row.target,
      allowed: row.allowed === 1,
      reason: row.reason,
      policyVersion: row.policy_version,
      callId: row.call_id,
      count: row.times,
      decideTime: utcDate(row.decided_at),
    },
  }));
}

export async function deleteDecisions(sql: Sql, positions: readonly string[]): Promise<void> {
  await sql.execute('delete from decision_outbox where position in (?)', [positions]);
}

/** Marks a decision that access refused, with the error of access, so that it does not block those behind it. */
export async function refuseDecision(sql: Sql, position: string, refusal: string): Promise<void> {
  await sql.execute('update decision_outbox set refused_at = utc_timestamp(6), refusal = ? where position = ?', [
    refusal.slice(0, 300),
    position,
  ]);
}

/** Returns how many were refused, counted up to `limit`. */
export async function countRefused(sql: SqlReader, limit: number): Promise<number> {
  const rows = await sql.query<{ refused: number | string }>(
    'select count(*) as refused from (select 1 from decision_outbox where refused_at > 0 limit ?) as found',
    [limit],
  );
  return Number(rows[0]?.refused ?? 0);
}

/** Deletes decisions that were refused more than `days` ago, a bounded number at a time. */
export async function dropRefused(sql: Sql, days: number): Promise<number> {
  const { affectedRows } = await sql.execute(
    'delete from decision_outbox where refused_at < utc_timestamp(6) - interval ? day order by refused_at limit 1000',
    [days],
  );
  return affectedRows;
}

/** Returns how many wait, counted up to `limit`; the exact number above it does not matter. */
export async function countDecisions(sql: SqlReader, limit: number): Promise<number> {
  const rows = await sql.query<{ pending: number | string }>(
    'select count(*) as pending from (select 1 from decision_outbox where refused_at is null limit ?) as waiting',
    [limit],
  );
  return Number(rows[0]?.pending ?? 0);
}

/**
 * Deletes decisions that are both older than `days` and not among the newest `keepRows`, oldest first, a bounded number
 * at a time. It reads no more rows than it may delete: when access is unreachable for long, millions of rows wait that
 * are too young.
 */
export async function dropDecisions(sql: Sql, days: number, keepRows: number): Promise<number> {
  const [newest] = await sql.query<{ position: number | string | null }>(
    'select max(position) as position from decision_outbox',
  );
  const last = BigInt(newest?.position ?? 0) - BigInt(keepRows);
  if (last < 1n) return 0;
  const oldest = await sql.query<{ position: number | string; old: number }>(
    `select position, decided_at < utc_timestamp(6) - interval ? day as old from decision_outbox
     where position <= ? order by position limit 1000`,
    [days, last],
  );
  const old = oldest.filter((row) => row.old === 1).map(({ position }) => String(position));
  if (old.length === 0) return 0;
  const { affectedRows } = await sql.execute('delete from decision_outbox where position in (?)', [old]);
  return affectedRows;
}
