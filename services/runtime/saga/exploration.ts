/**
 * Walks through everything that can happen to a saga: each answer of each step, lost before or after it acted,
 * late, doubled, with crashes, cancels and failing compensations in between, until no new state turns up.
 * States that differ in numbers only (epochs, attempts beyond the last pause) count as one.
 */
import {
  advance,
  begin,
  type Command,
  commandOf,
  type CoreDefinition as Definition,
  type Input,
  type State,
} from './core.ts';

/** A definition, and the core to explore it with where that is not the real one. */
export type CoreDefinition = Definition & { advance?: typeof advance };

/** What one step has done to the world outside. */
interface Site {
  /** The round whose key it acted under. */
  acted: number | null;
  refused: number | null;
  compensated: boolean;
  /** It was undone before it came, so it has no effect any more. */
  tombstone: boolean;
  /** A request is still on its way. */
  late: boolean;
  /** It was called, and nobody has heard how that ended. */
  open: boolean;
}

interface Situation {
  state: State;
  sites: Site[];
  /** Wishes to turn back that may still come. */
  wishes: number;
  /** The last step that was compensated; only earlier ones may follow. */
  lastCompensated: number;
}

interface Move {
  name: string;
  next: Situation;
}

class Violation extends Error {}

function insist(condition: boolean, what: string): void {
  if (!condition) throw new Violation(what);
}

const clone = (situation: Situation): Situation => ({
  ...situation,
  sites: situation.sites.map((site) => ({ ...site })),
});

/** The step's service gets the request of this round. True: it has acted, now or before. */
function act(site: Site, round: number): 'done' | 'rejected' {
  if (site.tombstone || site.refused === round) return 'rejected';
  insist(site.acted === null || site.acted === round, 'a step acts under two keys');
  insist(!site.compensated || site.acted === round, 'a step acts after it was compensated');
  site.acted = round;
  return 'done';
}

function undo(site: Site): void {
  if (site.acted !== null) site.compensated = true;
  else site.tombstone = true;
}

/** Hands an input to the saga, and checks what it makes of it. */
function hear(definition: CoreDefinition, situation: Situation, input: Input): Situation {
  const before = situation.state;
  const { state, command } = (definition.advance ?? advance)(definition, before, input);
  if (state === before) return situation;
  const at = situation.sites[before.step]!;
  if (input.kind === 'done' || input.kind === 'rejected' || input.kind === 'absent') at.open = false;
  insist('epoch' in input ? state.epoch > before.epoch : state.epoch >= before.epoch, 'an epoch came again');
  check(definition, situation, state, command);
  return { ...situation, state };
}

/** What must hold of every state that is reached. */
function check(definition: CoreDefinition, { sites, lastCompensated }: Situation, state: State, command: Command) {
  const pivot = definition.steps.findIndex((step) => step.pivot);
  if (command.kind === 'compensate') {
    insist(
      sites.every((site) => !site.open),
      'compensates while an outcome is unknown',
    );
    insist(command.step <= lastCompensated, 'compensates out of order');
    // A pivot that came after it was found absent is undone by its own compensation, never passed.
    const { acted, compensated } = sites[pivot] ?? { acted: null, compensated: false };
    insist(acted === null || compensated || command.step === pivot, 'compensates after the pivot');
  }
  if (command.kind === 'run') insist(!sites[command.step]?.tombstone, 'runs a step that was undone');
  for (let epoch = 0; epoch < state.epoch; epoch += state.epoch > 8 ? state.epoch - 1 : 1) {
    for (const input of answers(epoch)) {
      insist(
        (definition.advance ?? advance)(definition, state, input).state === state,
        `a late ${input.kind} changes something`,
      );
    }
  }
  if (state.phase === 'completed' || state.phase === 'failed') checkEnd(definition, sites, state.phase);
}

function checkEnd(definition: CoreDefinition, sites: readonly Site[], phase: 'completed' | 'failed') {
  definition.steps.forEach((step, index) => {
    const { acted, compensated, tombstone } = sites[index]!;
    if (phase === 'completed') insist(acted !== null && !compensated && !tombstone, `completed without ${step.name}`);
    else if (step.compensable) insist(acted === null || compensated, `failed with ${step.name} left done`);
    else if (step.pivot) insist(acted === null, 'failed after the pivot');
  });
}

const answers = (epoch: number): Input[] => [
  { kind: 'done', epoch },
  { kind: 'absent', epoch },
  { kind: 'compensated', epoch },
  { kind: 'unknown', epoch, detail: '' },
  { kind: 'rejected', epoch, reason: 'NO', detail: '' },
  { kind: 'uncompensated', epoch, permanent: false, reason: '', detail: '' },
  { kind: 'uncompensated', epoch, permanent: true, reason: 'NO', detail: '' },
];

const answer = (kind: 'done' | 'rejected' | 'absent', epoch: number): Input =>
  kind === 'rejected' ? { kind, epoch, reason: 'NO', detail: '' } : { kind, epoch };

