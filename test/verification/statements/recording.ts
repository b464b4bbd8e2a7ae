import type { Connection, RowDataPacket } from 'mysql2/promise';

/** One statement as a service sent it, with its values. */
export interface Statement {
  /** The database account that sent it: each service has its own. */
  user: string;
  sql: string;
}

/** An insert finds no rows. */
const examined = /^\(?(select|update|delete|with)\b/i;
/** Statements that read no table of a service. */
const tableless = /^select (version\(|connection_id|get_lock|1$|@@|last_insert_id)/i;

/** Makes the server log every statement from now on. `stop` returns one of each kind and account. */
export async function recordStatements(server: Connection): Promise<{ stop(): Promise<Statement[]> }> {
  await server.query("set global log_output = 'TABLE'");
  await server.query('truncate table mysql.general_log');
  await server.query('set global general_log = 1');
  return {
    async stop() {
      await server.query('set global general_log = 0');
      const [rows] = await server.query<RowDataPacket[]>(
        "select user_host, argument from mysql.general_log where command_type in ('Query', 'Execute')",
      );
      const kinds = new Map<string, Statement>();
      for (const { user_host, argument } of rows) {
        const user = /\[?([A-Za-z0-9_]+)\]?\s*@/.exec(String(user_host))?.[1] ?? '';
        const sql = String(argument).replace(/\s+/g, ' ').trim();
        if (!examined.test(sql) || tableless.test(sql)) continue;
        kinds.set(`${user} ${kindOf(sql)} ${words(sql)}`, { user, sql });
      }
      return [...kinds.values()];
    },
  };
}

/** States and similar constants, which decide how many rows match; ids and texts do not. */
const words = (sql: string) => (sql.match(/'[A-Z][A-Z_]{1,19}'/g) ?? []).slice(0, 3).join(' ');

/** The statement without its values. */
export function kindOf(sql: string): string {
  return sql
    .replace(/x?'(?:[^'\\]|\\.|'')*'/gi, '?')
    .replace(/\b\d+(\.\d+)?\b/g, '?')
    .replace(/\(\?(, ?\?)+\)/g, '(?)')
    .replace(/(\(\?\))(, ?\(\?\))+/g, '(?)')
    .replace(/( union all select \?)+/gi, ' union all select ?');
}
