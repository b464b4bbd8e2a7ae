/**
 * Explores every reachable state of a saga: each response of each step, lost before or after it acted, late or
 * duplicated, with crashes, cancellations and failing compensations in between.
 * States that differ only in numbers (epochs, attempts beyond the last pause) count as one.
 */
import {
  advance,
  type Branch,
  begin,
  branchOf,
  type CoreDefinition as Definition,
  type Input,
  nextOf,
  type State,
} from '@armature/runtime/saga';

/** A definition, and the core to explore it with where that is not the real one. */
export type CoreDefinition = Definition & { advance?: typeof advance };

/** The effect of one step on its service. */
interface Site {
  /** The round whose key it acted under. */
  acted: number | null;
  refused: number | null;
  compensated: boolean;
  /** The compensation came before the request, so the request has no effect any more. */
  tombstone: boolean;
  /** A request may still arrive. */
  late: boolean;
  /** It was called, and the saga does not know the outcome. */
  open: boolean;
}

interface Situation {
  state: State;
  sites: Site[];
  /** Cancellations that may still come. */
  cancelRequests: number;
  /** The last step that was compensated; only earlier ones may follow. */
  lastCompensated: number;
}

interface Move {
  /** The step that the move affects. */
  step: string;
  name: string;
  next: Situation;
}

class Violation extends Error {}

function ensure(condition: boolean, what: string): void {
  if (!condition) throw new Violation(what);
}

const clone = (situation: Situation): Situation => ({
  ...situation,
  sites: situation.sites.map((site) => ({ ...site })),
});

/** The step's service gets the request of this round. True: it has acted, now or before. */
function act(site: Site, round: number): 'done' | 'rejected' {
  if (site.tombstone || site.refused === round) return 'rejected';
  ensure(site.acted === null || site.acted === round, 'a step acts under two keys');
  ensure(!site.compensated || site.acted === round, 'a step acts after it was compensated');
  site.acted = round;
  return 'done';
}

function undo(site: Site): void {
  if (site.acted !== null) site.compensated = true;
  else site.tombstone = true;
}

/** Applies an input to the saga, and checks the next state. */
function applyInput(definition: CoreDefinition, situation: Situation, input: Input): Situation {
  const before = situation.state;
  const about = branchOf(before, input);
  const state = stepped(definition, before, input);
  if (state === before) return situation;
  const at = about && situation.sites[about.step];
  if (at && (input.kind === 'done' || input.kind === 'rejected' || input.kind === 'absent')) at.open = false;
  ensure(state.epoch >= before.epoch, 'an epoch was reused');
  if ('epoch' in input)
    ensure(
      state.branches.every(({ epoch }) => epoch !== input.epoch),
      'an epoch is kept',
    );
  ensure(new Set(state.branches.map(({ epoch }) => epoch)).size === state.branches.length, 'two commands of an epoch');
  checkOthers(before, state, about, input);
  check(definition, situation, state);
  return { ...situation, state };
}

const stepped = (definition: CoreDefinition, state: State, input: Input): State =>
  (definition.advance ?? advance)(definition, state, input);

/**
 * Checks that an input to one branch leaves the others unchanged: none waits, none is retried more often, none ends.
 */
function checkOthers(before: State, after: State, about: Branch | undefined, input: Input): void {
  if (!('epoch' in input) || after.end === 'failed') return;
  for (const branch of before.branches) {
    if (branch === about) continue;
    ensure(after.branches.includes(branch), 'a branch is changed by the input to another one');
  }
}

