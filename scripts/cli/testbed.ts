import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { repository } from '../devmesh/state.ts';

/** How an `armature` command ended, and all that it wrote. */
export interface Ended {
  code: number | null;
  stdout: string;
  stderr: string;
}

/** Starts an `armature` command on the mesh of `runDirectory`. `output` grows while it runs. */
export function startArmature(args: readonly string[], runDirectory: string) {
  const env: NodeJS.ProcessEnv = { ...process.env, ARMATURE_RUN_DIR: runDirectory };
  const child = spawn(process.execPath, [join(repository, 'scripts', 'cli', 'main.ts'), ...args], { env });
  const output = { stdout: '', stderr: '' };
  for (const stream of ['stdout', 'stderr'] as const) {
    child[stream].setEncoding('utf8').on('data', (text: string) => {
      output[stream] += text;
    });
  }
  const ended = once(child, 'close').then(([code]): Ended => ({ code: code as number | null, ...output }));
  return { child, output, ended };
}
