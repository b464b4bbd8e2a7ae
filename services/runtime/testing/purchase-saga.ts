import { advance, begin, type CoreDefinition, type CoreStep, type Input, type State } from '../saga/core.ts';
import { about, type History, type HistoryEntry } from '../saga/history.ts';

/** A remote step with a status query and a compensation, by default. */
export const step = (name: string, more: Partial<CoreStep> = {}): CoreStep => ({
  ...{ name, local: false, pivot: false, queryable: true, compensable: true, compensateAbsent: true },
  ...more,
});

export const purchase: CoreDefinition = {
  name: 'purchase',
  steps: [step('reserve'), step('authorize'), step('confirm', { local: true, pivot: true, queryable: false })],
  ...{ version: 1, mustComplete: false, compensation: 'in-order' },
  retry: { initialBackoffMs: 50, maxBackoffMs: 400, maxElapsedMs: 2_400 },
};

/** An outcome of the due command, once its epoch is known; the time is a second after the last one. */
export type PlayedOutcome = (epoch: number, at: number) => Input;

/** Plays outcomes to a purchase saga as the engine does, and collects what its log would contain. */
export function played(name: string, outcomes: readonly PlayedOutcome[]): History & { state: State } {
  let state = begin(purchase);
  const entries: HistoryEntry[] = outcomes.map((outcome, index) => {
    const input = outcome(state.branches[0]!.epoch, index * 1_000);
    const entry = { ...about(purchase, state, input), input };
    state = advance(purchase, state, input);
    return entry;
  });
  return { name, saga: purchase.name, entries, state };
}

export const done: PlayedOutcome = (epoch) => ({ kind: 'done', epoch });
export const lost: PlayedOutcome = (epoch, at) => ({ kind: 'unknown', epoch, at, detail: 'ada@example.com hung up' });
export const no: PlayedOutcome = (epoch) => ({ kind: 'rejected', epoch, reason: 'DECLINED', detail: 'card_declined' });
export const undone: PlayedOutcome = (epoch) => ({ kind: 'compensated', epoch });
