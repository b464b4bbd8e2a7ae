import { Migration20261101100000_notifications } from './20261101100000-notifications.ts';
import { Migration20261127200000_notifications_job_indexes } from './20261127200000-job-indexes.ts';
import { Migration20261128100000_notifications_job_queue } from './20261128100000-job-queue.ts';
import { Migration20261128300000_notifications_erasure } from './20261128300000-erasure.ts';

export const migrations = [
  Migration20261101100000_notifications,
  Migration20261127200000_notifications_job_indexes,
  Migration20261128100000_notifications_job_queue,
  Migration20261128300000_notifications_erasure,
];
