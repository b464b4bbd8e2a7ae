import type { Migration } from '@armature/runtime/migrations';

/**
 * Budgets of attempts, and the index by which a sign-in finds out whether its source is familiar. A process of the
 * release before counts in the table attempt, which a later release drops.
 */
export const Migration20261128600000_identity_attempt_budget: Migration = {
  name: 'Migration20261128600000_identity_attempt_budget',
  up(change) {
    change.run(`
      create table if not exists attempt_budget (
        subject_hash binary(32) not null,
        forgotten_at datetime(6) not null,
        due_at datetime(6) not null,
        primary key (subject_hash),
        key attempt_budget_age (forgotten_at)
      ) engine = InnoDB default charset = utf8mb4`);
    change.addIndex('sign_in', 'sign_in_source', '(user_id, source)');
  },
};
