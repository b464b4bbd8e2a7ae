import type { Migration, SchemaChange } from '../db/schema-change.ts';

/** The version of the hash of a stored request; existing rows have version 1. */
export const Migration20261127000000_request_hash: Migration = {
  name: 'Migration20261127000000_request_hash',
  up(change) {
    addHashColumns(change, 'idempotency', 'request_key');
    addHashColumns(change, 'operator_action', 'request_id');
  },
};

function addHashColumns(change: SchemaChange, table: string, key: string): void {
  change.addColumn(table, 'hash_version', 'tinyint unsigned not null default 1');
  change.addColumn(table, 'hash_key', `varchar(16) character set ascii collate ascii_bin not null default ''`);
  // Keys are lower-case from now on. Where a client has used one key in upper and in lower case, both rows stay.
  change.run(`update ignore ${table} set ${key} = lower(${key}) where ${key} <> lower(${key})`);
}
