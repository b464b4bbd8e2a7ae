import { Migration20261101100000_payments } from './20261101100000-payments.ts';

export const migrations = [Migration20261101100000_payments];
