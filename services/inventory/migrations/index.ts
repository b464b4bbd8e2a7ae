import { Migration20261101100000_inventory } from './20261101100000-inventory.ts';

export const migrations = [Migration20261101100000_inventory];
