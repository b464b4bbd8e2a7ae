import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmdirSync, statfsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Teardown } from './infra.ts';

/** A disk of the test's own, in memory, of which there can be too little. */
export interface SmallDisk {
  readonly dir: string;
  /** Takes all that is free away but a mebibyte: soon nothing can grow. */
  fill(): void;
  /** Gives it back. */
  free(): void;
}

/** A disk cannot be made smaller than what is on it, which may have grown since one looked. */
const marginBytes = 2 ** 20;

const mount = (...args: string[]) => execFileSync('mount', args, { encoding: 'utf8', stdio: 'pipe' });

/** Why this process may not mount a disk; null when it may. */
export function whyNoMounts(): string | null {
  if (process.platform !== 'linux') return 'tmpfs is a thing of Linux';
  if (process.getuid?.() !== 0) return 'only root may mount a disk';
  const dir = mkdtempSync(join(tmpdir(), 'armature-disk-'));
  try {
    mount('-t', 'tmpfs', '-o', 'size=1m', 'armature', dir);
    execFileSync('umount', [dir]);
    return null;
  } catch (error) {
    return `mounting does not work here: ${(error as Error).message.trim()}`;
  } finally {
    rmdirSync(dir);
  }
}

/**
 * Mounts a disk of so many MiB. It is gone when the test ends; whoever uses it must have been made after it, so that it
 * ends before.
 */
export function smallDisk(t: Teardown, mib: number): SmallDisk {
  const dir = mkdtempSync(join(tmpdir(), 'armature-disk-'));
  mount('-t', 'tmpfs', '-o', `size=${mib}m`, 'armature', dir);
  t.teardown(() => {
    execFileSync('umount', [dir]);
    rmdirSync(dir);
  });
  return {
    dir,
    fill() {
      const { blocks, bfree, bsize } = statfsSync(dir);
      mount('-o', `remount,size=${(blocks - bfree) * bsize + marginBytes}`, dir);
    },
    free: () => void mount('-o', `remount,size=${mib}m`, dir),
  };
}
