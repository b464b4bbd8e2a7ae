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

/** A copy of the repository, as it is in the working tree, that mutations are put into. */
export interface Scratch {
  readonly dir: string;
  /** Puts a mutation into the copy. Throws where a text to change is not there exactly once. */
  mutate(mutation: Mutation): void;
  /** Makes the copy what it was. */
  restore(): void;
}

/** Makes the copy, in place of an earlier one. Packages are those of the repository, its own workspaces are the copy's. */
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

/** What git knows or would know; a file that is deleted and not committed yet is named, and is not there. */
function sourceFiles(): string[] {
  const listed = execFileSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], {
    cwd: repository,
    encoding: 'utf8',
    maxBuffer: 64 * 1024 * 1024,
  });
  return [...new Set(listed.split('\0'))].filter((file) => file !== '' && existsSync(join(repository, file)));
}

/** Links every package; links of our own workspaces are relative, and so lead into the copy. */
function linkPackages(dir: string): void {
  const from = join(repository, 'node_modules');
  const to = join(dir, 'node_modules');
  const own = '@armature';
  mkdirSync(join(to, own), { recursive: true });
  for (const name of readdirSync(from)) if (name !== own) symlinkSync(join(from, name), join(to, name));
  for (const name of readdirSync(join(from, own)))
    symlinkSync(readlinkSync(join(from, own, name)), join(to, own, name));
  const runtime = realpathSync(join(to, own, 'runtime'));
  // A mutation that nobody runs would survive everything.
  if (runtime !== join(realpathSync(dir), 'services/runtime')) throw new Error(`the copy runs ${runtime}, not its own`);
}