/** Checks the rules of every reachable state. */
function check(definition: CoreDefinition, { sites, lastCompensated }: Situation, state: State) {
  const next = nextOf(definition, state);
  const due = next.kind === 'due' ? next.branches : [];
  const back = state.branches.some(({ phase }) => phase === 'compensate');
  for (const { phase, step } of due) {
    if (phase === 'run') ensure(!sites[step]?.tombstone, 'runs a step that was undone');
    if (phase !== 'compensate') continue;
    ensure(
      sites.every((site) => !site.open),
      'compensates while an outcome is unknown',
    );
    if (definition.compensation === 'in-order') ensure(step <= lastCompensated, 'compensates out of order');
    // A pivot that acted after it was found absent is undone by its own compensation; no later step runs.
    const pivot = definition.steps.findIndex((one) => one.pivot);
    const { acted, compensated } = sites[pivot] ?? { acted: null, compensated: false };
    const undoing = state.branches.some((branch) => branch.phase === 'compensate' && branch.step === pivot);
    ensure(acted === null || compensated || undoing, 'compensates after the pivot');
  }
  if (back && definition.compensation === 'independent') checkIndependent(definition, sites, state);
  ensure(
    !definition.mustComplete || (state.failure === null && state.end !== 'failed'),
    'a saga that must complete goes back',
  );
  if (state.end) checkEnd(definition, sites, state.end);
}

/** Checks that inputs of earlier commands change nothing. */
function checkLateInputs(definition: CoreDefinition, state: State): void {
  for (let epoch = 0; epoch < state.epoch; epoch += state.epoch > 8 ? state.epoch - 1 : 1) {
    if (state.branches.some((branch) => branch.epoch === epoch)) continue;
    for (const input of lateInputs(epoch)) {
      ensure(stepped(definition, state, input) === state, `a late ${input.kind} changes something`);
    }
  }
}

/** Checks that every step still to be compensated has its own branch, whatever the others do. */
function checkIndependent(definition: CoreDefinition, sites: readonly Site[], state: State): void {
  definition.steps.forEach((step, index) => {
    const { acted, compensated } = sites[index]!;
    if (!step.compensable || acted === null || compensated) return;
    ensure(
      state.branches.some((branch) => branch.step === index),
      `${step.name} waits for another compensation`,
    );
  });
}

function checkEnd(definition: CoreDefinition, sites: readonly Site[], phase: 'completed' | 'failed') {
  definition.steps.forEach((step, index) => {
    const { acted, compensated, tombstone } = sites[index]!;
    if (phase === 'completed') ensure(acted !== null && !compensated && !tombstone, `completed without ${step.name}`);
    else if (step.compensable) ensure(acted === null || compensated, `failed with ${step.name} left done`);
    else if (step.pivot) ensure(acted === null, 'failed after the pivot');
  });
}

const lateInputs = (epoch: number): Input[] => [
  { kind: 'done', epoch },
  { kind: 'absent', epoch },
  { kind: 'compensated', epoch },
  { kind: 'unknown', epoch, detail: '' },
  { kind: 'rejected', epoch, reason: 'NO', detail: '' },
  { kind: 'uncompensated', epoch, permanent: false, reason: '', detail: '' },
  { kind: 'uncompensated', epoch, permanent: true, reason: 'NO', detail: '' },
];

const outcomeInput = (kind: 'done' | 'rejected' | 'absent', epoch: number): Input =>
  kind === 'rejected' ? { kind, epoch, reason: 'NO', detail: '' } : { kind, epoch };

