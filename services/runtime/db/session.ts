/**
 * How statements behave, whatever the server's own default is: a value that does not fit fails instead of being cut,
 * a query whose groups leave a column open fails instead of picking a row. Both servers know all of these.
 */
export const sqlMode = [
  'ONLY_FULL_GROUP_BY',
  'STRICT_TRANS_TABLES',
  'STRICT_ALL_TABLES',
  'NO_ZERO_IN_DATE',
  'NO_ZERO_DATE',
  'ERROR_FOR_DIVISION_BY_ZERO',
  'NO_ENGINE_SUBSTITUTION',
].join(',');

/** How many times as long as a statement an open transaction may send none. */
const idleStatements = 3;

const idleSeconds = (statementTimeoutMs: number) => Math.ceil((statementTimeoutMs * idleStatements) / 1000);

/**
 * What makes a new connection a session of ours. `version` is what the server says of itself.
 *
 * Both servers end a transaction that sends nothing any more; nothing else could free the locks of one whose process
 * is stopped or cut off. MariaDB has a limit for that. MySQL has none and ends any idle session instead
 * (`wait_timeout`), so the pool closes idle connections before the server does: see `idleConnections`.
 * MariaDB bounds every statement in seconds, MySQL only SELECTs, in milliseconds.
 */
export function sessionStatements(version: string, statementTimeoutMs: number): string[] {
  const limits = version.includes('MariaDB')
    ? `max_statement_time = ${statementTimeoutMs / 1000}, idle_transaction_timeout = ${idleSeconds(statementTimeoutMs)}`
    : `max_execution_time = ${statementTimeoutMs}, wait_timeout = ${idleSeconds(statementTimeoutMs)}`;
  return [
    'set session transaction isolation level read committed',
    `set session sql_mode = '${sqlMode}', time_zone = '+00:00', innodb_lock_wait_timeout = 5, ${limits}`,
  ];
}

/** Pool options that close a connection in half the time after which MySQL would end its session. */
export function idleConnections(poolMax: number, statementTimeoutMs: number) {
  // The driver looks for idle connections only where fewer may be idle than open.
  return { maxIdle: poolMax - 1, idleTimeout: (idleSeconds(statementTimeoutMs) * 1000) / 2 };
}
