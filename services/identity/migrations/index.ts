import { Migration20261120100000_identity } from './20261120100000-identity.ts';

export const migrations = [Migration20261120100000_identity];
