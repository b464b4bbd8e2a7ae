import type { Decision } from '@armature/proto/access/v1/access.ts';
import { type Page, type Param, type Sql, type SqlReader, utcDate } from '@armature/runtime';

export interface VersionRow {
  version: bigint;
  digest: string;
  changedBy: string;
  change: string;
  changedAt: Date;
}

/** One version more than the page holds, newest first. */
export async function listVersions(sql: SqlReader, { size, after }: Page<readonly [string]>): Promise<VersionRow[]> {
  const rows = await sql.query<{
    version: string;
    digest: string;
    changed_by: string;
    changed: string;
    changed_at: string;
  }>(
    `select version, digest, changed_by, changed, changed_at from policy_version
     ${after ? 'where version < ?' : ''} order by version desc limit ${size + 1}`,
    after ? [String(after[0])] : [],
  );
  return rows.map((row) => ({
    version: BigInt(row.version),
    digest: row.digest,
    changedBy: row.changed_by,
    change: row.changed,
    changedAt: utcDate(row.changed_at),
  }));
}

/**
 * Adds decisions of `service`. A decision that is recorded already stays unchanged: the table is append-only.
 */
export async function insertDecisions(sql: Sql, service: string, decisions: readonly Decision[]): Promise<void> {
  if (decisions.length === 0) return;
  const rows = decisions.map((one): Param[] => [
    one.decisionId,
    service,
    one.workload,
    one.subject,
    one.permission,
    one.target,
    one.allowed ? 1 : 0,
    one.reason,
    one.policyVersion,
    one.callId,
    one.count,
    storable(one.decideTime),
  ]);
  // Every column accepts what the contract's rules accept, so a duplicate key is the only error that is ignored.
  await sql.execute(
    `insert ignore into decision (decision_id, service, workload, subject, permission, target, allowed, reason,
       policy_version, call_id, count, decided_at, recorded_at)
     values ${rows.map(() => '(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, coalesce(?, utc_timestamp(6)), utc_timestamp(6))').join(', ')}`,
    rows.flat(),
  );
}

/** With `insert ignore`, a time outside the column's range would be lost; the current time is stored instead. */
const storable = (at: Date | undefined): Date | null =>
  at && at.getTime() >= 0 && at.getTime() <= timeMax ? at : null;
const timeMax = Date.UTC(9999, 11, 31);

export interface DecisionFilter {
  /** Empty: any. */
  service: string;
  subject: string;
  permission: string;
  deniedOnly: boolean;
}

interface DecisionRow {
  position: string;
  decision_id: string;
  service: string;
  workload: string;
  subject: string;
  permission: string;
  target: string;
  allowed: number;
  reason: string;
  policy_version: string;
  call_id: string;
  count: number;
  decided_at: string;
}

/** One decision more than the page holds, those recorded last first. */
export async function listDecisions(
  sql: SqlReader,
  { service, subject, permission, deniedOnly }: DecisionFilter,
  { size, after }: Page<readonly [string]>,
): Promise<(Decision & { position: string })[]> {
  const conditions: [string, Param][] = [
    ...(service ? [['service = ?', service] as [string, Param]] : []),
    ...(subject ? [['subject = ?', subject] as [string, Param]] : []),
    ...(permission ? [['permission = ?', permission] as [string, Param]] : []),
    ...(deniedOnly ? [['allowed = ?', 0] as [string, Param]] : []),
    ...(after ? [['position < ?', String(after[0])] as [string, Param]] : []),
  ];
  const rows = await sql.query<DecisionRow>(
    `select position, decision_id, service, workload, subject, permission, target, allowed, reason, policy_version,
            call_id, count, decided_at from decision
     ${conditions.length > 0 ? `where ${conditions.map(([sql]) => sql).join(' and ')}` : ''}
     order by position desc limit ${size + 1}`,
    conditions.map(([, value]) => value),
  );
  return rows.map((row) => ({
    position: String(row.position),
    decisionId: row.decision_id,
    service: row.service,
    workload: row.workload,
    subject: row.subject,
    permission: row.permission,
    target: row.target,
    allowed: row.allowed === 1,
    reason: row.reason,
    policyVersion: row.policy_version,
    callId: row.call_id,
    count: row.count,
    decideTime: utcDate(row.decided_at),
  }));
}

/** Deletes decisions that were recorded more than `keptDays` ago, the oldest thousand. Returns how many. */
export async function purgeDecisions(sql: Sql, keptDays: number): Promise<number> {
  const { affectedRows } = await sql.execute('call purge_decisions(?)', [keptDays]);
  return affectedRows;
}
