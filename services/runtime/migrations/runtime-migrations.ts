import { Migration20261101000003_decisions } from '../authz/decision-migration.ts';
import { Migration20261127200000_job_indexes } from '../db/job-indexes-migration.ts';
import { Migration20261101000000_answers } from '../db/migration.ts';
import type { Migration } from '../db/schema-change.ts';
import { Migration20261127000000_request_hash } from '../idempotency/request-hash-migration.ts';
import { Migration20261128310000_response_subject } from '../idempotency/subject-migration.ts';
import { Migration20261127400000_baseline_range } from '../messaging/baseline-migration.ts';
import { Migration20261101000001_messaging } from '../messaging/migration.ts';
import { Migration20261127100000_event_order } from '../messaging/order-migration.ts';
import { Migration20261124000000_operators } from '../ops/operator-migration.ts';
import { Migration20261101000002_saga } from '../saga/migration.ts';
import { Migration20261127310000_saga_overdue } from '../saga/overdue-migration.ts';
import { Migration20261127300000_saga_retention } from '../saga/retention-migration.ts';
import { Migration20261127320000_saga_secrets } from '../saga/secrets-migration.ts';
import { Migration20261127000000_saga_versions } from '../saga/versions-migration.ts';

/** The tables of the runtime, which every service has in its own schema. */
export const runtimeMigrations: readonly Migration[] = [
  Migration20261101000000_answers,
  Migration20261101000001_messaging,
  Migration20261101000002_saga,
  Migration20261101000003_decisions,
  Migration20261124000000_operators,
  Migration20261127000000_saga_versions,
  Migration20261127000000_request_hash,
  Migration20261127100000_event_order,
  Migration20261127200000_job_indexes,
  Migration20261127300000_saga_retention,
  Migration20261127310000_saga_overdue,
  Migration20261127320000_saga_secrets,
  Migration20261127400000_baseline_range,
  Migration20261128310000_response_subject,
];
