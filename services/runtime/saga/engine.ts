/**
 * Sagas: work over several services that ends, either done or undone.
 *
 * What it costs: starting one is a row in the caller's own transaction; then one transaction per remote step,
 * which records the outcome, its log, what it means for the domain, the local steps that follow and the next
 * lease. A saga of three remote steps and two local ones that meets no trouble takes three commits and two
 * statements in each. Only pauses and takeovers add one: taking the lease again, for many sagas at once.
 *
 * A saga whose worker died, or whose lease was committed without anybody hearing of it, is taken up when that
 * lease has expired, 15 seconds later at most.
 *
 * The parts: core.ts decides, recording.ts writes, attempt.ts calls, worker.ts leases and drives, control.ts is
 * for those who start, cancel and mend.
 */
export {
  type CancelAnswer,
  forceCompensate,
  type OperatorAnswer,
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
  type StatusAnswer,
  type Step,
  type StepContext,
  type StepOutcome,
} from './definition.ts';
export { absentIfNotFound, done, rejected } from './outcome.ts';
export { type SagaWorker, type SagaWorkerOptions, startSagaWorker } from './worker.ts';
