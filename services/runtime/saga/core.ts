import { exponentialBackoffMs } from '../time/backoff.ts';

/**
 * What a saga does next, as a pure function: (definition, state, input) -> state, and state -> commands that are due.
 *
 * Steps run one after another. Before the pivot is done a failure leads back: what was done is compensated. After it
 * there is only forward. Four rules carry the rest:
 * - An unknown outcome is never taken for a failure. A step whose outcome is unknown is asked for its status,
 *   or run again under the same key where it has no status query, until the outcome is known; only then may
 *   anything be compensated.
 * - A command is due until an input with its epoch has been applied. A process that dies in between leaves the
 *   command due, and another one issues it again: steps must act once per key, however often they are called.
 * - Inputs of an earlier epoch are ignored, so duplicate and late inputs change nothing.
 * - Compensations, and the steps of one group, are branches of their own: one that fails, waits or is refused keeps
 *   no other from its end. The saga rests only when all branches that are left are stuck.
 */

export interface CoreStep {
  readonly name: string;
  /** Runs in the transaction that records it, so its outcome is never unknown. */
  readonly local: boolean;
  /** Once it is done the saga only goes forward. */
  readonly pivot: boolean;
  readonly queryable: boolean;
  readonly compensable: boolean;
  /** Also compensated when it has not acted, so that a request still in progress finds a tombstone. */
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

/** The reason of a compensation that runs or has run. */
export interface Failure {
  readonly cause: 'rejected' | 'cancelled' | 'expired' | 'operator';
  /** The step at which the compensation began or was requested. */
  readonly step: string;
  readonly reason: string;
  readonly detail: string;
}

/** A due command, and the record of its tries. Times are milliseconds since the saga began. */
export interface Branch {
  readonly phase: Action;
  /** Index of its step. */
  readonly step: number;
  /** Of the command: only an input with this epoch is applied. */
  readonly epoch: number;
  /** Tries of this step without a known outcome. */
  readonly attempt: number;
  /** Grows when a refused command is resumed: a refusal is final for its key, so the next try needs another. */
  readonly round: number;
  /** The step being compensated is known not to have acted. */
  readonly absent: boolean;
  /** When the tries began to fail. */
  readonly failingSince: number | null;
  /** The earliest time of the next try. */
  readonly notBefore: number;
  readonly stuck: { readonly refused: boolean; readonly reason: string } | null;
}

/** Plain JSON. `format` grows when its meaning changes, since old rows outlive a deployment; see state-format.ts. */
export interface State {
  readonly format: 2;
  readonly end: 'completed' | 'failed' | null;
  /** The newest epoch; grows with every new command. */
  readonly epoch: number;
  readonly failure: Failure | null;
  /** A cancel request came after the pivot. */
  readonly cancelTooLate: boolean;
  /** One, except during compensation and in a group. None once the saga has ended. */
  readonly branches: readonly Branch[];
}

/**
 * `at`: milliseconds since the saga began, by the clock of the database. `retryAfterMs`: the pause that the peer
 * requests; jitter takes up to half of it, as of every pause.
 */
export type Input =
  | { kind: 'done' | 'compensated'; epoch: number }
  | { kind: 'absent'; epoch: number; at?: number }
  | { kind: 'unknown'; epoch: number; at?: number; detail: string; retryAfterMs?: number }
  | { kind: 'rejected'; epoch: number; reason: string; detail: string }
  | {
      kind: 'uncompensated';
      epoch: number;
      at?: number;
      permanent: boolean;
      reason: string;
      detail: string;
      retryAfterMs?: number;
    }
  /**
   * A client or operator cancels the saga, or its time limit has passed. Applied as soon as the outcome of the step is
   * known.
   */
  | { kind: 'abandon'; cause: 'cancelled' | 'expired' | 'operator'; reason: string; detail: string }
  /** An operator has removed the cause of a stuck saga. */
  | { kind: 'resume' }
  /**
   * The saga must complete, and an earlier release without that rule ended it. `after`: the epoch that it ended with.
   */
  | { kind: 'restart'; after: number };

export type Result =
  | { readonly kind: 'completed'; readonly cancelTooLate: boolean }
  | { readonly kind: 'failed'; readonly failure: Failure };

/** The due work of a state: calls, one for each branch that is not stuck; an operator's action; or none. */
export type Next =
  | { readonly kind: 'due'; readonly branches: readonly Branch[] }
  | { readonly kind: 'stuck'; readonly reason: string }
  | { readonly kind: 'finished'; readonly result: Result };

const firstTry = { attempt: 0, round: 0, absent: false, failingSince: null, notBefore: 0, stuck: null } as const;

const none: State = { format: 2, end: null, epoch: 0, failure: null, cancelTooLate: false, branches: [] };

/** The initial state of a saga. */
export const begin = (definition: CoreDefinition): State => enter(definition, none, 0);

/** Returns the due work of a state, also after a crash. */
export function nextOf(definition: CoreDefinition, state: State): Next {
  if (state.end === 'completed') {
    return { kind: 'finished', result: { kind: 'completed', cancelTooLate: state.cancelTooLate } };
  }
  if (state.end === 'failed') {
    if (!state.failure) throw new Error(`saga ${definition.name}: failed without a failure`);
    return { kind: 'finished', result: { kind: 'failed', failure: state.failure } };
  }
  const branches = state.branches.filter(({ stuck }) => stuck === null);
  if (branches.length > 0) return { kind: 'due', branches };
  return { kind: 'stuck', reason: state.branches.map(({ stuck }) => stuck?.reason).join('; ') };
}

/** Returns the branch of an input; the first when the input names none. Undefined once the saga has ended. */
export function branchOf(state: State, input: Input): Branch | undefined {
  const found = 'epoch' in input ? state.branches.find(({ epoch }) => epoch === input.epoch) : undefined;
  return found ?? state.branches[0];
}

/** Limit for the pause that an error of a peer can request. */
const retryAfterMaxMs = 60_000;

/** The pause after so many tries: doubles up to the longest. The worker adds the jitter. */
export function backoffMs({ retry }: CoreDefinition, attempt: number): number {
  if (attempt === 0) return 0;
  return exponentialBackoffMs(attempt, retry);
}

/** Applies one input. A late or duplicate input, which does not match, returns the very same state. */
export function advance(definition: CoreDefinition, state: State, input: Input): State {
  if (input.kind === 'restart') return restart(definition, state, input.after);
  if (state.end !== null) return state;
  if (input.kind === 'abandon') return abandon(definition, state, input);
  if (input.kind === 'resume') return resume(state);
  const branch = state.branches.find(({ epoch, stuck }) => epoch === input.epoch && stuck === null);
  if (!branch) return state;
  return branch.phase === 'compensate'
    ? applyCompensation(definition, state, branch, input)
    : applyOutcome(definition, state, branch, input);
}

type Outcome = Extract<Input, { epoch: number }>;

function applyOutcome(definition: CoreDefinition, state: State, branch: Branch, input: Outcome): State {
  switch (input.kind) {
    case 'done':
      return done(definition, state, branch);
    case 'rejected':
      return rejected(definition, state, branch, input);
    case 'absent':
      if (state.failure) return compensateFrom(definition, state, branch.step, true);
      return tryAgain(definition, state, branch, { phase: 'run', why: 'the step did not act', at: input.at });
    case 'unknown':
      return unknown(definition, state, branch, input);
    default:
      return state;
  }
}

function applyCompensation(definition: CoreDefinition, state: State, branch: Branch, input: Outcome): State {
  if (input.kind === 'compensated') {
    if (definition.compensation === 'in-order') return compensateFrom(definition, state, branch.step - 1, false);
    const branches = state.branches.filter((one) => one !== branch);
    return branches.length > 0 ? { ...state, branches } : ended(state, 'failed');
  }
  if (input.kind !== 'uncompensated') return state;
  const why = input.reason || input.detail;
  if (input.permanent) return stuck(state, branch, why, true);
  return tryAgain(definition, state, branch, { phase: 'compensate', why, at: input.at, after: input.retryAfterMs });
}

function done(definition: CoreDefinition, state: State, branch: Branch): State {
  const beyond = stepAt(definition, branch.step).pivot || isPastPivot(definition, state);
  if (state.failure && !beyond) return compensateFrom(definition, state, branch.step, false);
  // A cancel request that arrived while the pivot was in progress came too late.
  const cancelTooLate = state.cancelTooLate || state.failure?.cause === 'cancelled';
  const branches = state.branches.filter((one) => one !== branch);
  const next: State = { ...state, failure: null, cancelTooLate, branches };
  return branches.length > 0 ? next : enter(definition, next, groupEnd(definition, branch.step) + 1);
}

function rejected(
  definition: CoreDefinition,
  state: State,
  branch: Branch,
  { reason, detail }: { reason: string; detail: string },
): State {
  if (isPastPivot(definition, state)) return stuck(state, branch, reason || detail, true);
  const step = stepAt(definition, branch.step).name;
  const failure = state.failure ?? { cause: 'rejected', step, reason, detail };
  return compensateFrom(definition, { ...state, failure }, branch.step - 1, false);
}

function unknown(
  definition: CoreDefinition,
  state: State,
  branch: Branch,
  { detail, at, retryAfterMs: after }: Extract<Input, { kind: 'unknown' }>,
): State {
  const phase = stepAt(definition, branch.step).queryable ? 'query' : 'run';
  return tryAgain(definition, state, branch, { phase, why: detail, at, after });
}

/** Schedules one more try, unless the command has failed for longer than its limit. */
function tryAgain(
  definition: CoreDefinition,
  state: State,
  branch: Branch,
  { phase, why, at, after = 0 }: { phase: Action; why: string; at: number | undefined; after?: number | undefined },
): State {
  const attempt = branch.attempt + 1;
  const failingSince = branch.failingSince ?? at ?? null;
  const elapsedMs = at === undefined || failingSince === null ? 0 : at - failingSince;
  const limited = state.failure !== null || isPastPivot(definition, state);
  const failed = { ...branch, phase, attempt, failingSince };
  if (limited && elapsedMs >= definition.retry.maxElapsedMs) return stuck(state, branch, why, false, failed);
  const pauseMs = Math.max(backoffMs(definition, attempt), Math.min(after, retryAfterMaxMs));
  return replace(state, branch, { ...failed, notBefore: (at ?? 0) + pauseMs });
}

function stuck(state: State, branch: Branch, reason: string, refused: boolean, as: Branch = branch): State {
  return replace(state, branch, { ...as, stuck: { refused, reason: reason.slice(0, 500) } });
}

/** Makes every stuck branch due at once. */
function resume(state: State): State {
  return state.branches.reduce((resumed, branch) => {
    if (!branch.stuck) return resumed;
    const round = branch.stuck.refused ? branch.round + 1 : branch.round;
    return replace(resumed, branch, { ...branch, ...firstTry, absent: branch.absent, round });
  }, state);
}

/** Starts again at the first step; epochs continue, so that no earlier input matches. */
function restart(definition: CoreDefinition, state: State, after: number): State {
  if (!definition.mustComplete || state.end !== 'failed' || state.epoch !== after) return state;
  return restartAfter(definition, after);
}

/** The state of a saga that was restarted after it had ended with this epoch. */
export const restartAfter = (definition: CoreDefinition, epoch: number): State =>
  enter(definition, { ...none, epoch }, 0);

function abandon(definition: CoreDefinition, state: State, input: Omit<Failure, 'step'>): State {
  if (isPastPivot(definition, state)) {
    return input.cause === 'cancelled' && !state.cancelTooLate ? { ...state, cancelTooLate: true } : state;
  }
  if (state.failure) return input.cause === 'operator' ? resume(state) : state;
  const [branch] = state.branches;
  if (!branch) throw new Error(`saga ${definition.name}: nothing is due, and it has not ended`);
  const step = stepAt(definition, branch.step);
  const { cause, reason, detail } = input;
  const wished: State = { ...state, failure: { cause, step: step.name, reason, detail } };
  if (step.local) return compensateFrom(definition, wished, branch.step - 1, false);
  // The epoch stays: the outcome of a call in progress still counts. If there is none, because its caller died or never
  // called, the status query finds out without making the step act.
  const phase = step.queryable ? 'query' : 'run';
  return { ...wished, branches: [{ ...branch, phase, attempt: 0, failingSince: null, notBefore: 0 }] };
}

/**
 * Compensates the steps at or before `index` that need it, the latest first: each in its own branch, or only the first
 * when they must run in order. When there are none, the saga has ended.
 */
function compensateFrom(definition: CoreDefinition, state: State, index: number, absentThere: boolean): State {
  const found: { step: number; absent: boolean }[] = [];
  for (let step = index; step >= 0; step -= 1) {
    const { compensable, compensateAbsent } = stepAt(definition, step);
    const absent = absentThere && step === index;
    if (compensable && (!absent || compensateAbsent)) found.push({ step, absent });
  }
  if (found.length === 0) return ended(state, 'failed');
  const now = definition.compensation === 'in-order' ? found.slice(0, 1) : found;
  return withBranches(
    state,
    now.map((one) => ({ ...one, phase: 'compensate' })),
  );
}

/** Starts the step at `index`, with the others of its group; after the last one the saga ends. */
function enter(definition: CoreDefinition, state: State, index: number): State {
  if (index === definition.steps.length) return ended(state, 'completed');
  const steps = Array.from({ length: groupEnd(definition, index) - index + 1 }, (_, offset) => index + offset);
  return withBranches(
    state,
    steps.map((step) => ({ phase: 'run', step })),
  );
}

/** The index of the last step in the group of the step at `index`; `index` itself when it has no group. */
function groupEnd({ steps }: CoreDefinition, index: number): number {
  const group = steps[index]?.group;
  let last = index;
  while (group !== undefined && steps[last + 1]?.group === group) last += 1;
  return last;
}

/** Replaces all branches with new ones, each with its own epoch. */
function withBranches(
  state: State,
  branches: readonly (Pick<Branch, 'phase' | 'step'> & { absent?: boolean })[],
): State {
  const { epoch } = state;
  return {
    ...state,
    epoch: epoch + branches.length,
    branches: branches.map((branch, index) => ({ ...firstTry, ...branch, epoch: epoch + 1 + index })),
  };
}

/** Gives a branch a new command, and so a new epoch. */
function replace(state: State, branch: Branch, by: Branch): State {
  const epoch = state.epoch + 1;
  const branches = state.branches.map((one) => (one === branch ? { ...by, epoch } : one));
  return { ...state, epoch, branches };
}

const ended = (state: State, end: 'completed' | 'failed'): State => ({
  ...state,
  end,
  epoch: state.epoch + 1,
  branches: [],
});

function stepAt(definition: CoreDefinition, index: number): CoreStep {
  const step = definition.steps[index];
  if (!step) throw new Error(`saga ${definition.name}: its state names step ${index}, which is not defined`);
  return step;
}

/**
 * Whether the saga only goes forward. A compensation never starts after the pivot, so during compensation this is
 * false.
 */
export function isPastPivot(definition: CoreDefinition, state: State): boolean {
  if (definition.mustComplete || state.end === 'completed') return true;
  if (state.end === 'failed' || state.branches.some(({ phase }) => phase === 'compensate')) return false;
  const pivot = definition.steps.findIndex((step) => step.pivot);
  return pivot >= 0 && state.branches.every(({ step }) => step > pivot);
}
