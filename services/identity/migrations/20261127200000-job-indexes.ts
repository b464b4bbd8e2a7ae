import type { Migration } from '@armature/runtime/migrations';

/** Indexes by which periodic jobs and lists find accounts and letters of one state. */
export const Migration20261127200000_identity_job_indexes: Migration = {
  name: 'Migration20261127200000_identity_job_indexes',
  up(change) {
    change.addIndex('account', 'account_state', '(state, created_at, user_id)');
    change.addIndex('letter', 'letter_state', '(state, expires_at)');
  },
};
