/**
 * Returns the server's error number, also from inside the ORM's wrappers; 0 when the error did not come from the
 * server.
 */
export function databaseErrno(error: unknown): number {
  for (let e = error; e instanceof Error; e = e.cause) {
    if ('errno' in e && typeof e.errno === 'number') return e.errno;
  }
  return 0;
}

/**
 * Thrown inside a transaction whose snapshot is out of date: it is rolled back and run again, as after a deadlock. For
 * rows that another transaction inserted meanwhile: a failed insert keeps a shared lock, so the same transaction must
 * not lock the row afterwards.
 */
export class RestartTransaction extends Error {}

/** Whether a unique key was already used. Only the statement is undone; the transaction continues. */
export const isDuplicateKey = (error: unknown): boolean => databaseErrno(error) === 1062;
