export { SkipJobError } from './attempt.ts';
export {
  type ColumnValue,
  type JobQueue,
  type JobResult,
  jobQueue,
  type LeasedJob,
  type NewJob,
  type Priority,
  type QueueDefinition,
  StaleLeaseError,
} from './queue.ts';
export { addClaimColumns, addQueueColumns } from './queue-columns.ts';
export { type JobRetryPolicy, retryAfterMs } from './retry-policy.ts';
export { type JobHandler, type JobRunner, type JobRunnerParts, jobRunner } from './runner.ts';
