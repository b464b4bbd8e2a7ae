import type { Migration } from '@armature/runtime/migrations';

/** The comment is what takes the right to change or delete rows from the service's database user. */
export const Migration20261124100000_append_only: Migration = {
  name: 'Migration20261124100000_append_only',
  up(change) {
    change.run(`alter table order_event comment = 'append-only: the history of orders'`);
  },
};
