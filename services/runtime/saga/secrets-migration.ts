import type { Migration } from '../db/schema-change.ts';

/**
 * Whether the secrets of a saga have left its data. Ended sagas whose secrets are left are found by the index: those of
 * before this column, and those that a process of an earlier release ends, which knows nothing of it.
 */
export const Migration20261127320000_saga_secrets: Migration = {
  name: 'Migration20261127320000_saga_secrets',
  up(change) {
    change.addColumn('saga', 'secrets_removed', 'tinyint unsigned not null default 0');
    change.addIndex('saga', 'saga_secrets', '(secrets_removed, status, name)');
  },
};
