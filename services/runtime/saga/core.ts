/**
 * What a saga does next, as a pure function: (definition, state, input) -> (state, command).
 *
 * Steps run one after another. Before the pivot is done a failure leads back: what was done is compensated
 * in reverse order. After it there is only forward. Three rules carry the rest:
 * - An unknown outcome is never taken for a failure. A step whose outcome is unknown is asked for its status,
 *   or run again under the same key where it has no status query, until the outcome is known; only then may
 *   anything be compensated.
 * - A command is due until an input with its epoch has been applied. A process that dies in between leaves the
 *   command due, and another one issues it again: steps must act once per key, however often they are called.
 * - Inputs of an earlier epoch are ignored, so duplicate and late answers change nothing.
 */

export interface CoreStep {
  readonly name: string;
  /** Done in the transaction that records it, so its outcome is never unknown. */
  readonly local: boolean;
  /** Once it is done the saga only goes forward. */
  readonly pivot: boolean;
  readonly queryable: boolean;
  readonly compensable: boolean;
  /** Also compensated when it has not acted, so that a request still under way finds a tombstone. */
  readonly compensateAbsent: boolean;
  /** Consecutive steps after the pivot with the same group are independent of each other. */
  readonly group?: string;
}

export interface CoreDefinition {
  readonly name: string;
  readonly version: number;
  readonly steps: readonly CoreStep[];
  /** It only goes forward, from its first step. */
  readonly mustComplete: boolean;
  /** Whether compensations wait for one another. */
  readonly compensation: 'independent' | 'in-order';
  readonly retry: { readonly initialBackoffMs: number; readonly maxBackoffMs: number; readonly maxElapsedMs: number };
}

export type Action = 'run' | 'query' | 'compensate';

/** Why a saga goes back, or went. */
export interface Failure {
  readonly cause: 'rejected' | 'cancelled' | 'expired' | 'operator';
  /** The step at which it turned or was asked to. */
  readonly step: string;
  readonly reason: string;
  readonly detail: string;
}

/** Plain JSON. `format` grows when its meaning changes, since old rows outlive a deployment. */
export interface State {
  readonly format: 1;
  readonly phase: Action | 'stuck' | 'completed' | 'failed';
  /** Index of the step that `phase` is about. */
  readonly step: number;
  /** Grows with every new command. */
  readonly epoch: number;
  /** Tries of this step that settled nothing. */
  readonly attempt: number;
  /** Grows when a refused command is resumed: a refusal is final for its key, so the next try needs another. */
  readonly round: number;
  readonly failure: Failure | null;
  /** The step being compensated is known not to have acted. */
  readonly absent: boolean;
  /** Somebody asked to cancel after the pivot. */
  readonly cancelTooLate: boolean;
  readonly stuck: { readonly phase: Action; readonly refused: boolean; readonly reason: string } | null;
}

export type Input =
  | { kind: 'done' | 'absent' | 'compensated'; epoch: number }
  | { kind: 'unknown'; epoch: number; detail: string }
  | { kind: 'rejected'; epoch: number; reason: string; detail: string }
  | { kind: 'uncompensated'; epoch: number; permanent: boolean; reason: string; detail: string }
  /** Somebody wants it undone, or its time is up. Heeded as soon as the outcome of the step is known. */
  | { kind: 'abandon'; cause: 'cancelled' | 'expired' | 'operator'; reason: string; detail: string }
  /** An operator has removed what made it stuck. */
  | { kind: 'resume' };

export type Result =
  | { readonly kind: 'completed'; readonly cancelTooLate: boolean }
  | { readonly kind: 'failed'; readonly failure: Failure };

export type Command =
  | { readonly kind: Action; readonly step: number; readonly epoch: number; readonly afterMs: number }
  | { readonly kind: 'stuck'; readonly reason: string }
  | { readonly kind: 'finished'; readonly result: Result };

const initial: State = {
  format: 1,
  phase: 'run',
  step: 0,
  epoch: 1,
  attempt: 0,
  round: 0,
  failure: null,
  absent: false,
  cancelTooLate: false,
  stuck: null,
};

export const begin = (): State => initial;

/** Applies one input. An input that does not fit, being late or a duplicate, returns the very same state. */
export function advance(definition: CoreDefinition, state: State, input: Input): { state: State; command: Command } {
  const next = settle(definition, state, input);
  return { state: next, command: commandOf(definition, next) };
}

/** What is due in a state, also after a crash. */
export function commandOf(definition: CoreDefinition, state: State): Command {
  switch (state.phase) {
    case 'completed':
      return { kind: 'finished', result: { kind: 'completed', cancelTooLate: state.cancelTooLate } };
    case 'failed':
      if (!state.failure) throw new Error(`saga ${definition.name}: failed without a failure`);
      return { kind: 'finished', result: { kind: 'failed', failure: state.failure } };
    case 'stuck':
      return { kind: 'stuck', reason: state.stuck?.reason ?? '' };
    default:
      return { kind: state.phase, step: state.step, epoch: state.epoch, afterMs: backoffMs(definition, state) };
  }
}

/** Doubles from the second try on, up to the cap. Whoever waits adds the jitter. */
function backoffMs({ retry }: CoreDefinition, { attempt }: State): number {
  if (attempt === 0) return 0;
  return Math.min(retry.initialBackoffMs * 2 ** Math.min(attempt - 1, 30), retry.maxBackoffMs);
}

