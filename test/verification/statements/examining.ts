import type { Connection, ResultSetHeader, RowDataPacket } from 'mysql2/promise';

/** More rows than any statement of ours needs; far fewer than a filled table has. */
const readsMax = 1_000;

/** Gauges count up to a fixed number of rows, so what they read does not grow with the table. */
const cappedCount = /^select (\(select )?count\(\*\).* from \(select 1 from \w+ (where [^()]* )?limit \d+\)/;

/** What is wrong with how the server finds the rows of a statement; empty when nothing is. */
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

/** How many rows the server really looks at, and how many it returns or changes. Nothing of it remains. */
async function rowsRead(connection: Connection, sql: string): Promise<{ reads: number; result: number }> {
  await connection.query('begin');
  try {
    await connection.query('flush status');
    const [answer] = await connection.query<RowDataPacket[] | ResultSetHeader>(sql);
    const [status] = await connection.query<RowDataPacket[]>("show session status like 'Handler\\_read%'");
    const reads = status.reduce((sum, row) => sum + Number(row.Value), 0);
    return { reads, result: Array.isArray(answer) ? answer.length : answer.affectedRows };
  } finally {
    await connection.query('rollback');
  }
}
