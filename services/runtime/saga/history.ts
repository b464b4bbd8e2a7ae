/**
 * What a saga has gone through, as its log keeps it, held against a definition. The same inputs must lead a
 * definition of today where they led the one of then: sagas that are under way while a new version is deployed
 * go on from states that the old one has made.
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

/** What an input is about, as the log keeps it: the step, what was due there and the tries before. */
export function about(
  definition: CoreDefinition,
  state: State,
  input: Input,
): Pick<HistoryEntry, 'step' | 'kind' | 'attempt'> {
  const branch = branchOf(state, input);
  const kind = branch?.stuck ? 'stuck' : (branch?.phase ?? String(state.end));
  return { step: stepName(definition, branch), kind, attempt: branch?.attempt ?? 0 };
}

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
  // What came before a restart was decided by a release whose definition is no longer known.
  const restarted = entries.findLastIndex(({ input }) => input.kind === 'restart');
  let state = stateAfterRestart(definition, entries[restarted]?.input);
  for (const [index, { step, kind, attempt, input, led }] of entries.entries()) {
    if (index <= restarted) continue;
    const then = `${kind} ${step}, attempt ${attempt}`;
    const due = about(definition, state, input);
    const now = `${due.kind} ${due.step}, attempt ${due.attempt}`;
    if (then !== now) return differs(index + 1, `${input.kind} to ${then}`, now);
    const next = advance(definition, state, input);
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

const stateAfterRestart = (definition: CoreDefinition, input: Input | undefined): State =>
  input?.kind === 'restart' ? restartAfter(definition, input.after) : begin(definition);

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
