/** The server's error number, also below the ORM's wrappers; 0 when the error did not come from the server. */
export function databaseErrno(error: unknown): number {
  for (let e = error; e instanceof Error; e = e.cause) {
    if ('errno' in e && typeof e.errno === 'number') return e.errno;
  }
  return 0;
}

/** A unique key was taken. Only the statement is undone: the transaction goes on. */
export const isDuplicateKey = (error: unknown): boolean => databaseErrno(error) === 1062;
