import { type EntitySchema, MikroORM, type SqlEntityManager } from '@mikro-orm/mysql';
import { CompiledQuery, type DatabaseConnection } from 'kysely';
import { type CallContext, DeadlineError } from '../context/call-context.ts';
import { attachments } from '../context/keys.ts';
import { driverUrl } from '../credentials/driver-url.ts';
import { contention, deadlineExceeded, dependencyUnavailable } from '../errors/errors.ts';
import { type SyncPoint, syncPoint } from '../sync/sync-point.ts';
import type { Logger } from '../telemetry/log.ts';
import { Counter, Gauge, type Registry } from '../telemetry/metrics.ts';
import { backOff } from '../time/backoff.ts';
import { withTimeout } from '../time/timeout.ts';
import { databaseErrno, RestartTransaction } from './errno.ts';
import { inTransaction, setInTransaction } from './open-transaction.ts';
import { poolGate } from './pool-gate.ts';
import { readOnly } from './read-only.ts';
import { idleConnections, sessionStatements } from './session.ts';
import { dropConnection, limited, limitStatements } from './statement-limit.ts';
import type { CommitParticipant, Sql, SqlReader, Tx } from './tx.ts';

/** A table that the ORM maps, made by `defineEntity`. */
export type Entity = EntitySchema;

export interface DatabaseOptions {
  /** mysql://user:password@host:port/schema, with ?ssl-ca=<file> for verified TLS */
  url: string;
  entities?: readonly Entity[];
  log: Logger;
  registry: Registry;
  /** Connections in the pool. */
  poolMax?: number;
  /** How many pieces of work may wait for a connection, and for how long. */
  waitersMax?: number;
  waitTimeoutMs?: number;
  /**
   * The server aborts a statement after this time. When it does not, the client closes the connection two seconds
   * later.
   */
  statementTimeoutMs?: number;
  /** Participants that add their own rows to transactions, in this order. */
  participants?: readonly CommitParticipant[];
}

export interface Database {
  /**
   * Runs `work` in one transaction. After a deadlock or lock-wait timeout it rolls back and runs `work` again, at most
   * five times, so `work` must not act on anything but `tx`; a network call inside it throws. Throws: ABORTED when
   * contention continues, UNAVAILABLE when the database is unreachable, full or read-only, RESOURCE_EXHAUSTED when
   * there is no connection in time, DEADLINE_EXCEEDED.
   */
  transaction<T>(call: CallContext, work: (tx: Tx) => Promise<T>): Promise<T>;
  /** Runs reads outside a transaction. A statement that writes or locks rows throws. */
  read<T>(call: CallContext | null, work: (sql: SqlReader) => Promise<T>): Promise<T>;
  /**
   * Runs one statement that writes, committed by itself. Reads may precede it; a second write in `work` throws, since
   * it needs a transaction.
   */
  write<T>(call: CallContext | null, work: (sql: Sql) => Promise<T>): Promise<T>;
  /** Throws when the database does not respond within two seconds. Concurrent callers share one query. */
  ping(): Promise<void>;
  close(): Promise<void>;
  /** Statements sent so far, for tests that count them. */
  statements(): number;
}

/** Errors after which the same transaction may succeed when it runs again. */
const retryable = new Map<number, string>([
  [1213, 'deadlock'],
  [1205, 'lock_wait'],
  [1020, 'snapshot'],
]);
const maxAttempts = 5;
const contentionBackoff = { initialBackoffMs: 10, maxBackoffMs: 80 };

/** Error codes of the driver for a missing or lost connection. */
const lostCodes = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'EPIPE',
  'ETIMEDOUT',
  'STATEMENT_TIMEOUT',
  'ENOTFOUND',
  'PROTOCOL_CONNECTION_LOST',
  // The server has no certificate, or one of an authority that is not trusted.
  'HANDSHAKE_NO_SSL_SUPPORT',
  'HANDSHAKE_SSL_ERROR',
]);

/**
 * Errors of a server that cannot serve now: too many connections (1040, 1203, 1226), shutting down (1053), disk or
 * table full (3, 1021, 1030, 1114), read-only (1290, 1792, 1836), statement interrupted or out of time (1317, 1969,
 * 3024), connection killed (1927).
 */
const lostNumbers = new Set([3, 1021, 1030, 1040, 1053, 1114, 1203, 1226, 1290, 1317, 1792, 1836, 1927, 1969, 3024]);
/** The client waits this much longer than the server's own limit, because the server's error is more specific. */
const serverFirstMs = 2_000;
const pingTimeoutMs = 2_000;

/** Whether the database is unreachable, full, stopping or read-only: a fault of the server that may be temporary. */
function isLost(error: unknown): boolean {
  if (lostNumbers.has(databaseErrno(error))) return true;
  for (let e = error; e instanceof Error; e = e.cause) {
    if ('code' in e && typeof e.code === 'string' && lostCodes.has(e.code)) return true;
    if (/closed state|Connection lost|Queue limit reached|Pool is closed/.test(e.message)) return true;
  }
  return false;
}

