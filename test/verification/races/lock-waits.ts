import type { Connection, RowDataPacket } from 'mysql2/promise';

/**
 * Returns the connections that wait for a row lock at this moment. It parses the InnoDB monitor, which is made when it
 * is read. The tables of information_schema are a cache that may be a tenth of a second old, and is not refreshed while
 * it is polled.
 */
export async function lockWaits(connection: Connection): Promise<Set<number>> {
  const [rows] = await connection.query<RowDataPacket[]>('show engine innodb status');
  const transactions = String(rows[0]?.Status ?? '')
    .split('---TRANSACTION ')
    .slice(1);
  return new Set(
    transactions.flatMap((text) => {
      const thread = /(?:MariaDB|MySQL) thread id (\d+)/.exec(text)?.[1];
      return thread && text.includes('LOCK WAIT') ? [Number(thread)] : [];
    }),
  );
}
