import type { Sql, SqlReader } from './tx.ts';

const reads = /^[\s(]*(?:select|with|show|explain)\b/i;
/** `with` may begin a change, `explain analyze` runs one, `select` may write a file or lock rows. */
const writesOrLocks = /;|\b(?:update|delete|into|for\s+share|lock\s+in\s+share\s+mode)\b/i;

/** Throws for a statement that is not a plain read. Checks words, so a text in quotes must be a parameter. */
function assertReads(sql: string): void {
  if (reads.test(sql) && !writesOrLocks.test(sql)) return;
  throw new Error(`not a read; use Database.write or a transaction: ${sql.replace(/\s+/g, ' ').trim().slice(0, 100)}`);
}

/** The part of `sql` that reads. */
export function readOnly({ query, find }: Sql): SqlReader {
  return {
    find,
    async query(sql, params) {
      assertReads(sql);
      return query(sql, params);
    },
  };
}
