import { execFileSync } from 'node:child_process';
import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { repository } from '../../../scripts/devmesh/state.ts';
import { type Mutation, mutated } from './mutation.ts';

/** A copy of the working tree that mutations are applied to. */
export interface Scratch {
  readonly dir: string;
  /** Applies a mutation to the copy. Throws unless every text to change occurs exactly once. */
  mutate(mutation: Mutation): void;
  /** Restores the copy. */
  restore(): void;
}

/**
 * Creates the copy and replaces an earlier one. Installed packages are shared with the repository; workspaces are the
 * copy's own.
 */
export function makeScratch(dir: string): Scratch {
  rmSync(dir, { recursive: true, force: true });
  for (const file of sourceFiles()) {
    mkdirSync(dirname(join(dir, file)), { recursive: true });
    copyFileSync(join(repository, file), join(dir, file));
  }
  cpSync(join(repository, 'proto/gen'), join(dir, 'proto/gen'), { recursive: true });
  linkPackages(dir);
  const changed = new Set<string>();
  return {
    dir,
    mutate(mutation) {
      const texts = mutated(mutation, (file) => readFileSync(join(repository, file), 'utf8'));
      for (const [file, text] of texts) {
        changed.add(file);
        writeFileSync(join(dir, file), text);
      }
    },
    restore() {
      for (const file of changed) copyFileSync(join(repository, file), join(dir, file));
      changed.clear();
    },
  };
}

/** Files that git tracks or would track, without files that are deleted in the working tree. */
function sourceFiles(): string[] {
  const listed = execFileSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], {
    cwd: repository,
    encoding: 'utf8',
    maxBuffer: 64 * 1024 * 1024,
  });
  return [...new Set(listed.split('\0'))].filter((file) => file !== '' && existsSync(join(repository, file)));
}

/** Links every package. Links of workspaces are relative, so they lead into the copy. */
function linkPackages(dir: string): void {
  const from = join(repository, 'node_modules');
  const to = join(dir, 'node_modules');
  const own = '@armature';
  mkdirSync(join(to, own), { recursive: true });
  for (const name of readdirSync(from)) if (name !== own) symlinkSync(join(from, name), join(to, name));
  for (const name of readdirSync(join(from, own)))
    symlinkSync(readlinkSync(join(from, own, name)), join(to, own, name));
  const runtime = realpathSync(join(to, own, 'runtime'));
  // If the copy ran the original code, every mutation would survive.
  if (runtime !== join(realpathSync(dir), 'services/runtime')) throw new Error(`the copy runs ${runtime}, not its own`);
}
