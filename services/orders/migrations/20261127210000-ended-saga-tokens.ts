import type { Migration } from '@armature/runtime/db/schema-change.ts';

/** Payment tokens leave a checkout when it ends; those that ended before still have theirs. */
export const Migration20261127210000_ended_saga_tokens: Migration = {
  name: 'Migration20261127210000_ended_saga_tokens',
  up(change) {
    change.run(`
      update saga set data = json_remove(data, '$.paymentMethod')
      where name = 'checkout' and status in ('COMPLETED', 'FAILED') and json_contains_path(data, 'one', '$.paymentMethod')`);
  },
};