/** Everything that can happen next. */
function moves(definition: CoreDefinition, from: Situation): Move[] {
  const found: Move[] = [];
  const move = (name: string, make: (next: Situation) => Situation) => {
    try {
      found.push({ name, next: make(clone(from)) });
    } catch (error) {
      if (error instanceof Violation) error.message = `${error.message} (by "${name}")`;
      throw error;
    }
  };
  const hears = (next: Situation, input: Input) => hear(definition, next, input);
  const command = commandOf(definition, from.state);
  if (command.kind === 'run') runs(definition, command, from, move, hears);
  if (command.kind === 'query') queries(definition, command, move, hears);
  if (command.kind === 'compensate') compensations(command, from, move, hears);
  if (command.kind === 'stuck') {
    move('an operator resumes', (next) => hears(next, { kind: 'resume' }));
    move('an operator turns it back', (next) =>
      hears(next, { kind: 'abandon', cause: 'operator', reason: '', detail: '' }),
    );
  }
  from.sites.forEach((site, index) => {
    if (!site.late) return;
    move(`the late request of ${index} arrives`, (next) => {
      const there = next.sites[index]!;
      there.late = false;
      act(there, 0);
      if (next.state.phase === 'completed' || next.state.phase === 'failed') {
        checkEnd(definition, next.sites, next.state.phase);
      }
      return next;
    });
  });
  for (const cause of ['cancelled', 'expired', 'operator'] as const) {
    if (from.wishes === 0) break;
    move(cause, (next) => {
      next.wishes -= 1;
      return hears(next, { kind: 'abandon', cause, reason: '', detail: '' });
    });
  }
  return found;
}

type Mover = (name: string, make: (next: Situation) => Situation) => void;
type Hearer = (next: Situation, input: Input) => Situation;

function runs(
  definition: CoreDefinition,
  { step, epoch }: { step: number; epoch: number },
  from: Situation,
  move: Mover,
  hears: Hearer,
) {
  const { round } = from.state;
  const unknown: Input = { kind: 'unknown', epoch, detail: 'timeout' };
  if (definition.steps[step]?.local) {
    move('local step done', (next) => {
      act(next.sites[step]!, round);
      return hears(next, { kind: 'done', epoch });
    });
    move('local step fails', (next) => hears(next, { kind: 'absent', epoch }));
    if (round === 0) move('local step refuses', (next) => hears(next, answer('rejected', epoch)));
    return;
  }
  const calls = (next: Situation) => {
    const site = next.sites[step]!;
    site.open = true;
    return site;
  };
  move('answered', (next) => hears(next, answer(act(calls(next), round), epoch)));
  move('answered twice', (next) => {
    const input = answer(act(calls(next), round), epoch);
    return hears(hears(next, input), input);
  });
  // Once per step: every resumed refusal would be a new situation, and they are all alike.
  if (from.sites[step]?.acted === null && round === 0) {
    move('refused', (next) => {
      calls(next).refused = round;
      return hears(next, answer('rejected', epoch));
    });
    move('refused, answer lost', (next) => {
      calls(next).refused = round;
      return hears(next, unknown);
    });
  }
  move('timed out after acting', (next) => {
    act(calls(next), round);
    return hears(next, unknown);
  });
  move('timed out before acting', (next) => {
    calls(next);
    return hears(next, unknown);
  });
  move('timed out on the way', (next) => {
    calls(next).late = round === 0;
    return hears(next, unknown);
  });
  move('crash before the call', (next) => next);
  move('crash after sending', (next) => {
    calls(next).late = round === 0;
    return next;
  });
  move('crash after the answer', (next) => {
    act(calls(next), round);
    return next;
  });
}

function queries(
  definition: CoreDefinition,
  { step, epoch }: { step: number; epoch: number },
  move: Mover,
  hears: Hearer,
) {
  move('status known', (next) => {
    const site = next.sites[step]!;
    const { round } = next.state;
    const truth = site.acted === round ? 'done' : site.refused === round || site.tombstone ? 'rejected' : 'absent';
    // Without a tombstone to come, the definition promises that "absent" is final.
    if (truth === 'absent' && !definition.steps[step]?.compensateAbsent) site.late = false;
    return hears(next, answer(truth, epoch));
  });
  move('status unknown', (next) => hears(next, { kind: 'unknown', epoch, detail: '' }));
  move('crash while asking', (next) => next);
}

