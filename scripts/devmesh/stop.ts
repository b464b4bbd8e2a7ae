import { existsSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { lockHolder } from './lock.ts';
import { identityOf, meshFile, meshServices, readMesh } from './mesh.ts';
import { stop } from './processes.ts';
import { stopServers } from './servers/servers.ts';
import { openState, type State } from './state.ts';
import { forgetSupervisor, presentSupervisor, upLock } from './supervisor-process.ts';

/** The supervisor drains services for 12 s before it uses force, so it gets a little longer. */
const supervisorGraceMs = 15_000;

/**
 * Stops exactly what was started from this state folder: an `armature up` that still runs, services, then servers. Says
 * what it stopped. With `clean`, containers lose their data too.
 */
export async function stopEverything(state: State, clean = false): Promise<string[]> {
  const stopped: string[] = [];
  // It would start more.
  const starting = lockHolder(upLock(state));
  if (starting && starting.pid !== process.pid && (await stop(starting)) !== 'absent') stopped.push('armature up');
  const supervisor = presentSupervisor(state);
  const services = meshServices(readMesh(state));
  const running = services.filter((service) => service.pid !== undefined).map(({ name }) => name);
  if (supervisor) {
    await stop(supervisor, supervisorGraceMs);
    stopped.push(...running);
  }
  // What a killed supervisor has left behind, by the last thing it wrote.
  const left = meshServices(readMesh(state)).map(async (service) => {
    const identity = identityOf(service);
    if (identity && (await stop(identity)) !== 'absent') stopped.push(service.name);
  });
  await Promise.all(left);
  forgetSupervisor(state);
  rmSync(meshFile(state), { force: true });
  return [...new Set([...stopped, ...(await stopServers(state, { volumes: clean }))])];
}

/** State folders that tests of these scripts have made inside the tests' own, such as those of an interrupted run. */
export function innerStates(state: State): State[] {
  const runs = runsDirectory(state);
  return existsSync(runs) ? readdirSync(runs).map((name) => openState(join(runs, name))) : [];
}

/** Stops all that was started from such folders, with its data. */
export async function stopInner(state: State): Promise<void> {
  for (const inner of innerStates(state)) await stopEverything(inner, true);
}

export const runsDirectory = (state: State) => join(state.dir, 'runs');
