// Says whether the contracts would break those who call us as of the branch main. Compares with what
// origin/main has, or else main; a checkout that has neither has nothing to compare with.
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buf, root } from './buf.ts';

function git(...args: string[]): { ok: boolean; output: Buffer } {
  const run = spawnSync('git', ['-C', root, ...args], { maxBuffer: 64 * 1024 * 1024 });
  return { ok: run.status === 0, output: run.stdout ?? Buffer.alloc(0) };
}

const wanted = process.argv[2];
const candidates = wanted ? [wanted] : ['refs/remotes/origin/main', 'refs/heads/main'];
const base = candidates.find((ref) => git('rev-parse', '--verify', '--quiet', `${ref}^{commit}`).ok);

if (wanted && !base) {
  console.error(`breaking: there is no commit ${wanted}`);
  process.exitCode = 1;
} else if (!base || !git('cat-file', '-e', `${base}:buf.yaml`).ok) {
  console.log('breaking: no main with contracts here to compare with, skipped');
} else {
  const folder = mkdtempSync(join(tmpdir(), 'armature-breaking-'));
  try {
    // An archive needs no remote, no full history and no .git folder, which buf's own git input does.
    const { ok, output } = git('archive', '--format=tar', base, 'buf.yaml', 'proto');
    if (!ok) throw new Error(`git archive ${base} failed`);
    const archived = join(folder, 'base');
    mkdirSync(archived);
    const unpacked = spawnSync('tar', ['-x', '-C', archived], { input: output, encoding: 'utf8' });
    if (unpacked.status !== 0) throw new Error(`tar failed: ${unpacked.error?.message ?? unpacked.stderr}`);
    buf(root, 'breaking', '--against', archived);
    console.log(`breaking: nothing breaks callers of ${base}`);
  } catch (error) {
    console.error(`against ${base}: ${error instanceof Error ? error.message : error}`);
    process.exitCode = 1;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
