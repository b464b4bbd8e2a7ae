// Stops exactly what `make up` and the tests have started from this state folder. With --clean its data goes too.
import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fail } from './progress.ts';
import { openState, openTestState, runDirectory, type State } from './state.ts';
import { innerStates, stopEverything } from './stop.ts';

/** The demo mesh, the tests' servers, and what an interrupted test of these scripts may have left. */
function states(dir: string): State[] {
  if (!existsSync(join(dir, 'test'))) return [openState(dir)];
  const tests = openTestState(dir);
  return [openState(dir), tests, ...innerStates(tests)];
}

async function main(): Promise<void> {
  const clean = process.argv.includes('--clean');
  const dir = runDirectory();
  if (!existsSync(join(dir, 'secret'))) {
    console.log(`Nothing was started from ${dir}.`);
    return;
  }
  const stopped = (await Promise.all(states(dir).map((state) => stopEverything(state, clean)))).flat();
  console.log(stopped.length > 0 ? `Stopped: ${[...new Set(stopped)].join(', ')}.` : 'Nothing was running.');
  if (clean) {
    rmSync(dir, { recursive: true, force: true });
    console.log(`Removed ${dir}.`);
  }
}

await main().catch(fail);
