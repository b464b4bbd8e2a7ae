import type { Migration } from '@armature/runtime/migrations';

/** Indexes for the list of deliveries of one state, and for their retention. */
export const Migration20261127200000_notifications_job_indexes: Migration = {
  name: 'Migration20261127200000_notifications_job_indexes',
  up(change) {
    change.addIndex('delivery', 'delivery_state', '(state, delivery_id)');
    change.addIndex('delivery', 'delivery_created', '(state, created_at)');
  },
};
