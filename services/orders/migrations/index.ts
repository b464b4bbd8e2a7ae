import { Migration20261101100000_orders } from './20261101100000-orders.ts';

export const migrations = [Migration20261101100000_orders];
