import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmdirSync, statfsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Teardown } from './infra.ts';

/** A small in-memory disk of one test, which can become full. */
export interface SmallDisk {
  readonly dir: string;
  /** Uses all free space but one mebibyte. */
  fill(): void;
  /** Frees the space again. */
  free(): void;
}

/** A disk cannot be made smaller than its content, which may have grown since it was measured. */
const marginBytes = 2 ** 20;

const mount = (...args: string[]) => execFileSync('mount', args, { encoding: 'utf8', stdio: 'pipe' });

/** Why this process cannot mount a disk; null if it can. */
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
 * Mounts a disk of this many MiB and removes it when the test ends. Create its users after it, so that they end before
 * it.
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
