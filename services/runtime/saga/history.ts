/**
 * Compares the history of a saga, from its log, with a definition. The same inputs must lead today's definition to the
 * same states as the earlier one: sagas in progress during a deployment continue from states that the old version has
 * made.
 */
import {
  advance,
  type Branch,
  backoffMs,
  begin,
  branchOf,
  type CoreDefinition,
  type Input,
  restartAfter,
  type State,
} from './core.ts';

/** One applied input, as stored in saga_log. */
export interface HistoryEntry {
  /** The step that was due at the input, its action, and the tries before. */
  readonly step: string;
  readonly kind: string;
  readonly attempt: number;
  readonly input: Input;
  /** The resulting state and what was due then, as text of `landmark`; recordings contain it, logs do not. */
  readonly led?: string;
}

export interface History {
  /** The id of the saga, or the name of a recording. */
  readonly name: string;
  readonly saga: string;
  /** Of the definition; 1 when it is missing. */
  readonly version?: number;
  readonly entries: readonly HistoryEntry[];
  /** The state of the saga's row; recordings end with their last `led` instead. */
  readonly state?: State;
}

/** Where a definition diverges from a history: `entry` counts from 1, as positions do; 0 is the beginning. */
export interface Divergence {
  readonly name: string;
  readonly saga: string;
  readonly entry: number;
  /** The input of that entry and the command that it belongs to. */
  readonly at?: string;
  readonly expected: string;
  readonly got: string;
}

/** Describes a state and its due commands, without text from error messages or people. */
export function landmark(definition: CoreDefinition, state: State): string {
  const [main, ...others] = state.branches;
  const words = main ? branchWords(definition, main) : [`${state.end}`, `epoch ${state.epoch}`, 'attempt 0'];
  const { failure } = state;
  if (failure) words.push(`back from ${failure.step}: ${failure.cause} ${failure.reason}`.trimEnd());
  if (main?.absent) words.push('absent');
  if (state.cancelTooLate) words.push('cancelled too late');
  if (main?.stuck) words.push(stuckWords(definition, main));
  for (const other of others) {
    words.push(
      ['also', ...branchWords(definition, other), ...(other.stuck ? [stuckWords(definition, other)] : [])].join(' '),
    );
  }
  return words.join(', ');
}

function branchWords(definition: CoreDefinition, branch: Branch): string[] {
  const { phase, epoch, attempt, round, stuck } = branch;
  const due = stuck ? 'stuck' : `${phase} ${stepName(definition, branch)} after ${backoffMs(definition, attempt)} ms`;
  return [due, `epoch ${epoch}`, `attempt ${attempt}`, ...(round > 0 ? [`round ${round}`] : [])];
}

const stuckWords = (definition: CoreDefinition, branch: Branch): string =>
  `stuck in ${branch.phase} of ${stepName(definition, branch)}${branch.stuck?.refused ? ', refused' : ''}`;

const stepName = (definition: CoreDefinition, branch: Pick<Branch, 'step'> | undefined): string =>
  (branch && definition.steps[branch.step]?.name) ?? '(none)';

/** Describes the command of an input, as in the log: the step, its action and the tries before. */
export function about(
  definition: CoreDefinition,
  state: State,
  input: Input,
): Pick<HistoryEntry, 'step' | 'kind' | 'attempt'> {
  const branch = branchOf(state, input);
  const kind = branch?.stuck ? 'stuck' : (branch?.phase ?? String(state.end));
  return { step: stepName(definition, branch), kind, attempt: branch?.attempt ?? 0 };
}

/** Replays a history. Null: the definition leads to the same states. */
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
  // Entries before a restart were made by a release whose definition is no longer known.
  const restarted = entries.findLastIndex(({ input }) => input.kind === 'restart');
  let state = stateAfterRestart(definition, entries[restarted]?.input);
  for (const [index, { step, kind, attempt, input, led }] of entries.entries()) {
    if (index <= restarted) continue;
    const then = `${kind} ${step}, attempt ${attempt}`;
    const due = about(definition, state, input);
    const now = `${due.kind} ${due.step}, attempt ${due.attempt}`;
    if (then !== now) return differs(index + 1, `${input.kind} to ${then}`, now);
    const next = advance(definition, state, input);
    // Only inputs that changed the state were logged.
    if (next === state) return differs(index + 1, `${input.kind} to ${then} changes the state`, 'it is ignored');
    state = next;
    const leads = landmark(definition, state);
    if (led !== undefined && led !== leads) return differs(index + 1, led, leads);
  }
  if (!history.state) return null;
  const [expected, got] = [history.state, state].map((one) => JSON.stringify(one)) as [string, string];
  return expected === got ? null : differs(entries.length, expected, got);
}

const stateAfterRestart = (definition: CoreDefinition, input: Input | undefined): State =>
  input?.kind === 'restart' ? restartAfter(definition, input.after) : begin(definition);

export const describeDivergence = ({ name, saga, entry, at, expected, got }: Divergence): string =>
  `${saga} ${name} diverges at entry ${entry}: expected ${expected}; got ${got}${at ? ` (at ${at})` : ''}`;

/** Replays every history; one of a saga without a definition diverges as well. */
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

/** Makes a recording for the repository: the state after every input, without text from error messages and people. */
export function recordingOf(definition: CoreDefinition, history: History): History {
  const wrong = divergence(definition, history);
  if (wrong) throw new Error(describeDivergence(wrong));
  const restarted = history.entries.findLastIndex(({ input }) => input.kind === 'restart');
  let state = stateAfterRestart(definition, history.entries[restarted]?.input);
  const entries = history.entries.slice(restarted + 1).map((entry) => {
    const input = 'detail' in entry.input ? { ...entry.input, detail: '' } : entry.input;
    state = advance(definition, state, input);
    return { ...entry, input, led: landmark(definition, state) };
  });
  const { name, saga, version } = history;
  return { name, saga, ...(version === undefined ? {} : { version }), entries };
}
