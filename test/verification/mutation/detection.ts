import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { describe, type Failure, tally } from '../../../scripts/checks/tally.ts';
import { endGroup } from '../../../scripts/devmesh/processes.ts';
import { openTestState } from '../../../scripts/devmesh/state.ts';
import { stopInner } from '../../../scripts/devmesh/stop.ts';
import type { Detector } from './mutation.ts';

/** Result of a test run. "unable": no test ran, or the run ended before any test could fail. */
export type Finding =
  | { readonly kind: 'holds'; readonly assertions: number }
  /** `first` is the name of the first failure, `text` its full message. */
  | { readonly kind: 'fails'; readonly first: string; readonly text: string }
  | { readonly kind: 'unable'; readonly text: string };

/** Where tests run: a copy of the repository, and the folder of its servers (ARMATURE_RUN_DIR). */
export interface Place {
  readonly copy: string;
  readonly runDir: string;
  /** Aborted when all runs are to stop. */
  readonly stopping: AbortSignal;
}

const limitMs = 300_000;

/** Runs a detector in the copy until its first failure. */
export async function detect({ file, only }: Detector, place: Place): Promise<Finding> {
  let failure: Failure | undefined;
  const found = new AbortController();
  const { parser, result } = tally((one) => {
    failure ??= one;
    found.abort();
  });
  const filter = only.map((name) => `/${escaped(name)}/`).join('\n');
  const env = { TAP_TIMEOUT: String(limitMs / 1_000), ...(filter ? { TAP_GREP: filter } : {}) };
  const ended = await run([file], {
    place,
    env,
    enough: found.signal,
    write: (text) => parser.write(text),
  });
  parser.end();
  if (failure) return { kind: 'fails', first: failure.path.join(' > '), text: describe(failure) };
  if (ended.code === 0 && result.passed > 0) return { kind: 'holds', assertions: result.passed };
  return {
    kind: 'unable',
    text: `${file} ended with ${ended.code} after ${result.passed} assertions:\n${ended.output}`,
  };
}

interface Running {
  place: Place;
  env: Record<string, string>;
  /** Aborted when the rest of the run is not needed. */
  enough?: AbortSignal;
  write?: (text: string) => void;
}

/** Runs a program of the copy in its own process group. Afterwards ends all its processes and its servers. */
export async function run(
  args: readonly string[],
  { place, env, enough, write }: Running,
): Promise<{ code: number | null; output: string }> {
  const { copy, runDir, stopping } = place;
  stopping.throwIfAborted();
  const child = spawn(process.execPath, args, {
    cwd: copy,
    // Aborted tests leave temporary folders behind, so they are created in a folder that is deleted.
    env: { ...process.env, ONLY: undefined, ARMATURE_RUN_DIR: runDir, TMPDIR: join(runDir, 'tmp'), ...env },
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  const keep = (chunk: Buffer) => {
    output = (output + chunk.toString('utf8')).slice(-4_000);
  };
  child.stdout.on('data', (chunk: Buffer) => {
    keep(chunk);
    write?.(chunk.toString('utf8'));
  });
  child.stderr.on('data', keep);
  const ended = new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  const ends = AbortSignal.any([stopping, AbortSignal.timeout(limitMs), ...(enough ? [enough] : [])]);
  const cut = new Promise<void>((resolve) => {
    if (ends.aborted) resolve();
    ends.addEventListener('abort', () => resolve(), { once: true });
  });
  await Promise.race([ended, cut]);
  if (child.pid !== undefined) await endGroup(child.pid, ['SIGKILL']);
  const code = await ended;
  // Stop the private servers of an aborted test: they would block the next one.
  await stopInner(openTestState());
  stopping.throwIfAborted();
  return { code, output };
}

const escaped = (text: string) => text.replace(/[/\\^$.*+?()[\]{}|]/g, '\\$&');
