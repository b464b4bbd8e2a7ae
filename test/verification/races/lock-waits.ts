import type { Connection, RowDataPacket } from 'mysql2/promise';

/**
 * Which connections wait for a row lock, as the server says now. The tables of information_schema are a copy that may
 * be a tenth of a second old and grows no younger while it is asked; the monitor's text is made when it is read.
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