/** Opens the pool; connects at the first use. */
export async function openDatabase(options: DatabaseOptions): Promise<Database> {
  const poolMax = options.poolMax ?? 20;
  const { url, driverOptions } = driverUrl(options.url);
  const statementTimeoutMs = options.statementTimeoutMs ?? 10_000;
  let statements = 0;
  // Not by init(), which loads every installed extension of the ORM, such as migrations; serving processes do not need
  // them.
  const orm = new MikroORM({
    clientUrl: url,
    entities: [...(options.entities ?? [])],
    discovery: { warnWhenNoEntities: false },
    ensureDatabase: false,
    pool: { min: 0, max: poolMax },
    timezone: 'Z',
    forceUtcTimezone: true,
    driverOptions: {
      ...driverOptions,
      ...idleConnections(poolMax, statementTimeoutMs),
      queueLimit: poolMax * 4,
      connectTimeout: 5_000,
      enableKeepAlive: true,
      charset: 'utf8mb4',
    },
    onCreateConnection: (connection) => prepareSession(connection as DatabaseConnection, statementTimeoutMs),
    onQuery: (sql) => {
      statements += 1;
      return sql;
    },
    debug: false,
  });
  const pool = await orm.driver.getConnection().getNativeClient();
  limitStatements(pool, statementTimeoutMs + serverFirstMs);
  const gate = poolGate({
    size: poolMax,
    waitersMax: options.waitersMax ?? 1_000,
    waitTimeoutMs: options.waitTimeoutMs ?? 3_000,
  });
  const metrics = databaseMetrics(options.registry, gate);
  const backend = { options, orm, gate, metrics };
  let pinging: Promise<unknown> | null = null;
  return {
    transaction: (call, work) => transaction(backend, call, work),
    read: (call, work) => outsideTransaction(backend, call, (sql) => work(readOnly(sql))),
    write: (call, work) => outsideTransaction(backend, call, (sql) => work(singleWrite(sql))),
    async ping() {
      pinging ??= limited(Date.now() + pingTimeoutMs, () => orm.em.fork().execute('select 1')).finally(() => {
        pinging = null;
      });
      await withTimeout(pingTimeoutMs, pinging, 'the database');
    },
    async close() {
      await orm.close(true);
      // The ORM does not end a pool that has sent nothing, and the pool's timer would keep the process alive. A pool
      // cannot be ended twice, and only this field says whether it has been.
      if ((pool as unknown as { _closed: boolean })._closed) return;
      await new Promise<void>((resolve, reject) => pool.end((error) => (error ? reject(error) : resolve())));
    },
    statements: () => statements,
  };
}

interface Backend {
  options: DatabaseOptions;
  orm: MikroORM;
  gate: ReturnType<typeof poolGate>;
  metrics: ReturnType<typeof databaseMetrics>;
}

/** Sets the session variables that every statement relies on, whatever the server's defaults are. */
async function prepareSession(connection: DatabaseConnection, statementTimeoutMs: number): Promise<void> {
  const run = (sql: string) => connection.executeQuery<{ version: string }>(CompiledQuery.raw(sql));
  try {
    const { rows } = await run('select version() as version');
    for (const statement of sessionStatements(rows[0]?.version ?? '', statementTimeoutMs)) await run(statement);
  } catch (error) {
    dropConnection();
    throw error;
  }
}

type TxSql = Sql & Pick<Tx, 'em'>;

/** `atSyncPoint` is set only while a test blocks statements at sync points. */
function sqlOf(em: SqlEntityManager, atSyncPoint: ((sql: string) => Promise<void>) | null): TxSql {
  const query: Sql['query'] = (sql, params = []) => em.execute(sql, params as unknown[], 'all');
  const execute: Sql['execute'] = (sql, params = []) => em.execute(sql, params as unknown[], 'run');
  const find = em.find.bind(em);
  if (!atSyncPoint) return { em, find, query, execute };
  return {
    em,
    find,
    query: (sql, params) => atSyncPoint(sql).then(() => query(sql, params)),
    execute: (sql, params) => atSyncPoint(sql).then(() => execute(sql, params)),
  };
}

/** The sync point function of a call's transaction; null unless a test has armed it. */
async function transactionSyncPoint(call: CallContext, em: SqlEntityManager): Promise<SyncPoint | null> {
  const atSyncPoint = syncPoint(call);
  if (!atSyncPoint) return null;
  // Reports the connection id, so that the test can query whether it waits for a lock.
  const [row] = await em.execute<{ id: number | string }[]>('select connection_id() as id');
  return (point) => atSyncPoint(point, Number(row?.id));
}

const sqlSyncPoint = (atSyncPoint: SyncPoint | null) =>
  atSyncPoint && ((sql: string) => atSyncPoint(`sql ${sql.replace(/\s+/g, ' ').trim()}`));

