import type { Migration } from '../db/schema-change.ts';

/**
 * An index of new sagas by their deadline: a worker ends them even when the dependency that they wait for has no free
 * slot.
 */
export const Migration20261127310000_saga_overdue: Migration = {
  name: 'Migration20261127310000_saga_overdue',
  up(change) {
    change.addIndex('saga', 'saga_overdue', '(name, definition_version, dependency, urgent, deadline_at)');
  },
};
