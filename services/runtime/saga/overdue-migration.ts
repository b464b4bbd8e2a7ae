import type { Migration } from '../db/schema-change.ts';

/** New sagas by when their time is up: a worker ends them although the dependency they wait for has no slot. */
export const Migration20261127310000_saga_overdue: Migration = {
  name: 'Migration20261127310000_saga_overdue',
  up(change) {
    change.addIndex('saga', 'saga_overdue', '(name, definition_version, dependency, urgent, deadline_at)');
  },
};
