import type { Migration } from '../db/schema-change.ts';

/**
 * Whether the secrets were removed from the data of a saga. The index finds ended sagas that still have them: those
 * from before this column, and those that a process of an earlier release ends, which does not use the column.
 */
export const Migration20261127320000_saga_secrets: Migration = {
  name: 'Migration20261127320000_saga_secrets',
  up(change) {
    change.addColumn('saga', 'secrets_removed', 'tinyint unsigned not null default 0');
    change.addIndex('saga', 'saga_secrets', '(secrets_removed, status, name)');
  },
};
