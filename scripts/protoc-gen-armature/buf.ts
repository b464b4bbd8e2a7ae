import { spawnSync } from 'node:child_process';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The folder of this repository. */
export const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

const program = join(root, 'node_modules', '@bufbuild', 'buf', 'bin', 'buf');

/**
 * Runs buf in a folder and returns its standard output. Its plugins use the packages of this repository and the running
 * version of Node. Throws with everything that buf printed.
 */
export function buf(cwd: string, ...args: string[]): string {
  const path = [join(root, 'node_modules', '.bin'), dirname(process.execPath), process.env.PATH].join(delimiter);
  const run = spawnSync(process.execPath, [program, ...args], {
    cwd,
    encoding: 'utf8',
    env: { ...process.env, PATH: path, BUF_CACHE_DIR: join(root, 'node_modules', '.cache', 'buf') },
  });
  if (run.error) throw run.error;
  if (run.status !== 0) throw new Error(`buf ${args[0]} failed:\n${run.stdout}${run.stderr}`.trimEnd());
  return run.stdout;
}
