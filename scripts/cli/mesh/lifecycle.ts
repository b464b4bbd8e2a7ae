import { down } from '../../devmesh/down.ts';
import { meshFile, meshServices, readMesh } from '../../devmesh/mesh.ts';
import { terminalProgress } from '../../devmesh/progress.ts';
import { openState } from '../../devmesh/state.ts';
import { up } from '../../devmesh/up.ts';
import type { Invocation } from '../command.ts';
import { printJson } from '../json.ts';
import { withNotice } from '../terminal.ts';

/** Starts servers and services, or what of them is missing. */
export async function startMesh({ json, deadline }: Invocation): Promise<void> {
  const state = openState();
  deadline.waitingFor = 'servers and services to be ready';
  const release = exitOnSignals();
  await up(state, terminalProgress()).finally(release);
  if (!json) return;
  const services = meshServices(readMesh(state)).map(({ name, state, pid, grpc, http, admin }) => ({
    ...{ name, state, pid, grpc, http, admin },
  }));
  printJson({ meshFile: meshFile(state), services });
}

const exitCodesOfSignals = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 } as const;

/**
 * Has a signal end the process between two steps, so that whatever was started is noted in the state folder, and says
 * what remains. Returns what undoes it.
 */
function exitOnSignals(): () => void {
  const handlers = Object.entries(exitCodesOfSignals).map(([signal, code]) => {
    const handler = () => {
      console.error('\ninterrupted; what was started goes on: armature status shows it, armature down ends it');
      process.exit(code);
    };
    process.on(signal, handler);
    return () => void process.off(signal, handler);
  });
  return () => {
    for (const remove of handlers) remove();
  };
}

/** Stops what was started here. */
export async function stopMesh({ clean = false }: { clean?: boolean }, { json, deadline }: Invocation): Promise<void> {
  deadline.waitingFor = 'services to drain and servers to stop';
  const { dir, known, stopped, removed } = await withNotice(deadline.waitingFor, () => down(clean));
  if (json) {
    printJson({ stopped, removed: removed ? dir : null });
    return;
  }
  if (!known) {
    console.log(`Nothing was started from ${dir}.`);
    return;
  }
  console.log(stopped.length > 0 ? `Stopped: ${stopped.join(', ')}.` : 'Nothing was running.');
  if (removed) console.log(`Removed ${dir}.`);
}

/** Starts everything and runs the demonstration. */
export async function demonstrate(invocation: Invocation): Promise<void> {
  await startMesh(invocation);
  const { runDemo } = await import('../../demo/main.ts');
  await runDemo();
}

/** Starts everything and loads the catalogue of the demonstration. */
export async function seed(invocation: Invocation): Promise<void> {
  await startMesh(invocation);
  const { loadDemoCatalogue } = await import('../../demo/seed.ts');
  await loadDemoCatalogue();
}
