import { Migration20261101100000_orders } from './20261101100000-orders.ts';
import { Migration20261124100000_append_only } from './20261124100000-append-only.ts';
import { Migration20261128300000_erasure } from './20261128300000-erasure.ts';

export const migrations = [
  Migration20261101100000_orders,
  Migration20261124100000_append_only,
  Migration20261128300000_erasure,
];
