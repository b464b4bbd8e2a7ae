import { Migration20261120100000_identity } from './20261120100000-identity.ts';
import { Migration20261127200000_identity_job_indexes } from './20261127200000-job-indexes.ts';
import { Migration20261128100000_identity_job_queue } from './20261128100000-job-queue.ts';
import { Migration20261128200000_identity_sessions_ended } from './20261128200000-sessions-ended.ts';
import { Migration20261128530000_identity_sealed_by } from './20261128530000-sealed-by.ts';
import { Migration20261128600000_identity_attempt_budget } from './20261128600000-attempt-budget.ts';
import { Migration20261128710000_identity_login_session } from './20261128710000-login-session.ts';

export const migrations = [
  Migration20261120100000_identity,
  Migration20261127200000_identity_job_indexes,
  Migration20261128100000_identity_job_queue,
  Migration20261128200000_identity_sessions_ended,
  Migration20261128530000_identity_sealed_by,
  Migration20261128600000_identity_attempt_budget,
  Migration20261128710000_identity_login_session,
];
