// Stops exactly what `armature up` and the tests have started from this state folder.
import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { openState, openTestState, runDirectory, type State } from './state.ts';
import { innerStates, stopEverything } from './stop.ts';

/** The demo mesh, the tests' servers, and what an interrupted test of these scripts may have left. */
function states(dir: string): State[] {
  if (!existsSync(join(dir, 'test'))) return [openState(dir)];
  const tests = openTestState(dir);
  return [openState(dir), tests, ...innerStates(tests)];
}

/** What `down` has stopped, and the folder whose data it has removed. */
export interface Stopped {
  dir: string;
  /** Whether anything was ever started from the folder. */
  known: boolean;
  stopped: string[];
  removed: boolean;
}

/** Stops everything that was started from the state folder; with `clean` its data goes too. */
export async function down(clean: boolean): Promise<Stopped> {
  const dir = runDirectory();
  if (!existsSync(join(dir, 'secret'))) return { dir, known: false, stopped: [], removed: false };
  const stopped = (await Promise.all(states(dir).map((state) => stopEverything(state, clean)))).flat();
  if (clean) rmSync(dir, { recursive: true, force: true });
  return { dir, known: true, stopped: [...new Set(stopped)], removed: clean };
}
