import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';

/**
 * Locks a data directory for this process until it ends, also by kill -9. Returns a function that unlocks it.
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
