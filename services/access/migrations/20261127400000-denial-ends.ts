import type { Migration } from '@armature/runtime/migrations';

/** Denials that have ended are remembered, and those of an earlier release end like all others. */
export const Migration20261127400000_denial_ends: Migration = {
  name: 'Migration20261127400000_denial_ends',
  up(change) {
    // Set once the denial has ended. The account is deactivated still: a role that it is granted begins it again.
    change.addColumn('denied_subject', 'ended_at', 'datetime(6) null');
    change.addIndex('denied_subject', 'denied_subject_due', '(ended_at, end_at)');
    // An earlier release denied deactivated accounts without an end. The first policy's own denials have none either,
    // and are older than its version.
    change.run(`
      update denied_subject set end_at = utc_timestamp(6) + interval 24 hour
      where end_at is null and created_at > (select changed_at from policy_version where version = 1)`);
  },
};
