import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { identityTrust, serviceEnvironment } from './environment.ts';
import { databaseUrl, grantChanges, serviceAccounts, withConnection } from './provision.ts';
import { mainFile, servicePlans } from './services.ts';
import { repository, type State, tail } from './state.ts';

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
    // A migration verifies no token; a service only insists on being told whose tokens it takes.
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
  const code = await new Promise<number | string>((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code, signal) => resolve(code ?? signal ?? 'unknown'));
  }).finally(() => closeSync(output));
  if (code !== 0) throw new Error(`migrating ${name} ended with ${code}; the end of ${log}:\n${tail(log)}`);
  await withConnection(serverUrl, (connection) => grantChanges(connection, accounts));
}
