import { linkSync, mkdirSync, readFileSync, renameSync, unlinkSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { identify, isAlive, isSuspended, type ProcessIdentity, stoppedBySignal } from './processes.ts';

/**
 * Runs `work` while no other process holds the lock file. A lock whose holder has died is taken over; a holder
 * that lives too long is named in the error. `waiting` is called once when another process holds the lock.
 */
export async function withLock<T>(
  path: string,
  work: () => Promise<T> | T,
  { waitMs = 180_000, waiting = (_holder: ProcessIdentity): void => undefined } = {},
): Promise<T> {
  let told = false;
  const me = identify(process.pid)!;
  mkdirSync(dirname(path), { recursive: true });
  const deadline = Date.now() + waitMs;
  while (!take(path, me)) {
    const holder = read(path);
    if (holder && !isAlive(holder)) {
      takeAway(path, holder);
      continue;
    }
    if (Date.now() > deadline) throw new Error(heldTooLong(path, holder, waitMs));
    if (holder && !told) waiting(holder);
    told ||= holder !== undefined;
    await sleep(25 + Math.random() * 25);
  }
  try {
    return await work();
  } finally {
    unlinkSync(path);
  }
}

/** The live process that holds a lock file, if any. */
export function lockHolder(path: string): ProcessIdentity | undefined {
  const holder = read(path);
  return isAlive(holder) ? holder : undefined;
}

function heldTooLong(path: string, holder: ProcessIdentity | undefined, waitMs: number): string {
  const stopped = holder && isSuspended(holder.pid) ? `; ${stoppedBySignal(holder)}` : '';
  return `${path} has been held by process ${holder?.pid} for ${waitMs} ms${stopped}`;
}

let attempts = 0;

/** A link appears with its content in one step, so a lock file is never seen empty. */
function take(path: string, me: ProcessIdentity): boolean {
  const draft = `${path}.${me.pid}.${attempts++}`;
  writeFileSync(draft, JSON.stringify(me));
  try {
    linkSync(draft, path);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    return false;
  } finally {
    unlinkSync(draft);
  }
}

function read(path: string): ProcessIdentity | undefined {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as ProcessIdentity;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    return undefined;
  }
}

/** Removes the lock of a dead process, and puts it back if another process has taken it meanwhile. */
function takeAway(path: string, dead: ProcessIdentity): void {
  const aside = `${path}.dead.${process.pid}`;
  try {
    renameSync(path, aside);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
    throw error;
  }
  const found = read(aside);
  if (found && (found.pid !== dead.pid || found.started !== dead.started)) linkSync(aside, path);
  unlinkSync(aside);
}
