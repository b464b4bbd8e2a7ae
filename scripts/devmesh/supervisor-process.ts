import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isAlive, launch, type ProcessIdentity, signal } from './processes.ts';
import { readJson, repository, type State, tail } from './state.ts';

const startDeadlineMs = 30_000;

/** Where the supervisor says who it is, once it listens to signals. */
export const supervisorFile = (state: State) => join(state.dir, 'supervisor.json');
export const supervisorLog = (state: State) => join(state.dir, 'logs', 'supervisor.log');

/** The supervisor of this state folder, if one runs. */
export function runningSupervisor(state: State): ProcessIdentity | undefined {
  const known = readJson<ProcessIdentity>(supervisorFile(state));
  return known && isAlive(known) ? known : undefined;
}

/** Starts the supervisor, or makes the one that runs look for services to start. */
export async function ensureSupervisor(state: State): Promise<'started' | 'told'> {
  const running = runningSupervisor(state);
  if (running && signal(running, 'SIGHUP')) return 'told';
  rmSync(supervisorFile(state), { force: true });
  const started = launch({
    command: process.execPath,
    args: [join(repository, 'scripts', 'devmesh', 'supervisor.ts')],
    env: { ...process.env, ARMATURE_RUN_DIR: state.dir },
    cwd: repository,
    log: supervisorLog(state),
  });
  const deadline = Date.now() + startDeadlineMs;
  while (!runningSupervisor(state)) {
    if (!isAlive(started) || Date.now() > deadline) {
      throw new Error(
        `the supervisor did not start; the end of ${supervisorLog(state)}:\n${tail(supervisorLog(state))}`,
      );
    }
    await sleep(20);
  }
  return 'started';
}
