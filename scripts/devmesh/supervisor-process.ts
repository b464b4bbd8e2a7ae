import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ended, isAlive, launch, type ProcessIdentity, signal } from './processes.ts';
import { readJson, repository, type State, tail, writeAtomically } from './state.ts';

const startDeadlineMs = 30_000;

/** Within this time a supervisor says that it has taken a signal. */
const takeDeadlineMs = 10_000;

/** Where the supervisor says who it is, once it listens to signals. */
export const supervisorFile = (state: State) => join(state.dir, 'supervisor.json');
/** Where the process is noted that becomes the supervisor, from the moment it is launched. */
const launchedFile = (state: State) => join(state.dir, 'supervisor-launched.json');
export const supervisorLog = (state: State) => join(state.dir, 'logs', 'supervisor.log');

/** Held while `armature up` starts what is missing. */
export const upLock = (state: State) => join(state.dir, 'up.lock');

/** What the supervisor writes of itself: `taken` counts the requests to look for services that it has followed. */
export interface SupervisorNote extends ProcessIdentity {
  taken?: number;
}

const alive = (path: string): SupervisorNote | undefined => {
  const known = readJson<SupervisorNote>(path);
  return known && isAlive(known) ? known : undefined;
};

/** The supervisor of this state folder, if one runs. */
export const runningSupervisor = (state: State): SupervisorNote | undefined => alive(supervisorFile(state));

/** The same, or the process that is about to become it. */
export const presentSupervisor = (state: State): ProcessIdentity | undefined =>
  runningSupervisor(state) ?? alive(launchedFile(state));

/** Forgets a supervisor that has ended. */
export function forgetSupervisor(state: State): void {
  for (const file of [supervisorFile(state), launchedFile(state)]) rmSync(file, { force: true });
}

/**
 * Starts the supervisor, or makes the one that runs look for services to start. One that is stopped by a signal goes on;
 * one that does not take the signal is ended by force, and another is started.
 */
export async function ensureSupervisor(state: State, say: (line: string) => void): Promise<'started' | 'told'> {
  const running = runningSupervisor(state);
  if (running) {
    if (await tell(state, running)) return 'told';
    say(
      `  !! the supervisor (process ${running.pid}) did not respond within ${takeDeadlineMs / 1000} s; it is replaced`,
    );
    signal(running, 'SIGKILL');
    await ended(running, 5_000);
  }
  rmSync(supervisorFile(state), { force: true });
  const started = alive(launchedFile(state)) ?? launchSupervisor(state);
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

function launchSupervisor(state: State): ProcessIdentity {
  const identity = launch({
    command: process.execPath,
    args: [join(repository, 'scripts', 'devmesh', 'supervisor.ts')],
    env: { ...process.env, ARMATURE_RUN_DIR: state.dir },
    cwd: repository,
    log: supervisorLog(state),
  });
  // From now on `down` finds it, also when this command is interrupted before it listens.
  writeAtomically(launchedFile(state), JSON.stringify(identity));
  return identity;
}

/** Returns whether the supervisor has taken the request to look for services. */
async function tell(state: State, running: SupervisorNote): Promise<boolean> {
  if (!signal(running, 'SIGHUP')) return false;
  signal(running, 'SIGCONT');
  const deadline = Date.now() + takeDeadlineMs;
  while (Date.now() < deadline) {
    const now = runningSupervisor(state);
    if (!now || now.pid !== running.pid) return false;
    if (now.taken !== running.taken) return true;
    await sleep(20);
  }
  return false;
}
