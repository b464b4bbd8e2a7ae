import t from 'tap';
import { advance, commandOf, type State } from './core.ts';
import { type CoreDefinition, explore } from './exploration.ts';
import { step } from './purchase-testbed.ts';

const onward = { compensable: false, compensateAbsent: false };
const local = { local: true, queryable: false, ...onward };
const common = {
  ...{ version: 1, mustComplete: false, compensation: 'in-order' as const },
  retry: { initialBackoffMs: 1, maxBackoffMs: 4, maxElapsedMs: 12 },
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
  { name: 'no pivot', ...common, steps: [step('one'), step('two'), step('three')] },
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
    steps: [
      step('decide', { ...local, pivot: true }),
      step('refund', { ...onward, queryable: false }),
      step('end', local),
    ],
  },
];

t.test('everything that can happen', async (t) => {
  for (const definition of definitions) {
    const { states, transitions, ends, longestWayOut } = explore(definition);
    const figures = `${states} states, ${transitions} transitions, at most ${longestWayOut} moves to an end`;
    t.comment(`${definition.name}: ${figures}, ends ${JSON.stringify(ends)}`);
    t.ok(states > 50, `${definition.name}: ${states} states`);
    t.ok((ends.completed ?? 0) > 0, `${definition.name}: can be completed`);
  }
});

/** The exploration is worth what it finds: each of these is a fault, and each is found. */
t.test('faults are found', async (t) => {
  const faults: [string, typeof advance, RegExp][] = [
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
      'a wish is heeded before the outcome is known',
      (definition, state, input) => {
        const next = advance(definition, state, input);
        const hasty = input.kind === 'abandon' && next.state !== state && state.phase === 'run' && next.state.failure;
        return hasty ? advance(definition, next.state, { kind: 'absent', epoch: next.state.epoch }) : next;
      },
      /outcome is unknown|left done/,
    ],
    [
      'answers of any epoch count',
      (definition, state, input) =>
        advance(definition, state, 'epoch' in input ? { ...input, epoch: state.epoch } : input),
      /a late/,
    ],
    [
      'a resumed step gets a new key although it may have acted',
      (definition, state, input) => {
        const { state: next } = advance(definition, state, input);
        const changed = input.kind === 'resume' && next !== state ? { ...next, round: next.round + 1 } : next;
        return { state: changed, command: commandOf(definition, changed) };
      },
      /two keys/,
    ],
    [
      'a cancel after the pivot is heeded',
      (definition, state, input) => {
        const late = input.kind === 'abandon' && state.phase === 'run' && state.step > 2;
        if (!late) return advance(definition, state, input);
        const failure = { ...input, step: '' };
        const back: State = { ...state, phase: 'compensate', step: 1, epoch: state.epoch + 1, failure };
        return { state: back, command: commandOf(definition, back) };
      },
      /after the pivot|outcome is unknown/,
    ],
    [
      'the nearest step is not compensated',
      (definition, state, input) => {
        const { state: next } = advance(definition, state, input);
        const skipped = next.phase === 'compensate' && state.phase !== 'compensate' && next.step > 0;
        const further = skipped ? { ...next, step: 0 } : next;
        return { state: further, command: commandOf(definition, further) };
      },
      /left done/,
    ],
  ];
  for (const [name, faulty, message] of faults) {
    t.throws(() => explore({ ...checkout, advance: faulty }), { message }, name);
  }
});
