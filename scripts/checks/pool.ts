import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { endGroup } from '../devmesh/processes.ts';
import { repository } from '../devmesh/state.ts';
import { type FileEnd, type Tally, tally } from './tally.ts';

/** How one test file ended. */
export interface FileResult extends Tally {
  /** Path from the root of the repository. */
  name: string;
  seconds: number;
}

export interface Pool {
  /** Test files that run at the same time. */
  jobs: number;
  env: NodeJS.ProcessEnv;
  /** tap ends a file that takes longer. */
  fileTimeoutSeconds: number;
  /** The pool kills a file that tap has not ended this long after its timeout. */
  graceSeconds: number;
  /** Aborted when the remaining files are not to run; running ones are ended. */
  stopping: AbortSignal;
  whenFileEnds(result: FileResult): void;
}

/**
 * Runs test files in processes of their own, `jobs` at a time. Each file has a process group, so that whatever it leaves
 * behind ends with it. Files print TAP when they are run by node, so tap's own runner is not needed: it costs 0.4 s of
 * processor per file.
 *
 * Every other worker takes files from the end of the list. Ordered by path, the list ends with tests of whole meshes,
 * which keep the processor busy, and begins with tests of single parts, which wait more.
 */
export async function runFiles(files: readonly string[], pool: Pool): Promise<void> {
  const waiting = [...files];
  const worker = async (_: unknown, index: number) => {
    const next = () => (index % 2 === 0 ? waiting.pop() : waiting.shift());
    for (let file = next(); file !== undefined && !pool.stopping.aborted; file = next()) {
      pool.whenFileEnds(await runFile(file, pool));
    }
  };
  await Promise.all(Array.from({ length: pool.jobs }, worker));
}

async function runFile(name: string, { env, fileTimeoutSeconds, graceSeconds, stopping }: Pool): Promise<FileResult> {
  const start = performance.now();
  const child = spawn(process.execPath, [name], {
    cwd: repository,
    env: { ...env, TAP_TIMEOUT: String(fileTimeoutSeconds) },
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const { parser, result, end } = tally();
  child.stdout.on('data', (chunk: Buffer) => parser.write(chunk));
  child.stderr.on('data', (chunk: Buffer) => {
    result.output += chunk.toString();
  });
  const closed = new Promise<FileEnd>((resolve) => {
    child.once('error', (error) => resolve({ code: null, signal: null, reason: error.message }));
    child.once('exit', (code, signal) => resolve({ code, signal }));
  });
  const outputClosed = once(child, 'close').catch(() => undefined);
  const limit = AbortSignal.timeout((fileTimeoutSeconds + graceSeconds) * 1_000);
  const ending = AbortSignal.any([stopping, limit]);
  const cut = new Promise<FileEnd>((resolve) => {
    const reason = () => (limit.aborted ? `did not end within ${fileTimeoutSeconds} s` : 'stopped');
    const finish = () => resolve({ code: null, signal: null, reason: reason() });
    if (ending.aborted) finish();
    ending.addEventListener('abort', finish, { once: true });
  });
  const ended = await Promise.race([closed, cut]);
  if (child.pid !== undefined) await endGroup(child.pid);
  // A process that left the group may still have the output open.
  await Promise.race([outputClosed, sleep(2_000)]);
  for (const stream of [child.stdout, child.stderr]) stream.destroy();
  return { name, seconds: (performance.now() - start) / 1_000, ...end(ended) };
}
