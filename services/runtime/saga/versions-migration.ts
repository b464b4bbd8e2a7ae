import type { Migration } from '../db/schema-change.ts';

const text = (length: number) => `varchar(${length}) character set ascii collate ascii_bin`;

/**
 * The version of its definition that a saga runs, and its partition: `dependency` is the service that its next command
 * calls (empty: none, or several), `urgent` puts compensations, cancellations and sagas past their pivot before new
 * ones. Processes of earlier releases insert rows without these columns; the defaults are right for them.
 */
export const Migration20261127000000_saga_versions: Migration = {
  name: 'Migration20261127000000_saga_versions',
  up(change) {
    change.addColumn('saga', 'definition_version', 'int unsigned not null default 1');
    change.addColumn('saga', 'dependency', `${text(64)} not null default ''`);
    change.addColumn('saga', 'urgent', 'tinyint unsigned not null default 0');
    change.addIndex('saga', 'saga_lane', '(name, definition_version, dependency, urgent, due_at)');
  },
};
