import type { Connection, RowDataPacket } from 'mysql2/promise';
import { connectMysql } from '../../scripts/devmesh/servers/mysql.ts';
import type { Teardown } from '../support/infra.ts';
import type { RunningService } from '../support/service.ts';

/** Everything that services have written, in a form to compare: row count and checksum by table. */
export type Snapshot = Record<string, string>;

/**
 * Leases are renewed periodically. Stored responses are counted separately: a business error is stored under its key,
 * which is no effect. The record of a denial and its delivery to access are no effects either. Orders notes when it looks
 * for orders of erased customers again.
 */
const apart = new Set([
  'lease',
  'idempotency',
  'decision',
  'decision_outbox',
  'reconciliation_position',
  'erased_customer',
]);

/** Returns a function that takes snapshots of the schemas of these services. */
export async function snapshots(t: Teardown, services: readonly RunningService[]): Promise<() => Promise<Snapshot>> {
  const schemas: { name: string; schema: string; tables: string[] }[] = [];
  let connection: Connection | undefined;
  for (const { name, database } of services) {
    if (!database) continue;
    if (!connection) {
      const opened = await connectMysql(database.adminUrl);
      t.teardown(() => opened.end());
      connection = opened;
    }
    const [rows] = await connection.query<RowDataPacket[]>(
      'select table_name as name from information_schema.tables where table_schema = ? order by 1',
      [database.schema],
    );
    const tables = rows.map((row) => row.name as string).filter((table) => !apart.has(table));
    schemas.push({ name, schema: database.schema, tables });
  }
  return async () => {
    if (!connection) throw new Error('none of these services has a database');
    const snapshot: Snapshot = {};
    for (const { name, schema, tables } of schemas) {
      const list = tables.map((table) => `\`${schema}\`.\`${table}\``);
      const [sums] = await connection.query<RowDataPacket[]>(`checksum table ${list.join(', ')}`);
      const [counts] = await connection.query<RowDataPacket[]>(
        `select ${list.map((table, index) => `(select count(*) from ${table}) as c${index}`).join(', ')},
           (select count(*) from \`${schema}\`.idempotency
             where code = 0 and method not like '%/RecordDecisions') as responses`,
      );
      tables.forEach((table, index) => {
        snapshot[`${name}.${table}`] = `${counts[0]?.[`c${index}`]} rows, checksum ${sums[index]?.Checksum}`;
      });
      snapshot[`${name}.responses`] = String(counts[0]?.responses);
    }
    return snapshot;
  };
}
