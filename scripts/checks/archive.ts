import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Runs git in a checkout. A command that fails is no error: its output says what was found. */
export function git(checkout: string, ...args: string[]): { ok: boolean; output: Buffer } {
  const run = spawnSync('git', ['-C', checkout, ...args], { maxBuffer: 64 * 1024 * 1024 });
  return { ok: run.status === 0, output: run.stdout ?? Buffer.alloc(0) };
}

/** The first of these names that is a commit of the checkout. */
export function commitNamed(checkout: string, names: readonly string[]): string | undefined {
  return names.find(
    (name) => git(checkout, 'rev-parse', '--verify', '--quiet', '--end-of-options', `${name}^{commit}`).ok,
  );
}

/** Where the branch main may be; what others have of it counts more than what lies here. */
export const mainBranches = ['refs/remotes/origin/main', 'refs/heads/main'] as const;

/**
 * Lends a folder that holds some files and folders of a commit, and removes it afterwards. An archive needs no
 * remote, no full history and no .git folder, which buf's own git input does.
 */
export function withArchive<T>(
  checkout: string,
  commit: string,
  paths: readonly string[],
  work: (dir: string) => T,
): T {
  const { ok, output } = git(checkout, 'archive', '--format=tar', commit, ...paths);
  if (!ok) throw new Error(`${commit} has no ${paths.join(' or no ')}`);
  const dir = mkdtempSync(join(tmpdir(), 'armature-archive-'));
  try {
    const unpacked = spawnSync('tar', ['-x', '-C', dir], { input: output, encoding: 'utf8' });
    if (unpacked.status !== 0) throw new Error(`tar failed: ${unpacked.error?.message ?? unpacked.stderr}`);
    return work(dir);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}
