// What services use, and below it what verification looks into.

export {
  advance,
  type Branch,
  begin,
  branchOf,
  type CoreDefinition,
  type CoreStep,
  type Input,
  nextOf,
  type State,
} from './core.ts';
export { stepKey } from './definition.ts';
export * from './engine.ts';
export { describeDivergence, divergences, type History, type HistoryEntry, recordingOf } from './history.ts';
export { endLease, leaseLocked, lockOverdue, lockPartition, releaseLease, renewLease } from './lease-store.ts';
export { reload } from './store.ts';
