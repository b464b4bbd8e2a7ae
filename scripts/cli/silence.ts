// Names what does not respond when a command has failed because something did not.
import { RpcError } from '@armature/runtime/errors';
import { meshFile } from '../devmesh/mesh.ts';
import { openState, readJson, runDirectory } from '../devmesh/state.ts';
import { DeadlineError } from './exit-codes.ts';

/** Something that a command needs does not respond. */
export class SilenceError extends Error {}

const codes = new Set([
  ...['ECONNREFUSED', 'ECONNRESET', 'EPIPE', 'ETIMEDOUT', 'PROTOCOL_CONNECTION_LOST', 'UND_ERR_SOCKET'],
  ...['DEADLINE_EXCEEDED', 'UNAVAILABLE'],
]);

/** Whether an error, or a cause of it, may come from a process that does not respond. */
export function isSilence(error: unknown): boolean {
  for (let e = error; e instanceof Error; e = e.cause) {
    if (e instanceof DeadlineError || e instanceof SilenceError || e.name === 'TimeoutError') return true;
    if (codes.has(e instanceof RpcError ? e.code : String((e as NodeJS.ErrnoException).code))) return true;
  }
  return false;
}

/** A line for each service and server of the mesh that does not respond now; none where no mesh was started. */
export async function silentParts(only?: readonly string[]): Promise<string[]> {
  // Opening a state makes its folder.
  if (!readJson(meshFile({ dir: runDirectory() }))) return [];
  const { findProblems } = await import('../devmesh/probes.ts');
  const state = openState();
  const found = await findProblems(state);
  return found
    .filter(({ name, silent }) => silent && (only?.includes(name) ?? true))
    .map(({ name, problem }) => `${name}: ${problem}`);
}

/** Throws with what does not respond of these. */
export async function assertResponding(names: readonly string[]): Promise<void> {
  const silent = await silentParts(names);
  if (silent.length > 0) throw new Error(silent.join('; '));
}
