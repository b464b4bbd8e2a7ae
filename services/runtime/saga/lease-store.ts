/** Leases of sagas, by the clock of the database. */
import type { Sql, SqlReader, Tx } from '../db/tx.ts';
import type { Json, LeasedSaga } from './definition.ts';
import type { Partition } from './partitions.ts';
import type { Status } from './store.ts';

const us = (ms: number) => Math.round(ms * 1000);

const inPartition =
  'name = ? and definition_version = ? and dependency = ? and urgent = ? and due_at <= utc_timestamp(6)';
const partitionParams = ({ name, version, dependency, urgent }: Partition) => [
  name,
  version,
  dependency,
  urgent ? 1 : 0,
];

/** Returns the partitions with due sagas: urgent ones first, then by the time since they became due. */
export async function duePartitions(sql: SqlReader, partitions: readonly Partition[]): Promise<Partition[]> {
  const earliest = partitions.map(
    (_, index) =>
      `(select ${index} as candidate, due_at from saga force index (saga_lane) where ${inPartition} order by due_at limit 1)`,
  );
  const rows = await sql.query<{ candidate: string | number }>(
    `select candidate from (${earliest.join(' union all ')}) due order by due_at`,
    partitions.flatMap(partitionParams),
  );
  const found = rows.map(({ candidate }) => partitions[Number(candidate)]!);
  return [...found.filter(({ urgent }) => urgent), ...found.filter(({ urgent }) => !urgent)];
}

export interface LeasedRow {
  saga_id: string;
  name: string;
  definition_version: number;
  subject_id: string;
  state: string;
  results: string;
  data: string;
  version: number;
  lease_token: string | number;
  traceparent: string | null;
  left_us: string | number;
  age_us: string | number;
}

const leasedColumns = `saga_id, name, definition_version, subject_id, state, results, data, version, lease_token, traceparent,
  timestampdiff(microsecond, utc_timestamp(6), deadline_at) as left_us,
  timestampdiff(microsecond, created_at, utc_timestamp(6)) as age_us`;

/** Locks up to `limit` due sagas of a partition. Sagas that another worker has locked are skipped. */
export function lockPartition(tx: Tx, partition: Partition, limit: number): Promise<LeasedRow[]> {
  return tx.query<LeasedRow>(
    `select ${leasedColumns}
     from saga force index (saga_lane) where ${inPartition} order by due_at limit ? for update skip locked`,
    [...partitionParams(partition), limit],
  );
}

/**
 * Locks up to `limit` due sagas of a partition whose time limit has passed. The partition is of new sagas: ended and
 * compensating ones are urgent, so the index has no more such rows than there are sagas to end.
 */
export function lockOverdue(tx: Tx, partition: Partition, limit: number): Promise<LeasedRow[]> {
  return tx.query<LeasedRow>(
    `select ${leasedColumns}
     from saga force index (saga_overdue) where ${inPartition} and deadline_at <= utc_timestamp(6)
     order by deadline_at limit ? for update skip locked`,
    [...partitionParams(partition), limit],
  );
}

/** Leases sagas that this transaction has locked. */
export async function leaseLocked(
  tx: Tx,
  sagaIds: readonly string[],
  lease: { holder: string; leaseMs: number },
): Promise<void> {
  await tx.execute(
    `update saga set lease_holder = ?, lease_token = lease_token + 1,
       status = if(status = 'STUCK', status, 'RUNNING'),
       due_at = utc_timestamp(6) + interval ? microsecond where saga_id in (?)`,
    [lease.holder, us(lease.leaseMs), sagaIds],
  );
}

/** Converts a leased row, without its state. `since`: when it was requested, by this process's monotonic clock. */
export const fromRow = (row: LeasedRow, since: number, leaseMs: number): Omit<LeasedSaga, 'state'> => ({
  sagaId: row.saga_id,
  subjectId: row.subject_id,
  data: JSON.parse(row.data) as unknown,
  traceparent: row.traceparent,
  token: BigInt(row.lease_token) + 1n,
  results: JSON.parse(row.results) as Record<string, Json>,
  version: row.version,
  leasedUntil: since + leaseMs,
  expiresAt: since + Number(row.left_us) / 1000,
  startedAt: since - Number(row.age_us) / 1000,
});

/** Extends a lease. Returns false when it is lost. */
export async function renewLease(sql: Sql, saga: LeasedSaga, leaseMs: number): Promise<boolean> {
  const { affectedRows } = await sql.execute(
    `update saga set due_at = utc_timestamp(6) + interval ? microsecond
     where saga_id = ? and lease_token = ? and lease_holder is not null`,
    [us(leaseMs), saga.sagaId, saga.token],
  );
  return affectedRows === 1;
}

/**
 * Releases a lease; the saga is due again after `dueInMs`, in the partition of its state. When a cancel request or an
 * operator has written a newer state meanwhile, the partition of that state stays, and the saga is due at once.
 */
export async function releaseLease(sql: Sql, saga: LeasedSaga, dueInMs: number, partition: Partition): Promise<void> {
  const { version } = saga;
  await sql.execute(
    `update saga set lease_holder = null,
       due_at = utc_timestamp(6) + interval if(version = ?, ?, 0) microsecond,
       dependency = if(version = ?, ?, dependency), urgent = if(version = ?, ?, urgent),
       status = case when status = 'STUCK' then status when version = ? and ? > 0 then 'WAITING' else 'RUNNING' end
     where saga_id = ? and lease_token = ? and lease_holder is not null`,
    [
      ...[version, us(dueInMs)],
      ...[version, partition.dependency, version, partition.urgent ? 1 : 0],
      ...[version, us(dueInMs)],
      ...[saga.sagaId, saga.token],
    ],
  );
}

/** Ends a lease without a next time: the saga has ended, or only an operator can resume it. */
export async function endLease(sql: Sql, saga: LeasedSaga, status: Status): Promise<void> {
  await sql.execute(
    `update saga set lease_holder = null, due_at = null, status = ?
     where saga_id = ? and lease_token = ? and version = ?`,
    [status, saga.sagaId, saga.token, saga.version],
  );
}
