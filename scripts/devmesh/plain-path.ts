import { createHash } from 'node:crypto';
import { lstatSync, readlinkSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { State } from './state.ts';

/** Every program takes such a path, unquoted in a shell, and as a value of a configuration file. */
const plain = /^[\w./+@-]+$/;

/**
 * The state by a path that the programs of database and broker understand: its own, or that of a symbolic link to it.
 * The installer of MariaDB does not quote the path of its data folder, and configuration files of both servers have
 * characters with a meaning (`#`, `%`, quotes), so that a checkout under "a b" or "ü" needs the link.
 */
export function plainState(state: State): State {
  if (plain.test(state.dir)) return state;
  const link = linkOf(state);
  if (!isOurs(link, state.dir)) {
    rmSync(link, { force: true });
    try {
      symlinkSync(state.dir, link);
    } catch (error) {
      // Another process of this state folder may have made it meanwhile.
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST' || !isOurs(link, state.dir)) throw error;
    }
  }
  return { ...state, dir: link };
}

/** Removes the link, where there is one. Call it once the servers have ended. */
export function removePlainPath(state: State): void {
  if (!plain.test(state.dir) && isOurs(linkOf(state), state.dir)) rmSync(linkOf(state));
}

function linkOf({ dir }: State): string {
  const folder = plain.test(tmpdir()) ? tmpdir() : '/tmp';
  return join(folder, `armature-${createHash('sha256').update(dir).digest('hex').slice(0, 16)}`);
}

/** Whether the link leads to the folder. Throws when another user owns it, who could let it lead elsewhere later. */
function isOurs(link: string, dir: string): boolean {
  let owner: number;
  try {
    owner = lstatSync(link).uid;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    return false;
  }
  const me = process.getuid?.();
  if (me !== undefined && owner !== me) {
    throw new Error(
      `${link} belongs to user id ${owner}; the servers of ${dir} need that name for a link, since the folder's path ` +
        'has characters that they do not take. Remove it, or set ARMATURE_RUN_DIR to a path without such characters.',
    );
  }
  return lstatSync(link).isSymbolicLink() && readlinkSync(link) === dir;
}
