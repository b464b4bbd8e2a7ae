import { Migration20261101100000_access } from './20261101100000-access.ts';

export const migrations = [Migration20261101100000_access];