/**
 * SQL of one transaction that throws after its end. Work that was abandoned at its deadline may continue, and its
 * statements must not run outside of any transaction.
 */
function within(scope: { over: boolean }, call: CallContext, sql: TxSql): TxSql {
  const check = () => {
    if (scope.over) throw new Error(`${call.name}: its transaction has ended`);
  };
  return {
    get em() {
      check();
      return sql.em;
    },
    get find() {
      check();
      return sql.find;
    },
    async query(text, params) {
      check();
      return sql.query(text, params);
    },
    async execute(text, params) {
      check();
      return sql.execute(text, params);
    },
  };
}

/** SQL that allows one write. */
function singleWrite(sql: Sql): Sql {
  let written = false;
  return {
    ...readOnly(sql),
    execute(text, params) {
      if (written) throw new Error('a second write outside a transaction');
      written = true;
      return sql.execute(text, params);
    },
  };
}

async function outsideTransaction<T>(
  backend: Backend,
  call: CallContext | null,
  work: (sql: Sql) => Promise<T>,
): Promise<T> {
  const release = await backend.gate.enter(call ? () => call.signal : undefined);
  try {
    return await limited(call?.deadline ?? Number.POSITIVE_INFINITY, () =>
      work(sqlOf(backend.orm.em.fork(), sqlSyncPoint(syncPoint(call)))),
    );
  } catch (error) {
    throw isLost(error) ? dependencyUnavailable('database', error) : error;
  } finally {
    release();
  }
}

async function transaction<T>(backend: Backend, call: CallContext, work: (tx: Tx) => Promise<T>): Promise<T> {
  if (inTransaction(call)) throw new Error(`${call.name}: a transaction inside a transaction`);
  for (let attempt = 1; ; attempt += 1) {
    const release = await backend.gate.enter(() => call.signal);
    setInTransaction(call, true);
    try {
      return await limited(call.deadline, () => attemptOnce(backend, call, work));
    } catch (error) {
      const again = error instanceof RestartTransaction ? 'restart' : retryable.get(databaseErrno(error));
      if (!again) throw isLost(error) ? dependencyUnavailable('database', error) : error;
      backend.metrics.retries.inc({ reason: again });
      if (attempt >= maxAttempts) throw contention(error);
    } finally {
      setInTransaction(call, false);
      release();
    }
    await backOff(attempt, contentionBackoff, call.signal, { jitter: 'full' });
    if (call.cancelReason instanceof DeadlineError || call.deadline <= Date.now()) throw deadlineExceeded();
    call.signal.throwIfAborted();
  }
}

async function attemptOnce<T>(backend: Backend, call: CallContext, work: (tx: Tx) => Promise<T>): Promise<T> {
  const { options, metrics } = backend;
  const em = backend.orm.em.fork();
  await em.begin().catch((error: unknown) => {
    dropConnection();
    throw error;
  });
  let atSyncPoint: SyncPoint | null = null;
  const after: (() => void)[] = [];
  const scope = { over: false };
  const participants = options.participants ?? [];
  let tx: Tx;
  let result: T;
  try {
    atSyncPoint = await transactionSyncPoint(call, em);
    tx = Object.assign(within(scope, call, sqlOf(em, sqlSyncPoint(atSyncPoint))), attachments(), {
      afterCommit: (action: () => void) => after.push(action),
    });
    for (const participant of participants) participant.begin?.(tx);
    result = await work(tx);
    for (const participant of participants) await participant.beforeCommit(tx, call);
    if (atSyncPoint) await atSyncPoint('commit');
    await em.commit();
  } catch (error) {
    if (atSyncPoint) await atSyncPoint('rollback');
    scope.over = true;
    // A lock-wait timeout rolls back one statement only, so the transaction is always rolled back explicitly.
    await em.rollback().catch((cause: unknown) => options.log.warn({ err: cause }, 'rollback failed'));
    metrics.transactions.inc({ outcome: 'rolled_back' });
    throw error;
  } finally {
    scope.over = true;
  }
  metrics.transactions.inc({ outcome: 'committed' });
  for (const participant of participants) participant.committed?.(tx, call);
  for (const action of after) action();
  return result;
}

function databaseMetrics(registry: Registry, gate: ReturnType<typeof poolGate>) {
  new Gauge({
    name: 'armature_db_connections_in_use',
    help: 'Pieces of work that hold a database connection',
    registers: [registry],
    collect() {
      this.set(gate.inUse());
    },
  });
  new Gauge({
    name: 'armature_db_waiters',
    help: 'Pieces of work that wait for a database connection',
    registers: [registry],
    collect() {
      this.set(gate.waiting());
    },
  });
  return {
    transactions: new Counter({
      name: 'armature_db_transactions_total',
      help: 'Transactions by outcome',
      labelNames: ['outcome'],
      registers: [registry],
    }),
    retries: new Counter({
      name: 'armature_db_transaction_retries_total',
      help: 'Transactions run again after losing against another',
      labelNames: ['reason'],
      registers: [registry],
    }),
  };
}