/** All possible next moves. */
function moves(definition: CoreDefinition, from: Situation): Move[] {
  const found: Move[] = [];
  const moveAs = (step: string) => (name: string, make: (next: Situation) => Situation) => {
    try {
      found.push({ step, name, next: make(clone(from)) });
    } catch (error) {
      if (error instanceof Violation) error.message = `${error.message} (by "${step}: ${name}")`;
      throw error;
    }
  };
  const apply = (next: Situation, input: Input) => applyInput(definition, next, input);
  const due = nextOf(definition, from.state);
  for (const branch of due.kind === 'due' ? due.branches : []) {
    const move = moveAs(definition.steps[branch.step]?.name ?? '');
    if (branch.phase === 'run') runs(definition, branch, from, move, apply);
    if (branch.phase === 'query') queries(definition, branch, move, apply);
    if (branch.phase === 'compensate') compensations(definition, branch, move, apply);
  }
  const move = moveAs(definition.steps[from.state.branches[0]?.step ?? -1]?.name ?? '');
  if (from.state.branches.some(({ stuck }) => stuck !== null)) {
    move('an operator resumes', (next) => apply(next, { kind: 'resume' }));
    move('an operator turns it back', (next) =>
      apply(next, { kind: 'abandon', cause: 'operator', reason: '', detail: '' }),
    );
  }
  from.sites.forEach((site, index) => {
    if (!site.late) return;
    move(`the late request of ${index} arrives`, (next) => {
      const there = next.sites[index]!;
      there.late = false;
      act(there, 0);
      if (next.state.end) checkEnd(definition, next.sites, next.state.end);
      return next;
    });
  });
  for (const cause of ['cancelled', 'expired', 'operator'] as const) {
    if (from.cancelRequests === 0) break;
    move(cause, (next) => {
      next.cancelRequests -= 1;
      return apply(next, { kind: 'abandon', cause, reason: '', detail: '' });
    });
  }
  return found;
}

type Mover = (name: string, make: (next: Situation) => Situation) => void;
type ApplyInput = (next: Situation, input: Input) => Situation;

/** Times at which an attempt may fail: right after the first failure, or after the retry policy's limit. */
const soon = ({ failingSince }: Branch): number => failingSince ?? 0;
const tooLate = (definition: CoreDefinition, branch: Branch): number => soon(branch) + definition.retry.maxElapsedMs;

function runs(definition: CoreDefinition, branch: Branch, from: Situation, move: Mover, apply: ApplyInput) {
  const { step, epoch, round } = branch;
  const unknown: Input = { kind: 'unknown', epoch, at: soon(branch), detail: 'timeout' };
  if (definition.steps[step]?.local) {
    move('local step done', (next) => {
      act(next.sites[step]!, round);
      return apply(next, { kind: 'done', epoch });
    });
    move('local step fails', (next) => apply(next, { kind: 'absent', epoch, at: soon(branch) }));
    if (round === 0) move('local step refuses', (next) => apply(next, outcomeInput('rejected', epoch)));
    return;
  }
  const calls = (next: Situation) => {
    const site = next.sites[step]!;
    site.open = true;
    return site;
  };
  move('responded', (next) => apply(next, outcomeInput(act(calls(next), round), epoch)));
  move('responded twice', (next) => {
    const input = outcomeInput(act(calls(next), round), epoch);
    return apply(apply(next, input), input);
  });
  // Once per step: every resumed refusal would be a new situation, and all of them are equivalent.
  if (from.sites[step]?.acted === null && round === 0) {
    move('refused', (next) => {
      calls(next).refused = round;
      return apply(next, outcomeInput('rejected', epoch));
    });
    move('refused, response lost', (next) => {
      calls(next).refused = round;
      return apply(next, unknown);
    });
  }
  move('timed out after acting', (next) => {
    act(calls(next), round);
    return apply(next, unknown);
  });
  move('timed out before acting', (next) => {
    calls(next);
    return apply(next, unknown);
  });
  if (branch.failingSince !== null) {
    move('timed out for too long', (next) => {
      calls(next);
      return apply(next, { ...unknown, at: tooLate(definition, branch) });
    });
  }
  move('timed out on the way', (next) => {
    calls(next).late = round === 0;
    return apply(next, unknown);
  });
  move('crash before the call', (next) => next);
  move('crash after sending', (next) => {
    calls(next).late = round === 0;
    return next;
  });
  move('crash after the response', (next) => {
    act(calls(next), round);
    return next;
  });
}

