import t from 'tap';
import { advance, begin, type CoreDefinition, type CoreStep, type Input, type State } from './core.ts';
import { divergences, type History, type HistoryEntry } from './history.ts';
import { readRecordings, representatives, writeRecordings } from './recordings.ts';

const step = (name: string, more: Partial<CoreStep> = {}): CoreStep => ({
  ...{ name, local: false, pivot: false, queryable: true, compensable: true, compensateAbsent: true },
  ...more,
});
const definition: CoreDefinition = {
  name: 'purchase',
  steps: [step('reserve'), step('authorize'), step('confirm', { local: true, pivot: true, queryable: false })],
  limits: { attemptsMax: 6, backoff: { firstMs: 50, maxMs: 400 } },
};

type Answer = 'done' | 'unknown' | 'rejected' | 'compensated';

/** Plays answers as the engine does, and keeps what its log would. */
function played(name: string, ...answers: readonly Answer[]): History & { state: State } {
  let state = begin();
  const entries: HistoryEntry[] = answers.map((kind) => {
    const said =
      kind === 'unknown' ? { detail: 'ada hung up' } : kind === 'rejected' ? { reason: 'NO', detail: 'ada' } : {};
    const input = { kind, epoch: state.epoch, ...said } as Input;
    const entry = { step: definition.steps[state.step]!.name, kind: state.phase, attempt: state.attempt, input };
    state = advance(definition, state, input).state;
    return entry;
  });
  return { name, saga: 'purchase', entries, state };
}

const histories = [
  played('a', 'done', 'unknown', 'unknown', 'unknown', 'done', 'done'),
  played('b', 'done', 'done', 'done'),
  played('c', 'done', 'unknown', 'done', 'done'),
  played('d', 'done', 'rejected', 'compensated'),
  played('e', 'done', 'done', 'done'),
  played('f', 'done', 'unknown', 'unknown', 'done', 'done'),
  played('under way', 'unknown'),
];

t.test('the shortest of those that show something is kept, and named after what it shows', async (t) => {
  const kept = representatives(definition, histories);
  t.strictSame(
    kept.map(({ name, entries }) => [name, entries.length]),
    [
      ['completed', 3],
      ['failed, authorize rejected NO', 3],
      ['completed, authorize unknown, query authorize done', 4],
      ['completed, authorize unknown, query authorize unknown, query authorize done', 5],
    ],
  );
  t.strictSame(kept, representatives(definition, histories.toReversed()), 'in whatever order they come');
  t.notMatch(JSON.stringify(kept), /ada/);
});

t.test('a file has a line for each entry, and is read as it was written', async (t) => {
  const kept = representatives(definition, histories);
  const text = writeRecordings(kept);
  t.strictSame(readRecordings(text), kept);
  t.strictSame(divergences([definition], readRecordings(text)), []);
  t.equal(text.split('\n').length, 2 + kept.reduce((sum, { entries }) => sum + entries.length + 2, 0) + 1);
});

t.test('a history that its definition does not lead to is not kept', async (t) => {
  const [, completed] = histories;
  const torn = { ...completed!, entries: completed!.entries.slice(1) };
  t.throws(() => representatives(definition, [torn]), /diverges at entry 1/);
});
