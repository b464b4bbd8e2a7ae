import type { Migration } from '@armature/runtime/migrations';

/** An index for the payments of one customer, which are listed and exported. */
export const Migration20261128700000_customer_payments: Migration = {
  name: 'Migration20261128700000_customer_payments',
  up(change) {
    change.addIndex('payment', 'payment_customer', '(customer_id, payment_id)');
  },
};
