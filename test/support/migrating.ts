import { spawn } from 'node:child_process';
import { splitCa } from '@armature/runtime/credentials';
import { type Migration, runtimeMigrations, stepsOf } from '@armature/runtime/migrations';
import type { RowDataPacket } from 'mysql2/promise';
import { withConnection } from '../../scripts/devmesh/provision.ts';
import { mainFile } from '../../scripts/devmesh/services.ts';
import type { TestDatabase } from './infra.ts';

/** All migrations of a service, in the order in which it runs them. */
export async function migrationsOf(service: string): Promise<readonly Migration[]> {
  const own = (await import(`../../services/${service}/migrations/index.ts`)) as { migrations: readonly Migration[] };
  return [...runtimeMigrations, ...own.migrations];
}

/** The definition of every table, and every row that migrations have written. */
export async function schemaSnapshot({ schema, adminUrl }: TestDatabase): Promise<Record<string, unknown>> {
  return withConnection(adminUrl, async (connection) => {
    const query = async (sql: string, name: string) => (await connection.query<RowDataPacket[]>(sql, [name]))[0];
    const found: Record<string, unknown> = {};
    for (const { name } of await query(
      'select table_name as name from information_schema.tables where table_schema = ? order by table_name',
      schema,
    )) {
      const [made] = await query('show create table ??', name);
      // Times and ids in the table of migrations differ between runs.
      const rows = await query(name === 'migration' ? 'select name from ?? order by id' : 'select * from ??', name);
      found[name] = { made: String(made?.['Create Table']).replace(/ AUTO_INCREMENT=\d+/, ''), rows };
    }
    return found;
  });
}

/** How many statements a run on an empty schema sends when each step is due: the crash point passes as often. */
export function statementCount(migrations: readonly Migration[]): number {
  // The table of migrations; then of each migration its steps, its note, and the commit of that.
  return 1 + migrations.reduce((sum, migration) => sum + stepsOf(migration).length + 2, 0);
}

/**
 * Runs `main.ts migrate` of a service until it ends, or until it is killed after statement `killAfter`. Returns its
 * output, or null if it was killed. Throws if it fails.
 */
export async function migrateProcess(
  service: string,
  { migratorUrl }: TestDatabase,
  killAfter?: number,
): Promise<string | null> {
  const { url, caFile } = splitCa(migratorUrl);
  const child = spawn(process.execPath, [mainFile(service), 'migrate'], {
    env: {
      PATH: process.env.PATH,
      ARMATURE_DATABASE_URL: url,
      ARMATURE_DATABASE_CA_FILE: caFile ?? '',
      ARMATURE_CRASH_POINTS: killAfter === undefined ? '' : `migration.statement:${killAfter}`,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let said = '';
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text) => (said += text));
  const end = await new Promise<number | string | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => resolve(signal ?? code));
  });
  if (end === 'SIGKILL') return null;
  if (end !== 0) throw new Error(`${service} migrate ended with ${end}:\n${said}`);
  return said;
}
