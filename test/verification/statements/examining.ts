import type { Connection, ResultSetHeader, RowDataPacket } from 'mysql2/promise';

/** More rows than any statement needs, and far fewer than a filled table has. */
const readsMax = 1_000;

/** Gauges count up to a fixed number of rows, so the rows that they read do not grow with the table. */
const cappedCount = /^select (\(select )?count\(\*\).* from \(select 1 from \w+ (where [^()]* )?limit \d+\)/;

/** Problems of the plan of a statement; empty if there are none. */
export async function examine(connection: Connection, schema: string, sql: string): Promise<string[]> {
  await connection.query('use ??', [schema]);
  if (cappedCount.test(sql)) return [];
  const found: string[] = [];
  const [plan] = await connection.query<RowDataPacket[]>(`explain ${sql}`);
  for (const step of plan) {
    const what = `${step.table} by ${step.type} ${step.key ?? 'without an index'}, about ${step.rows} rows`;
    if (step.type === 'ALL' && Number(step.rows) > readsMax) found.push(`scans ${what}`);
    if (/filesort/.test(String(step.Extra)) && Number(step.rows) > readsMax) found.push(`sorts ${what}`);
  }
  const { reads, result } = await rowsRead(connection, sql);
  if (reads > readsMax + 4 * result) found.push(`reads ${reads} rows to find ${result}`);
  return found;
}

/** How many rows the server reads, and how many it returns or changes. Rolls all changes back. */
async function rowsRead(connection: Connection, sql: string): Promise<{ reads: number; result: number }> {
  await connection.query('begin');
  try {
    await connection.query('flush status');
    const [result] = await connection.query<RowDataPacket[] | ResultSetHeader>(sql);
    const [status] = await connection.query<RowDataPacket[]>("show session status like 'Handler\\_read%'");
    const reads = status.reduce((sum, row) => sum + Number(row.Value), 0);
    return { reads, result: Array.isArray(result) ? result.length : result.affectedRows };
  } finally {
    await connection.query('rollback');
  }
}
