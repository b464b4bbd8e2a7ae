/**
 * Sagas: work across several services that ends either done or compensated.
 *
 * Cost: starting a saga is a row in the caller's own transaction. Then each remote step takes one transaction, which
 * records the outcome, its log, its effect in the domain, the local steps that follow and the next lease. A saga of
 * three remote steps and two local ones without failures takes three commits and two statements in each. Only pauses
 * and takeovers add one transaction: taking the lease again, for many sagas at once.
 *
 * When the worker of a saga died, or the response to the commit of its lease was lost, another worker takes the saga
 * over after the lease has expired, at most 15 seconds later.
 *
 * Modules: core.ts decides, recording.ts writes, attempt.ts calls, worker.ts leases and drives, control.ts starts,
 * cancels and repairs.
 */
export {
  type CancelResult,
  forceCompensate,
  type OperatorResult,
  requestCancel,
  restartFailedSaga,
  resumeSaga,
  startSaga,
} from './control.ts';
export {
  defineSaga,
  type Json,
  type LocalStep,
  type Recorded,
  type RemoteStep,
  type RetryPolicy,
  type SagaDefinition,
  type SagaFacts,
  type SagaFailure,
  type SagaInit,
  type SagaResult,
  type StatusOutcome,
  type Step,
  type StepContext,
  type StepOutcome,
} from './definition.ts';
export { absentIfNotFound, done, rejected } from './outcome.ts';
export { type SagaWorker, type SagaWorkerOptions, startSagaWorker } from './worker.ts';
