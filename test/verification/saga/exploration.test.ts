import { advance, type State } from '@armature/runtime/saga';
import { step } from '@armature/runtime/testing';
import t from 'tap';
import { type CoreDefinition, explore } from './exploration.ts';

const onward = { compensable: false, compensateAbsent: false };
const local = { local: true, queryable: false, ...onward };
const common = {
  ...{ version: 1, mustComplete: false, compensation: 'independent' as const },
  retry: { initialBackoffMs: 1, maxBackoffMs: 4, maxElapsedMs: 1_000 },
};

const checkout: CoreDefinition = {
  name: 'checkout',
  ...common,
  steps: [
    step('reserve'),
    step('authorize'),
    step('confirm', { ...local, pivot: true }),
    step('commit', onward),
    step('capture', { ...onward, queryable: false }),
    step('complete', local),
  ],
};

const definitions: CoreDefinition[] = [
  checkout,
  { name: 'no pivot', ...common, steps: [step('one'), step('two')] },
  { name: 'no pivot, in order', ...common, compensation: 'in-order', steps: [step('one'), step('two'), step('three')] },
  {
    name: 'absent is final',
    ...common,
    steps: [step('one', { compensateAbsent: false }), step('two', { compensateAbsent: false })],
  },
  {
    name: 'no status query',
    ...common,
    steps: [
      step('one', { queryable: false }),
      step('two', { queryable: false }),
      step('three', { ...local, pivot: true }),
    ],
  },
  {
    name: 'remote pivot',
    ...common,
    steps: [step('one'), step('two', { ...onward, pivot: true }), step('three', onward)],
  },
  {
    name: 'remote pivot with a tombstone',
    ...common,
    steps: [step('one'), step('two', { pivot: true }), step('three', onward)],
  },
  {
    name: 'local steps around',
    ...common,
    steps: [step('zero', local), step('one'), step('two', local), step('three')],
  },
  {
    name: 'only forward',
    ...common,
    mustComplete: true,
    steps: [
      step('decide', { ...local, pivot: true }),
      step('refund', { ...onward, queryable: false }),
      step('end', local),
    ],
  },
  {
    name: 'a group',
    ...common,
    steps: [
      step('decide', { ...local, pivot: true }),
      step('refund', { ...onward, queryable: false, group: 'undo' }),
      step('return', { ...onward, group: 'undo' }),
      step('tell', onward),
      step('end', local),
    ],
  },
  { ...checkout, name: 'in order', compensation: 'in-order' },
];

t.test('explores every reachable state', async (t) => {
  for (const definition of definitions) {
    const { states, transitions, ends, longestWayOut, leftAlone } = explore(definition);
    const figures = `${states} states, ${transitions} transitions, at most ${longestWayOut} moves to an end`;
    t.comment(`${definition.name}: ${figures}, ${leftAlone} silent branches, ends ${JSON.stringify(ends)}`);
    t.ok(states > 50, `${definition.name}: ${states} states`);
    t.ok((ends.completed ?? 0) > 0, `${definition.name}: can be completed`);
    const branching = ['checkout', 'no pivot', 'a group'].includes(definition.name);
    if (branching) t.ok(leftAlone > 0, `${definition.name}: branches were left silent`);
    if (definition.mustComplete) t.equal(ends.failed, undefined, `${definition.name}: is never abandoned`);
  }
});

/** Each of these faults must be found by the exploration. */
t.test('finds each fault', async (t) => {
  type Faulty = typeof advance;
  const faults: [string, Faulty, RegExp, CoreDefinition?][] = [
    [
      'a timeout is taken for a failure',
      (definition, state, input) =>
        advance(
          definition,
          state,
          input.kind === 'unknown' ? { ...input, kind: 'rejected', reason: 'TIMEOUT' } : input,
        ),
      /outcome is unknown|left done/,
    ],
    [
      'a cancel request is applied before the outcome is known',
      (definition, state, input) => {
        const next = advance(definition, state, input);
        const early = input.kind === 'abandon' && next !== state && state.branches[0]?.phase === 'run' && next.failure;
        return early ? advance(definition, next, { kind: 'absent', epoch: next.branches[0]!.epoch }) : next;
      },
      /outcome is unknown|left done/,
    ],
    [
      'responses of any epoch are accepted',
      (definition, state, input) =>
        advance(definition, state, 'epoch' in input ? { ...input, epoch: state.branches[0]?.epoch ?? 0 } : input),
      /a late|an epoch is kept|changed by the input/,
    ],
    [
      'a resumed step gets a new key although it may have acted',
      (definition, state, input) => {
        const next = advance(definition, state, input);
        if (input.kind !== 'resume' || next === state) return next;
        return { ...next, branches: next.branches.map((branch) => ({ ...branch, round: branch.round + 1 })) };
      },
      /two keys/,
    ],
    [
      'a cancel after the pivot is applied',
      (definition, state, input) => {
        const [branch] = state.branches;
        if (input.kind !== 'abandon' || branch?.phase !== 'run' || branch.step <= 2) {
          return advance(definition, state, input);
        }
        const failure = { ...input, step: '' };
        const back: State = {
          ...{ ...state, failure, epoch: state.epoch + 1 },
          branches: [{ ...branch, phase: 'compensate', step: 1, epoch: state.epoch + 1 }],
        };
        return back;
      },
      /after the pivot|outcome is unknown/,
    ],
    [
      'the nearest step is not compensated',
      (definition, state, input) => {
        const next = advance(definition, state, input);
        const turned = next.branches.length > 1 && state.branches[0]?.phase !== 'compensate';
        return turned ? { ...next, branches: next.branches.slice(1) } : next;
      },
      /left done|waits for another compensation/,
    ],
    [
      'compensations wait for one another',
      (definition, state, input) => advance({ ...definition, compensation: 'in-order' }, state, input),
      /waits for another compensation/,
    ],
    [
      'a refused compensation makes the others stuck',
      (definition, state, input) => {
        const next = advance(definition, state, input);
        const { stuck } = next.branches.find((branch) => branch.stuck !== null) ?? { stuck: null };
        if (next === state || !stuck || next.branches.length < 2) return next;
        return { ...next, branches: next.branches.map((branch) => ({ ...branch, stuck })) };
      },
      /changed by the input to another/,
    ],
    [
      'the step after a group does not wait for all of it',
      (definition, state, input) => {
        const next = advance(definition, state, input);
        return input.kind === 'done' && next !== state && next.branches.length === 1 && state.branches.length === 2
          ? advance(definition, next, { kind: 'done', epoch: next.branches[0]!.epoch })
          : next;
      },
      /completed without|changed by the input/,
      definitions.find(({ name }) => name === 'a group')!,
    ],
    [
      'what must complete is abandoned',
      (definition, state, input) => advance({ ...definition, mustComplete: false }, state, input),
      /must complete/,
      definitions.find(({ name }) => name === 'only forward')!,
    ],
  ];
  for (const [name, faulty, message, definition = checkout] of faults) {
    t.throws(() => explore({ ...definition, advance: faulty }), { message }, name);
  }
});
