import { Migration20261101100000_catalog } from './20261101100000-catalog.ts';

export const migrations = [Migration20261101100000_catalog];
