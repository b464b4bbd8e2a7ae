/** The server's error number, also below the ORM's wrappers; 0 when the error did not come from the server. */
export function databaseErrno(error: unknown): number {
  for (let e = error; e instanceof Error; e = e.cause) {
    if ('errno' in e && typeof e.errno === 'number') return e.errno;
  }
  return 0;
}

/**
 * Thrown inside a transaction whose view is out of date: it is rolled back and run again, as after a deadlock. For
 * rows that came into use meanwhile: a failed insert keeps a shared lock, so the same transaction must not lock the
 * row afterwards.
 */
export class RestartTransaction extends Error {}

/** A unique key was taken. Only the statement is undone: the transaction goes on. */
export const isDuplicateKey = (error: unknown): boolean => databaseErrno(error) === 1062;
