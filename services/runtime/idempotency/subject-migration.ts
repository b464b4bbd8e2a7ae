import type { Migration } from '../db/schema-change.ts';

/** The person whose data a stored response may hold. Rows of earlier releases have none; they expire within 48 hours. */
export const Migration20261128310000_response_subject: Migration = {
  name: 'Migration20261128310000_response_subject',
  up(change) {
    change.addColumn('idempotency', 'subject', 'varchar(64) character set ascii collate ascii_bin null');
    change.addIndex('idempotency', 'idempotency_subject', '(subject)');
  },
};