function settle(definition: CoreDefinition, state: State, input: Input): State {
  if (input.kind === 'abandon') return abandon(definition, state, input);
  if (input.kind === 'resume') return resume(state);
  if (input.epoch !== state.epoch) return state;
  const forward = state.phase === 'run' || state.phase === 'query';
  const back = state.phase === 'compensate';
  switch (input.kind) {
    case 'done':
      return forward ? done(definition, state) : state;
    case 'rejected':
      return forward ? rejected(definition, state, input) : state;
    case 'absent':
      return forward ? absent(definition, state) : state;
    case 'unknown':
      return forward ? unknown(definition, state, input.detail) : state;
    case 'compensated':
      return back ? compensateFrom(definition, state, state.step - 1, false) : state;
    case 'uncompensated':
      if (!back) return state;
      return input.permanent
        ? stuck(state, input.reason || input.detail, true)
        : tryAgain(definition, state, 'compensate', input.reason || input.detail);
  }
}

function done(definition: CoreDefinition, state: State): State {
  const beyond = stepOf(definition, state).pivot || isPastPivot(definition, state);
  if (state.failure && !beyond) return compensateFrom(definition, state, state.step, false);
  // A wish that came while the pivot was under way has lost the race.
  const cancelTooLate = state.cancelTooLate || state.failure?.cause === 'cancelled';
  const next: State = { ...fresh(state), failure: null, cancelTooLate };
  if (state.step === definition.steps.length - 1) return { ...next, phase: 'completed' };
  return { ...next, phase: 'run', step: state.step + 1 };
}

function rejected(definition: CoreDefinition, state: State, input: { reason: string; detail: string }): State {
  const { reason, detail } = input;
  if (isPastPivot(definition, state)) return stuck(state, reason || detail, true);
  const failure = state.failure ?? { cause: 'rejected', step: stepOf(definition, state).name, reason, detail };
  return compensateFrom(definition, { ...state, failure }, state.step - 1, false);
}

function absent(definition: CoreDefinition, state: State): State {
  if (!state.failure) return tryAgain(definition, state, 'run', 'the step did not act');
  return compensateFrom(definition, state, state.step, true);
}

function unknown(definition: CoreDefinition, state: State, detail: string): State {
  return tryAgain(definition, state, stepOf(definition, state).queryable ? 'query' : 'run', detail);
}

/** One more try, unless there were enough where tries are counted. */
function tryAgain(definition: CoreDefinition, state: State, phase: Action, why: string): State {
  const attempt = state.attempt + 1;
  const counted = state.failure !== null || isPastPivot(definition, state);
  const { maxElapsedMs, maxBackoffMs } = definition.retry;
  if (counted && attempt >= Math.ceil(maxElapsedMs / maxBackoffMs))
    return stuck({ ...state, phase, attempt }, why, false);
  return { ...state, phase, attempt, epoch: state.epoch + 1 };
}

function stuck(state: State, reason: string, refused: boolean): State {
  const phase = state.phase as Action;
  return { ...state, phase: 'stuck', epoch: state.epoch + 1, stuck: { phase, refused, reason: reason.slice(0, 500) } };
}

function resume(state: State): State {
  if (!state.stuck) return state;
  const { phase, refused } = state.stuck;
  const round = refused ? state.round + 1 : state.round;
  return { ...state, phase, stuck: null, attempt: 0, round, epoch: state.epoch + 1 };
}

function abandon(definition: CoreDefinition, state: State, input: Omit<Failure, 'step'>): State {
  if (state.phase === 'completed' || state.phase === 'failed') return state;
  if (isPastPivot(definition, state)) {
    return input.cause === 'cancelled' && !state.cancelTooLate ? { ...state, cancelTooLate: true } : state;
  }
  if (state.failure) return input.cause === 'operator' ? resume(state) : state;
  const step = stepOf(definition, state);
  const { cause, reason, detail } = input;
  const wished: State = { ...state, failure: { cause, step: step.name, reason, detail }, attempt: 0 };
  if (step.local) return compensateFrom(definition, wished, state.step - 1, false);
  // The epoch stays: an answer to a call that is under way still counts. If nobody waits for one, because
  // its caller died or never called, the status query finds out without making the step act.
  return { ...wished, phase: step.queryable ? 'query' : 'run' };
}

/** Goes to the nearest step at or before `index` that has something to compensate; past the first one is the end. */
function compensateFrom(definition: CoreDefinition, state: State, index: number, absentThere: boolean): State {
  for (let at = index; at >= 0; at -= 1) {
    const step = definition.steps[at];
    const absentHere = absentThere && at === index;
    if (step?.compensable && (!absentHere || step.compensateAbsent)) {
      return { ...fresh(state), phase: 'compensate', step: at, absent: absentHere };
    }
  }
  return { ...fresh(state), phase: 'failed' };
}

const fresh = (state: State): State => ({ ...state, epoch: state.epoch + 1, attempt: 0, round: 0, absent: false });

function stepOf(definition: CoreDefinition, state: State): CoreStep {
  const step = definition.steps[state.step];
  if (!step) throw new Error(`saga ${definition.name}: state names step ${state.step}, which is not defined`);
  return step;
}

/** Whether the pivot is done. On the way back it is not: nothing leads there from beyond it. */
export function isPastPivot(definition: CoreDefinition, state: State): boolean {
  if (definition.mustComplete) return true;
  if (state.phase === 'compensate' || state.stuck?.phase === 'compensate' || state.phase === 'failed') return false;
  const pivot = definition.steps.findIndex((step) => step.pivot);
  return pivot >= 0 && state.step > pivot;
}