function queries(definition: CoreDefinition, branch: Branch, move: Mover, apply: ApplyInput) {
  const { step, epoch, round } = branch;
  move('status known', (next) => {
    const site = next.sites[step]!;
    const truth = site.acted === round ? 'done' : site.refused === round || site.tombstone ? 'rejected' : 'absent';
    // Without a tombstone, the definition promises that "absent" is final.
    if (truth === 'absent' && !definition.steps[step]?.compensateAbsent) site.late = false;
    return apply(next, outcomeInput(truth, epoch));
  });
  const unknown: Input = { kind: 'unknown', epoch, at: soon(branch), detail: '' };
  move('status unknown', (next) => apply(next, unknown));
  if (branch.failingSince !== null) {
    move('status unknown for too long', (next) => apply(next, { ...unknown, at: tooLate(definition, branch) }));
  }
  move('crash while asking', (next) => next);
}

function compensations(definition: CoreDefinition, branch: Branch, move: Mover, apply: ApplyInput) {
  const { step, epoch } = branch;
  const fails: Input = {
    ...{ kind: 'uncompensated', epoch, at: soon(branch), permanent: false, reason: '', detail: '' },
  };
  const undone = (next: Situation, last: number) => {
    undo(next.sites[step]!);
    // Independent ones come in any order.
    if (definition.compensation === 'in-order') next.lastCompensated = Math.min(next.lastCompensated, last);
  };
  const compensated: Input = { kind: 'compensated', epoch };
  move('compensated', (next) => {
    undone(next, step - 1);
    return apply(next, compensated);
  });
  move('compensated twice', (next) => {
    undone(next, step - 1);
    return apply(apply(next, compensated), compensated);
  });
  move('compensated, response lost', (next) => {
    undone(next, step);
    return apply(next, fails);
  });
  move('compensation fails', (next) => apply(next, fails));
  if (branch.failingSince !== null) {
    move('compensation fails for too long', (next) => apply(next, { ...fails, at: tooLate(definition, branch) }));
  }
  move('crash after compensating', (next) => {
    undone(next, step);
    return next;
  });
  if (branch.round > 0) return;
  move('compensation refused', (next) => apply(next, { ...fails, permanent: true, reason: 'NO' }));
}

/**
 * Key of a situation. Numbers that only grow are reduced to what they mean, and texts about failures are left out.
 * The key is short because there are many situations.
 */
function keyOf({ state, sites, cancelRequests, lastCompensated }: Situation): string {
  const { end, failure, cancelTooLate, branches } = state;
  const outside = sites.map(({ acted, refused, compensated, tombstone, late, open }) => {
    const flags = [compensated, tombstone, late, open].reduce((bits, flag) => bits * 2 + (flag ? 1 : 0), 0);
    return `${acted ?? '-'}${refused ?? '-'}${flags.toString(16)}`;
  });
  const due = branches.map(({ phase, step, round, absent, failingSince, stuck }) =>
    [phase[0], step, round, absent ? 'a' : '', failingSince === null ? '' : 'f', stuck ? `s${stuck.refused}` : ''].join(
      '',
    ),
  );
  const why = failure && (failure.cause === 'cancelled' ? 'c' : 'f');
  return `${[end, why, cancelTooLate, cancelRequests, lastCompensated]}|${due}|${outside}`;
}

/** Maximum number of moves to an end when every call succeeds. */
const wayMax = 60;

const good = ['responded', 'status known', 'compensated', 'local step done', 'an operator resumes'];

/** Number of moves to an end if every call succeeds from here on and an operator resumes stuck sagas. */
function movesToTheEnd(definition: CoreDefinition, from: Situation, known: Map<string, number>): number {
  const way: string[] = [];
  for (let situation = from; ; ) {
    const key = keyOf(situation);
    const left = situation.state.end ? 0 : known.get(key);
    if (left !== undefined) {
      for (const [index, passed] of way.entries()) known.set(passed, left + way.length - index);
      ensure(left + way.length < wayMax, 'does not end although everything works');
      return left + way.length;
    }
    ensure(way.length < wayMax, 'does not end although everything works');
    way.push(key);
    const move = moves(definition, situation).find(({ name }) => good.includes(name));
    if (!move) throw new Violation('nothing leads to an end');
    situation = move.next;
  }
}

