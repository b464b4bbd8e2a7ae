import type { Migration } from '@armature/runtime/migrations';

/** An index for the deliveries of one customer, which are erased with the account. */
export const Migration20261128300000_notifications_erasure: Migration = {
  name: 'Migration20261128300000_notifications_erasure',
  up(change) {
    change.addIndex('delivery', 'delivery_customer', '(customer_id, delivery_id)');
  },
};
