import type { Migration } from './schema-change.ts';

/** Indexes for the queries of periodic jobs and operators' lists, so that their cost does not grow with the table. */
export const Migration20261127200000_job_indexes: Migration = {
  name: 'Migration20261127200000_job_indexes',
  up(change) {
    change.addIndex('outbox', 'outbox_published', '(published_at)');
    // For the relay while some aggregates are blocked: it reads the others one by one.
    change.addIndex('outbox', 'outbox_pending_aggregate', '(pending, aggregate, position)');
    change.addIndex('dead_letter', 'dead_letter_dropped', '(dropped_at)');
    change.addIndex('saga', 'saga_listed', '(status, saga_id)');
  },
};
