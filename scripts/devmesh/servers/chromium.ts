import type { State } from '../state.ts';
import { canInstallPackages, installNamed } from './packages.ts';
import { findProgram } from './programs.ts';

const programs = ['chromium', 'chromium-browser', 'google-chrome-stable', 'google-chrome'];

/** A browser for tests of pages, or why there is none. It is installed only where that needs no consent of the user. */
export async function findChromium(state: State): Promise<{ path: string } | { missing: string }> {
  const present = findProgram(programs);
  if (present) return { path: present };
  if (!canInstallPackages()) {
    return { missing: 'there is no Chromium, and it can be installed only by root on Debian or Ubuntu' };
  }
  try {
    await installNamed(state, ['chromium']);
  } catch (error) {
    return { missing: `Chromium could not be installed: ${error instanceof Error ? error.message : String(error)}` };
  }
  const installed = findProgram(programs);
  return installed ? { path: installed } : { missing: 'the package chromium brought no program of that name' };
}
