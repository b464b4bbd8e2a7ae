import { Migration20261101100000_payments } from './20261101100000-payments.ts';
import { Migration20261124180000_webhooks } from './20261124180000-webhooks.ts';

export const migrations = [Migration20261101100000_payments, Migration20261124180000_webhooks];
