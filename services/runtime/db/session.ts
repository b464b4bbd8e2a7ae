/**
 * The SQL mode, whatever the server's default is: a value that does not fit fails instead of being cut; a query whose
 * groups leave a column undetermined fails instead of returning an arbitrary row. Both servers have all of these modes.
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

/** An open transaction may be idle this many times as long as a statement may run. */
const idleStatements = 3;

const idleSeconds = (statementTimeoutMs: number) => Math.ceil((statementTimeoutMs * idleStatements) / 1000);

/**
 * Statements that configure a new connection. `version` is the server's version string.
 *
 * Both servers end an idle transaction; nothing else could free the locks of one whose process is stopped or
 * disconnected. MariaDB has a limit for that. MySQL has none and ends any idle session instead (`wait_timeout`), so the
 * pool closes idle connections before the server does: see `idleConnections`. MariaDB bounds every statement in
 * seconds, MySQL only SELECTs, in milliseconds.
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

/** Pool options that close an idle connection after half the time after which MySQL would end its session. */
export function idleConnections(poolMax: number, statementTimeoutMs: number) {
  // The driver checks for idle connections only where `maxIdle` is less than the pool size.
  return { maxIdle: poolMax - 1, idleTimeout: (idleSeconds(statementTimeoutMs) * 1000) / 2 };
}
