import { spawn } from 'node:child_process';
import { closeSync, existsSync, openSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Connection, RowDataPacket } from 'mysql2/promise';
import { servicePlans } from '../../services/manifest.ts';
import { identityTrust, serviceEnvironment } from './environment.ts';
import { databaseUrl, grantChanges, serviceAccounts, withConnection } from './provision.ts';
import { mainFile } from './services.ts';
import { repository, type State, tail } from './state.ts';

/**
 * The services whose schema lacks a migration: those whose journal does not name all that the code has. Asks the
 * database, since what was written down elsewhere may be out of date. A program without a list of migrations counts.
 */
export async function pendingMigrations(serverUrl: string, services: readonly string[]): Promise<string[]> {
  return withConnection(serverUrl, async (connection) => {
    const pending: string[] = [];
    for (const name of services) {
      const needed = await migrationNames(name);
      const done = needed && (await journalOf(connection, serviceAccounts(name).schema));
      if (!needed?.every((migration) => done?.has(migration))) pending.push(name);
    }
    return pending;
  });
}

async function migrationNames(service: string): Promise<string[] | undefined> {
  const list = join(dirname(mainFile(service)), 'migrations', 'index.ts');
  if (!existsSync(list)) return undefined;
  // Loaded only here: it stands on the ORM, which most commands do without.
  const { runtimeMigrations } = await import('@armature/runtime/migrations');
  const { migrations } = (await import(pathToFileURL(list).href)) as { migrations: readonly { name: string }[] };
  return [...runtimeMigrations, ...migrations].map(({ name }) => name);
}

/** The names in the table in which a schema notes its migrations; undefined where there is no such table. */
async function journalOf(connection: Connection, schema: string): Promise<Set<string> | undefined> {
  try {
    const [rows] = await connection.query<RowDataPacket[]>('SELECT name FROM ??.migration', [schema]);
    return new Set(rows.map((row) => row.name as string));
  } catch (error) {
    if ((error as { code?: string }).code !== 'ER_NO_SUCH_TABLE') throw error;
    return undefined;
  }
}

/** Migrates the schemas of these services, a few at a time: each is a program that wants a core. */
export async function migrateAll(state: State, serverUrl: string, services: readonly string[]): Promise<void> {
  const waiting = [...services];
  const worker = async () => {
    for (let name = waiting.shift(); name !== undefined; name = waiting.shift()) await migrate(state, serverUrl, name);
  };
  const ends = await Promise.allSettled(Array.from({ length: Math.max(2, availableParallelism()) }, worker));
  const failed = ends.find((end) => end.status === 'rejected');
  if (failed) throw failed.reason;
}

async function migrate(state: State, serverUrl: string, name: string): Promise<void> {
  const accounts = serviceAccounts(name);
  const log = join(state.dir, 'logs', `${name}-migrate.log`);
  const env = serviceEnvironment(state, {
    name,
    stateFile: join(state.dir, 'services', `${name}-migrate.json`),
    peers: {},
    // A migration verifies no token; the configuration of a service only requires an issuer.
    tokens: identityTrust(`localhost:${servicePlans.identity.httpPort}`),
    copyDir: join(state.dir, 'copies', name),
    databaseUrl: databaseUrl(state, serverUrl, accounts.migrator, accounts.schema),
  });
  const output = openSync(log, 'w', 0o600);
  const child = spawn(process.execPath, [mainFile(name), 'migrate'], {
    cwd: repository,
    env,
    stdio: ['ignore', output, output],
  });
  // Nothing runs after this command: every statement of a migration can run again.
  const endWithUs = () => child.kill('SIGKILL');
  process.once('exit', endWithUs);
  const code = await new Promise<number | string>((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code, signal) => resolve(code ?? signal ?? 'unknown'));
  }).finally(() => {
    process.off('exit', endWithUs);
    closeSync(output);
  });
  if (code !== 0) throw new Error(`migrating ${name} ended with ${code}; the end of ${log}:\n${tail(log)}`);
  await withConnection(serverUrl, (connection) => grantChanges(connection, accounts));
}
