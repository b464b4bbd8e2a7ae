/**
 * The queues of waiting sagas: a partition contains the due sagas of one version whose next command calls one
 * dependency, urgent ones and new ones separately. Workers take from partitions for which they have slots, so that
 * sagas that wait for a slow dependency delay no others, however many they are.
 */
import { isPastPivot, type State } from './core.ts';
import { isLocal, type SagaDefinition } from './definition.ts';

export interface Partition {
  readonly name: string;
  readonly version: number;
  /** Empty: none, or several. */
  readonly dependency: string;
  readonly urgent: boolean;
}

/** The dependency that a step calls; empty when it is local or names none. */
export function dependencyOf({ steps }: SagaDefinition, index: number): string {
  const step = steps[index];
  return step && !isLocal(step) ? (step.dependency ?? '') : '';
}

/** Compensations, cancellations and sagas past their pivot come before new ones. */
export const isUrgent = ({ core }: SagaDefinition, state: State): boolean =>
  state.failure !== null || isPastPivot(core, state);

/** The partition of a saga in this state. */
export function partitionOf(definition: SagaDefinition, state: State): Partition {
  const { name, version } = definition;
  const due = state.branches.filter(({ stuck }) => stuck === null);
  const dependencies = new Set(due.map(({ step }) => dependencyOf(definition, step)));
  const [only = ''] = dependencies;
  return { name, version, dependency: dependencies.size === 1 ? only : '', urgent: isUrgent(definition, state) };
}

/** Every partition in which sagas of this definition may wait. */
export function partitionsOf(definition: SagaDefinition): Partition[] {
  const { name, version, steps } = definition;
  const dependencies = new Set(['', ...steps.map((_, index) => dependencyOf(definition, index))]);
  return [...dependencies].flatMap((dependency) =>
    [true, false].map((urgent) => ({ name, version, dependency, urgent })),
  );
}
