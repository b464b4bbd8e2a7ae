import { Migration20261101100000_access } from './20261101100000-access.ts';
import { Migration20261127300000_decision_retention } from './20261127300000-decision-retention.ts';
import { Migration20261127400000_denial_ends } from './20261127400000-denial-ends.ts';

export const migrations = [
  Migration20261101100000_access,
  Migration20261127300000_decision_retention,
  Migration20261127400000_denial_ends,
];