function compensations({ step, epoch }: { step: number; epoch: number }, from: Situation, move: Mover, hears: Hearer) {
  const fails: Input = { kind: 'uncompensated', epoch, permanent: false, reason: '', detail: '' };
  const undone = (next: Situation) => {
    undo(next.sites[step]!);
    next.lastCompensated = Math.min(next.lastCompensated, step);
  };
  const compensated: Input = { kind: 'compensated', epoch };
  move('compensated', (next) => {
    undone(next);
    return hears({ ...next, lastCompensated: step - 1 }, compensated);
  });
  move('compensated twice', (next) => {
    undone(next);
    return hears(hears({ ...next, lastCompensated: step - 1 }, compensated), compensated);
  });
  move('compensated, answer lost', (next) => {
    undone(next);
    return hears(next, fails);
  });
  move('compensation fails', (next) => hears(next, fails));
  move('crash after compensating', (next) => {
    undone(next);
    return next;
  });
  if (from.state.round > 0) return;
  move('compensation refused', (next) => hears(next, { ...fails, permanent: true, reason: 'NO' }));
}

/**
 * Everything that tells two situations apart: numbers that only grow are cut down to what they mean, and what
 * is only said about a failure, not acted upon, is left out. Short, since there are many.
 */
function keyOf({ retry }: CoreDefinition, { state, sites, wishes, lastCompensated }: Situation): string {
  const { phase, step, attempt, round, failure, absent, cancelTooLate, stuck } = state;
  const world = sites.map(({ acted, refused, compensated, tombstone, late, open }) => {
    const flags = [compensated, tombstone, late, open].reduce((bits, flag) => bits * 2 + (flag ? 1 : 0), 0);
    return `${acted ?? '-'}${refused ?? '-'}${flags.toString(16)}`;
  });
  const why = failure && (failure.cause === 'cancelled' ? 'c' : 'f');
  const rest = stuck && `${stuck.phase}${stuck.refused}`;
  const tries = Math.min(attempt, Math.ceil(retry.maxElapsedMs / retry.maxBackoffMs) + 2);
  return `${[phase, step, tries, round, why, absent, cancelTooLate, rest, wishes, lastCompensated]}|${world}`;
}

/** From here on everything works, and an operator resumes what is stuck: how many moves to the end? */
function movesToTheEnd(definition: CoreDefinition, from: Situation): number {
  const good = ['answered', 'status known', 'compensated', 'local step done', 'an operator resumes'];
  let situation = from;
  for (let count = 0; count < 60; count += 1) {
    if (situation.state.phase === 'completed' || situation.state.phase === 'failed') return count;
    const move = moves(definition, situation).find(({ name }) => good.includes(name));
    if (!move) throw new Violation(`nothing leads on from ${situation.state.phase}`);
    situation = move.next;
  }
  throw new Violation('does not end although everything works');
}

export interface Found {
  states: number;
  transitions: number;
  ends: Record<string, number>;
  longestWayOut: number;
  /** Moves from the beginning to the situation that is furthest from it. */
  depth: number;
  /** How often each thing happened to each step, such as "authorize: timed out after acting". */
  happened: Record<string, number>;
}

/** Far more than a sound saga has. */
const statesMax = 100_000;
const depthMax = 500;

/** Visits every situation that can be reached. Throws at the first that breaks a rule, with the way to it. */
export function explore(definition: CoreDefinition, wishes = 2): Found {
  const site = { acted: null, refused: null, compensated: false, tombstone: false, late: false, open: false };
  const start: Situation = {
    state: begin(),
    sites: definition.steps.map(() => ({ ...site })),
    wishes,
    lastCompensated: definition.steps.length,
  };
  const cameBy = new Map<string, { from: string; name: string } | null>([[keyOf(definition, start), null]]);
  const depths = new Map<string, number>([[keyOf(definition, start), 0]]);
  const queue: Situation[] = [start];
  const found: Found = { states: 1, transitions: 0, ends: {}, longestWayOut: 0, depth: 0, happened: {} };
  // The array grows while it is walked: breadth first, so that a fault is found by the shortest way to it.
  for (const situation of queue) {
    const from = keyOf(definition, situation);
    try {
      found.longestWayOut = Math.max(found.longestWayOut, movesToTheEnd(definition, situation));
      for (const { name, next } of moves(definition, situation)) {
        found.transitions += 1;
        const event = `${definition.steps[situation.state.step]?.name}: ${name}`;
        found.happened[event] = (found.happened[event] ?? 0) + 1;
        const key = keyOf(definition, next);
        if (cameBy.has(key)) continue;
        cameBy.set(key, { from, name });
        const depth = depths.get(from)! + 1;
        depths.set(key, depth);
        found.depth = Math.max(found.depth, depth);
        insist(depth <= depthMax, 'there is no end of moves');
        insist(cameBy.size < statesMax, 'there is no end of states');
        queue.push(next);
        const { phase } = next.state;
        if (phase === 'completed' || phase === 'failed') found.ends[phase] = (found.ends[phase] ?? 0) + 1;
      }
    } catch (error) {
      const path: string[] = [];
      for (let at = cameBy.get(from); at; at = cameBy.get(at.from)) path.unshift(at.name);
      throw new Error(`${definition.name}: ${(error as Error).message} after: ${path.join(', ')}`, { cause: error });
    }
  }
  return { ...found, states: cameBy.size };
}
