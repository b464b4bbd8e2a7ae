import { Migration20261101100000_notifications } from './20261101100000-notifications.ts';

export const migrations = [Migration20261101100000_notifications];
