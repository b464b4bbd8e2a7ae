import { MikroORM, type SqlEntityManager } from '@mikro-orm/mysql';
import { driverUrl } from '../credentials/driver-url.ts';
import { crashPoint } from '../sync/crash-point.ts';
import { type Migration, type Step, stepsOf } from './schema-change.ts';
import { sqlMode } from './session.ts';

export interface MigrateOptions {
  /** How long to wait for another process that migrates the same schema, seconds. */
  lockWaitSeconds?: number;
  /** Called after each statement. An exception interrupts the migration there, as the end of the process would. */
  afterStatement?: (statement: string) => void | Promise<void>;
}

/** The table in which a schema records its migrations, as earlier releases made it. */
const journal = `
  create table if not exists migration (
    id int not null auto_increment,
    name varchar(255) not null,
    executed_at datetime not null default current_timestamp,
    primary key (id)
  ) engine = InnoDB default charset = utf8mb4`;

/**
 * Migrates a schema to the newest version: forward only, in the order of the list. Returns the names of the migrations
 * that it applied. The next run finishes a run that was interrupted.
 *
 * The named lock and every statement share one connection. So no statement is sent after the lock is lost, and the lock
 * of a killed process is free only when the server has ended the statement that was running.
 */
export async function migrate(
  url: string,
  migrations: readonly Migration[],
  options: MigrateOptions = {},
): Promise<string[]> {
  const plan = migrations.map((migration) => ({ name: migration.name, steps: stepsOf(migration) }));
  const { url: clientUrl, driverOptions } = driverUrl(url);
  const orm = new MikroORM({
    clientUrl,
    driverOptions,
    entities: [],
    discovery: { warnWhenNoEntities: false },
    ensureDatabase: false,
    pool: { min: 0, max: 1 },
    timezone: 'Z',
    debug: false,
  });
  try {
    // A transaction only to keep the connection: each DDL statement commits by itself.
    return await orm.em.transactional((em) => migrateOn(em, plan, options));
  } finally {
    await orm.close(true);
  }
}

async function migrateOn(
  em: SqlEntityManager,
  plan: readonly { name: string; steps: readonly Step[] }[],
  options: MigrateOptions,
): Promise<string[]> {
  // A statement that waits for a table lock blocks all other users of the table, so it fails after a minute.
  await em.execute(`set session sql_mode = '${sqlMode}', time_zone = '+00:00', lock_wait_timeout = 60`);
  await lockSchema(em, options.lockWaitSeconds ?? 60);
  const run = async (statement: string, params: readonly string[] = []) => {
    await em.execute(statement, [...params], 'run');
    crashPoint('migration.statement');
    await options.afterStatement?.(statement);
  };
  await run(journal);
  const rows = await em.execute<{ name: string }[]>('select name from migration');
  const done = new Set(rows.map((row) => row.name));
  const applied: string[] = [];
  for (const { name, steps } of plan) {
    if (done.has(name)) continue;
    for (const step of steps) {
      if (await isDue(em, step)) await run(step.statement);
    }
    await run('insert into migration (name) values (?)', [name]);
    // The journal's row is an ordinary write, so the surrounding transaction must be committed.
    await run('commit');
    applied.push(name);
  }
  return applied;
}

/** Waits for another process that migrates the same schema. Throws when that takes too long. */
async function lockSchema(em: SqlEntityManager, waitSeconds: number): Promise<void> {
  const [row] = await em.execute<{ name: string; held: number | string | null }[]>(
    `select concat(database(), '.migration') as name, get_lock(concat(database(), '.migration'), ?) as held`,
    [waitSeconds],
  );
  if (Number(row?.held) === 1) return;
  throw new Error(
    row?.held === null
      ? `the server could not give the lock ${row.name}; see its error log, then run the migration again`
      : `another process has held the lock ${row?.name} for ${waitSeconds} s and may be migrating this schema; ` +
          'wait until it ends, then run the migration again',
  );
}

async function isDue(em: SqlEntityManager, { runsWhen }: Step): Promise<boolean> {
  if (!runsWhen) return true;
  const rows = await em.execute<unknown[]>(runsWhen.query, [...runsWhen.params]);
  return rows.length > 0 === runsWhen.present;
}
