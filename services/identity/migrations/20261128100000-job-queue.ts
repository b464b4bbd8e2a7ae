import { addClaimColumns } from '@armature/runtime/jobs';
import type { Migration } from '@armature/runtime/migrations';

/**
 * E-mails become jobs of the runtime's queue: adds priority and time limit. A process of the release before works
 * with the columns that it knows, by the index letter_due, which a later release drops.
 */
export const Migration20261128100000_identity_job_queue: Migration = {
  name: 'Migration20261128100000_identity_job_queue',
  up(change) {
    addClaimColumns(change, 'letter');
  },
};
