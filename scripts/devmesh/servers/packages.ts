import { spawn } from 'node:child_process';
import { closeSync, existsSync, openSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type State, tail } from '../state.ts';
import { findProgram } from './programs.ts';

/** Package sets that bring the server without a system service, best first; not every release has every name. */
const mysqlPackages = [
  ['mariadb-server-core', 'mariadb-client-core'],
  ['mariadb-server-core-10.6', 'mariadb-client-core-10.6'],
  ['mysql-server-core-8.0', 'mysql-client-core-8.0'],
];
const rabbitmqPackages = [['rabbitmq-server']];

/** Whether this machine lets us install Debian packages without a password. */
export function canInstallPackages(): boolean {
  return process.getuid?.() === 0 && findProgram(['apt-get']) !== undefined;
}

/** Installs what is missing by apt-get. Services that the packages bring are not started, now or at boot. */
export async function installPackages(state: State, missing: { mysql: boolean; rabbitmq: boolean }): Promise<string[]> {
  const log = join(state.dir, 'logs', 'apt.log');
  const run = (command: string, args: string[]) => runLogged(command, args, log);
  await run('apt-get', ['update']);
  const packages: string[] = [];
  if (missing.mysql) packages.push(...(await firstKnown(mysqlPackages, run)));
  if (missing.rabbitmq) packages.push(...(await firstKnown(rabbitmqPackages, run)));
  const release = forbidServiceStarts();
  try {
    await run('apt-get', ['install', '--yes', '--no-install-recommends', ...packages]);
  } finally {
    release();
  }
  // A machine with systemd would start the packaged broker at its next boot; this command has just installed it, so no other program needs it.
  if (missing.rabbitmq && existsSync('/run/systemd/system'))
    await run('systemctl', ['disable', '--now', 'rabbitmq-server']);
  return packages;
}

/** Installs packages by their names, from lists of packages that are brought up to date first. */
export async function installNamed(state: State, packages: readonly string[]): Promise<void> {
  const log = join(state.dir, 'logs', 'apt.log');
  await runLogged('apt-get', ['update'], log);
  await runLogged('apt-get', ['install', '--yes', '--no-install-recommends', ...packages], log);
}

type Run = (command: string, args: string[]) => Promise<void>;

async function firstKnown(candidates: string[][], run: Run): Promise<string[]> {
  for (const packages of candidates) {
    const known = await run('apt-cache', ['show', '--no-all-versions', ...packages]).then(
      () => true,
      () => false,
    );
    if (known) return packages;
  }
  throw new Error(`apt knows none of the packages ${candidates.flat().join(', ')}`);
}

/** Debian asks /usr/sbin/policy-rc.d before it starts a service at installation; 101 forbids it. */
function forbidServiceStarts(): () => void {
  const policy = '/usr/sbin/policy-rc.d';
  if (existsSync(policy)) return () => undefined;
  writeFileSync(policy, '#!/bin/sh\nexit 101\n', { mode: 0o755 });
  return () => unlinkSync(policy);
}

function runLogged(command: string, args: string[], log: string): Promise<void> {
  const output = openSync(log, 'a', 0o600);
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  const child = spawn(command, args, { stdio: ['ignore', output, output], env });
  return new Promise<void>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => {
      if (code === 0) resolve();
      else reject(new Error(`${command} ${args.join(' ')} failed; the end of ${log}:\n${tail(log, 12)}`));
    });
  }).finally(() => closeSync(output));
}