/** Checks that all other branches end while one of them gets no input. Returns how often this was checked. */
function branchesEndAlone(definition: CoreDefinition, from: Situation, known: Set<string>): number {
  const { branches } = from.state;
  if (branches.length < 2 || branches.some(({ stuck }) => stuck)) return 0;
  for (const { step } of branches) {
    const silent = definition.steps[step]!.name;
    let situation = from;
    for (let count = 0; situation.state.branches.length > 1; count += 1) {
      const key = `${silent} ${keyOf(situation)}`;
      if (known.has(key)) break;
      known.add(key);
      const move = moves(definition, situation).find(
        ({ step: at, name }) => good.includes(name) && (at !== silent || name === 'an operator resumes'),
      );
      if (!move || count > wayMax) throw new Violation(`a branch waits for ${silent}`);
      situation = move.next;
    }
    ensure(
      situation.state.branches.some((branch) => branch.step === step),
      `${silent} ended although nothing happened to it`,
    );
  }
  return branches.length;
}

export interface Found {
  states: number;
  transitions: number;
  ends: Record<string, number>;
  longestWayOut: number;
  /** Moves from the start to the situation that is furthest from it. */
  depth: number;
  /** How often a branch got no input while the others had to end. */
  leftAlone: number;
  /** How often each move happened to each step, such as "authorize: timed out after acting". */
  happened: Record<string, number>;
}

/** Far more than a correct saga has. */
const statesMax = 100_000;
const depthMax = 500;

/** Visits every reachable situation. Throws at the first that breaks a rule, with the moves that lead to it. */
export function explore(definition: CoreDefinition, cancelRequests = 2): Found {
  const site = { acted: null, refused: null, compensated: false, tombstone: false, late: false, open: false };
  const start: Situation = {
    state: begin(definition),
    sites: definition.steps.map(() => ({ ...site })),
    cancelRequests,
    lastCompensated: definition.steps.length,
  };
  const cameBy = new Map<string, { from: string; name: string } | null>([[keyOf(start), null]]);
  const depths = new Map<string, number>([[keyOf(start), 0]]);
  const queue: Situation[] = [start];
  const found: Found = { states: 1, transitions: 0, ends: {}, longestWayOut: 0, depth: 0, leftAlone: 0, happened: {} };
  const [waysOut, leftAlone] = [new Map<string, number>(), new Set<string>()];
  // The array grows while the loop runs: breadth first, so that the reported path to a fault is the shortest.
  for (const situation of queue) {
    const from = keyOf(situation);
    try {
      checkLateInputs(definition, situation.state);
      found.longestWayOut = Math.max(found.longestWayOut, movesToTheEnd(definition, situation, waysOut));
      found.leftAlone += branchesEndAlone(definition, situation, leftAlone);
      for (const { step, name, next } of moves(definition, situation)) {
        found.transitions += 1;
        const event = `${step}: ${name}`;
        found.happened[event] = (found.happened[event] ?? 0) + 1;
        const key = keyOf(next);
        if (cameBy.has(key)) continue;
        cameBy.set(key, { from, name: step ? `${step}: ${name}` : name });
        const depth = depths.get(from)! + 1;
        depths.set(key, depth);
        found.depth = Math.max(found.depth, depth);
        ensure(depth <= depthMax, `more than ${depthMax} moves`);
        ensure(cameBy.size < statesMax, `more than ${statesMax} states`);
        queue.push(next);
        const { end } = next.state;
        if (end) found.ends[end] = (found.ends[end] ?? 0) + 1;
      }
    } catch (error) {
      const path: string[] = [];
      for (let at = cameBy.get(from); at; at = cameBy.get(at.from)) path.unshift(at.name);
      throw new Error(`${definition.name}: ${(error as Error).message} after: ${path.join(', ')}`, { cause: error });
    }
  }
  return { ...found, states: cameBy.size };
}
