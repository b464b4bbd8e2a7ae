import { createHmac, randomBytes } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  linkSync,
  mkdirSync,
  readFileSync,
  renameSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The folder of this checkout, whatever folder a command was started in. */
export const repository = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

/** One folder that holds everything of one private set of servers, services and keys. */
export interface State {
  dir: string;
  /** Every password is derived from this, so that two processes never have to agree on who writes one down. */
  secret: string;
  /**
   * Whether private servers force each commit to the disk (fsync). Servers of tests do not: their commits survive a
   * killed process, which tests need, but not a power failure.
   */
  fsync: boolean;
}

/** The folder of the demo mesh: ARMATURE_RUN_DIR, or `.run` in the checkout. */
export function runDirectory(): string {
  return resolve(process.env.ARMATURE_RUN_DIR || join(repository, '.run'));
}

/** Opens the state of the demo mesh, making its folder and secret where they are missing. */
export function openState(dir: string = runDirectory()): State {
  return { dir: made(dir), secret: secretOf(dir), fsync: true };
}

/**
 * Opens the state of the servers that tests use: apart from the demo mesh's, but with its secret, so that both
 * may stand on one server given by URL without changing each other's passwords.
 */
export function openTestState(dir: string = runDirectory()): State {
  return { dir: made(join(made(dir), 'test')), secret: secretOf(dir), fsync: false };
}

/** Where Node keeps what it has compiled of our programs, so that not every process compiles them anew. */
export const compileCacheOf = ({ dir }: State): string => join(dir, 'compile-cache');

/** The password of one account, the same at every call for the life of the state folder. */
export function password(state: State, account: string): string {
  return createHmac('sha256', state.secret).update(account).digest('base64url').slice(0, 32);
}

/** Writes a file so that a reader sees the old content or the new, never a half. */
export function writeAtomically(path: string, content: string, mode = 0o644): void {
  mkdirSync(dirname(path), { recursive: true });
  const draft = `${path}.${process.pid}.${randomBytes(4).toString('hex')}`;
  writeFileSync(draft, content, { mode });
  // The mode given at creation is cut by the umask; this one is not.
  chmodSync(draft, mode);
  renameSync(draft, path);
}

/** Reads a JSON file that may not be there. A file that is there but is not JSON is an error that names it. */
export function readJson<T>(path: string): T | undefined {
  if (!existsSync(path)) return undefined;
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as T;
  } catch (error) {
    throw new Error(`${path} is not valid JSON; remove it and run again`, { cause: error });
  }
}

/** The last lines of a file, for messages that say why a program ended. */
export function tail(path: string, lines = 25): string {
  if (!existsSync(path)) return '(no log was written)';
  return readFileSync(path, 'utf8').trimEnd().split('\n').slice(-lines).join('\n');
}

/** Nearly everything writes a log, so their folder is there from the start. */
function made(dir: string): string {
  mkdirSync(join(dir, 'logs'), { recursive: true, mode: 0o700 });
  return dir;
}

function secretOf(dir: string): string {
  const path = join(made(dir), 'secret');
  if (!existsSync(path)) {
    const draft = `${path}.${process.pid}`;
    writeFileSync(draft, randomBytes(32).toString('hex'), { mode: 0o600 });
    // Two first runs at once must end with one secret: a link fails where the other's is there already.
    try {
      linkSync(draft, path);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    } finally {
      unlinkSync(draft);
    }
  }
  return readFileSync(path, 'utf8');
}
