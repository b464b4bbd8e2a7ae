import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';

/**
 * Makes this process the only one on a data directory until it ends, however it ends, and returns a function that
 * gives the directory up.
 *
 * Node has no flock, and a file with a process id outlives kill -9 and misleads across containers. An exclusive
 * transaction of SQLite on an otherwise empty file is a lock that the kernel itself drops with the process.
 */
export function lockDirectory(directory: string): () => void {
  const database = new DatabaseSync(join(directory, 'lock'), { timeout: 0 });
  try {
    database.exec('PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE');
  } catch (cause) {
    database.close();
    throw new Error(`the data directory ${directory} cannot be locked: another process is using it`, { cause });
  }
  return () => database.close();
}
