/**
 * What a saga has gone through, as its log keeps it, held against a definition. The same inputs must lead a
 * definition of today where they led the one of then: sagas that are under way while a new version is deployed
 * go on from states that the old one has made.
 */
import { advance, begin, type CoreDefinition, commandOf, type Input, type State } from './core.ts';

/** One applied input, as saga_log has it. */
export interface HistoryEntry {
  /** The step that was due when the input came, what was to be done with it, and the tries before. */
  readonly step: string;
  readonly kind: string;
  readonly attempt: number;
  readonly input: Input;
  /** Where it led and what was due then, in the words of `landmark`; logs do not keep it, recordings do. */
  readonly led?: string;
}

export interface History {
  /** The id of the saga, or what a recording is called. */
  readonly name: string;
  readonly saga: string;
  /** Of the definition; 1 where it is left out. */
  readonly version?: number;
  readonly entries: readonly HistoryEntry[];
  /** The state of the saga's row; recordings end with their last `led` instead. */
  readonly state?: State;
}

/** Where a definition leaves a history: `entry` counts from 1, as positions do; 0 is the beginning. */
export interface Divergence {
  readonly name: string;
  readonly saga: string;
  readonly entry: number;
  /** The input of that entry and what it was an answer to. */
  readonly at?: string;
  readonly expected: string;
  readonly got: string;
}

/** A state and what is due in it, without anything that somebody has written about it. */
export function landmark(definition: CoreDefinition, state: State): string {
  const { epoch, attempt, round, failure, absent, cancelTooLate, stuck } = state;
  const command = commandOf(definition, state);
  const due =
    'step' in command ? `${command.kind} ${stepName(definition, state)} after ${command.afterMs} ms` : state.phase;
  const words = [due, `epoch ${epoch}`, `attempt ${attempt}`];
  if (round > 0) words.push(`round ${round}`);
  if (failure) words.push(`back from ${failure.step}: ${failure.cause} ${failure.reason}`.trimEnd());
  if (absent) words.push('absent');
  if (cancelTooLate) words.push('cancelled too late');
  if (stuck) words.push(`stuck in ${stuck.phase} of ${stepName(definition, state)}${stuck.refused ? ', refused' : ''}`);
  return words.join(', ');
}

const stepName = (definition: CoreDefinition, state: State): string => definition.steps[state.step]?.name ?? '(none)';

/** Plays a history again. Null: the definition does today what was done then. */
export function divergence(definition: CoreDefinition, history: History): Divergence | null {
  const { name, saga, entries } = history;
  const differs = (entry: number, expected: string, got: string): Divergence => {
    const last = entries[entry - 1];
    return {
      name,
      saga,
      entry,
      expected,
      got,
      ...(last ? { at: `${last.input.kind} to ${last.kind} ${last.step}` } : {}),
    };
  };
  let state = begin();
  for (const [index, { step, kind, attempt, input, led }] of entries.entries()) {
    const then = `${kind} ${step}, attempt ${attempt}`;
    const now = `${state.phase} ${stepName(definition, state)}, attempt ${state.attempt}`;
    if (then !== now) return differs(index + 1, `${input.kind} to ${then}`, now);
    const next = advance(definition, state, input).state;
    // Only what changed something was written down.
    if (next === state) return differs(index + 1, `${input.kind} to ${then} changes the state`, 'it is ignored');
    state = next;
    const leads = landmark(definition, state);
    if (led !== undefined && led !== leads) return differs(index + 1, led, leads);
  }
  if (!history.state) return null;
  const [expected, got] = [history.state, state].map((one) => JSON.stringify(one)) as [string, string];
  return expected === got ? null : differs(entries.length, expected, got);
}

export const describeDivergence = ({ name, saga, entry, at, expected, got }: Divergence): string =>
  `${saga} ${name} diverges at entry ${entry}: expected ${expected}; got ${got}${at ? ` (at ${at})` : ''}`;

/** Plays every history again; one of a saga that nobody defines any more diverges as well. */
export function divergences(definitions: readonly CoreDefinition[], histories: readonly History[]): Divergence[] {
  return histories.flatMap((history) => {
    const { name, saga, version = 1 } = history;
    const definition = definitions.find((one) => one.name === saga && one.version === version);
    if (!definition) {
      return [{ name, saga, entry: 0, expected: `a definition of version ${version}`, got: 'none of that name' }];
    }
    return divergence(definition, history) ?? [];
  });
}

/** A recording for the repository: where every input led, and nothing of what errors and people have said. */
export function recordingOf(definition: CoreDefinition, history: History): History {
  const wrong = divergence(definition, history);
  if (wrong) throw new Error(describeDivergence(wrong));
  let state = begin();
  const entries = history.entries.map((entry) => {
    const input = 'detail' in entry.input ? { ...entry.input, detail: '' } : entry.input;
    state = advance(definition, state, input).state;
    return { ...entry, input, led: landmark(definition, state) };
  });
  const { name, saga, version } = history;
  return { name, saga, ...(version === undefined ? {} : { version }), entries };
}
