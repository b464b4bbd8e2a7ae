/** Reads states from rows. Rows of format 1 outlive the deployment of format 2. */
import { type Action, type Branch, begin, type CoreDefinition, type Failure, type State } from './core.ts';

/** One command at a time, whose outcome led to the next one. */
export interface StateOfFormat1 {
  readonly format: 1;
  readonly phase: Action | 'stuck' | 'completed' | 'failed';
  readonly step: number;
  readonly epoch: number;
  readonly attempt: number;
  readonly round: number;
  readonly failure: Failure | null;
  readonly absent: boolean;
  readonly cancelTooLate: boolean;
  readonly stuck: { readonly phase: Action; readonly refused: boolean; readonly reason: string } | null;
}

/**
 * Reads the state of a row. Without a definition, for sagas that this process does not know, the state may only be
 * displayed. Throws on a format of a later release.
 */
export function readState(text: string, definition: CoreDefinition | undefined): State {
  const stored = JSON.parse(text) as State | StateOfFormat1 | { format: unknown };
  if (stored.format === 2) return stored as State;
  if (stored.format === 1) return upgraded(stored as StateOfFormat1, definition);
  throw new Error(`the state of a saga has format ${String(stored.format)}, which this process does not know`);
}

function upgraded(old: StateOfFormat1, definition: CoreDefinition | undefined): State {
  const { phase, step, epoch, attempt, round, failure, absent, cancelTooLate, stuck } = old;
  const common = { format: 2, failure, cancelTooLate } as const;
  if (phase === 'completed' || phase === 'failed') return { ...common, end: phase, epoch, branches: [] };
  const first: Branch = {
    ...{ phase: phase === 'stuck' ? (stuck?.phase ?? 'run') : phase, step, epoch, attempt, round, absent },
    ...{ failingSince: null, notBefore: 0 },
    stuck: stuck && { refused: stuck.refused, reason: stuck.reason },
  };
  const rest = first.phase === 'compensate' && definition ? stillToCompensate(definition, first) : [];
  return { ...common, end: null, epoch: epoch + rest.length, branches: [first, ...rest] };
}

/** In format 1 compensations went in order, so those of earlier steps had not begun. */
function stillToCompensate(definition: CoreDefinition, { step, epoch }: Branch): Branch[] {
  if (definition.compensation === 'in-order') return [];
  const [blank] = begin(definition).branches;
  return definition.steps
    .flatMap(({ compensable }, index) => (compensable && index < step ? [index] : []))
    .reverse()
    .map((index, count) => ({ ...blank!, phase: 'compensate', step: index, epoch: epoch + 1 + count }));
}
