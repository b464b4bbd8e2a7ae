import type { Migration } from '@armature/runtime/migrations';

/** When all sessions of an account were last ended. A process of the release before does not write it. */
export const Migration20261128200000_identity_sessions_ended: Migration = {
  name: 'Migration20261128200000_identity_sessions_ended',
  up(change) {
    change.addColumn('account', 'sessions_ended_at', 'datetime(6) null');
  },
};
