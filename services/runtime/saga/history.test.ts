import t from 'tap';
import {
  purchase as definition,
  done,
  lost,
  no,
  type PlayedOutcome,
  played,
  undone,
} from '../testing/purchase-saga.ts';
import { begin, type CoreDefinition, type CoreStep } from './core.ts';
import { describeDivergence, divergences, type History, recordingOf } from './history.ts';

const away: PlayedOutcome = (epoch, at) => ({
  ...{ kind: 'uncompensated', epoch, at, permanent: false, reason: '' },
  detail: 'inventory is away',
});

const histories = [
  played('completed', [done, done, done]),
  played('timed out, then asked', [done, lost, done, done]),
  played('declined, undone at the third try', [done, no, away, away, undone]),
];
const recordings = histories.map((history) => recordingOf(definition, history));
const said = (today: CoreDefinition, about: readonly History[]) => divergences([today], about).map(describeDivergence);

t.test('the definition that made a history leads where it led', async (t) => {
  t.strictSame(said(definition, histories), []);
  t.strictSame(said(definition, recordings), []);
  t.equal(recordings[2]!.entries.at(-1)!.led, 'failed, epoch 6, attempt 0, back from authorize: rejected DECLINED');
});

t.test('a recording keeps no text of users or services', async (t) => {
  t.notMatch(JSON.stringify(recordings), /ada|card_declined|away/);
  t.ok(recordings.every(({ state }) => state === undefined));
});

t.test('another definition is told from it, and where', async (t) => {
  const [reserve, authorize, confirm] = definition.steps as [CoreStep, CoreStep, CoreStep];
  const changed = (index: number, more: Partial<CoreStep>) => ({
    ...definition,
    steps: definition.steps.map((one, at) => (at === index ? { ...one, ...more } : one)),
  });
  for (const [name, today, expected] of [
    [
      'two steps change places',
      { ...definition, steps: [authorize, reserve, confirm] },
      'purchase completed diverges at entry 1: expected done to run reserve, attempt 0; got run authorize, attempt 0',
    ],
    [
      'a step is not asked for its status',
      changed(1, { queryable: false }),
      /^purchase timed out, then asked diverges at entry 2: expected query authorize .*; got run authorize /,
    ],
    [
      'a step is not undone',
      changed(0, { compensable: false }),
      /^purchase declined.* diverges at entry 2: expected compensate reserve .*; got failed/,
    ],
    [
      'fewer tries',
      { ...definition, retry: { ...definition.retry, maxElapsedMs: 800 } },
      /^purchase declined.* diverges at entry 4: expected compensate reserve .*; got stuck/,
    ],
    [
      'another pause',
      { ...definition, retry: { ...definition.retry, initialBackoffMs: 51 } },
      /^purchase timed out.* diverges at entry 2: expected .* after 50 ms.*; got .* after 51 ms/,
    ],
    ['no such saga', { ...definition, name: 'sale' }, /^purchase completed diverges at entry 0/],
  ] as const) {
    t.match(said(today, recordings)[0], expected, name);
  }
});

t.test('a log or a state that was tampered with is found', async (t) => {
  const [completed] = histories;
  const entries = completed!.entries;
  for (const [name, history, expected] of [
    [
      'an entry is missing',
      { ...completed!, entries: entries.toSpliced(1, 1) },
      /entry 2: expected done to run confirm/,
    ],
    ['the last one is missing', { ...completed!, entries: entries.slice(0, 2) }, /entry 2: expected .*completed/],
    ['an outcome came twice', { ...completed!, entries: [entries[0]!, ...entries] }, /entry 2/],
    [
      'an outcome of another epoch',
      { ...completed!, entries: [{ ...entries[0]!, input: done(9, 0) }, ...entries.slice(1)] },
      /entry 1: expected .* changes the state; got it is ignored/,
    ],
    ['another state', { ...completed!, state: begin(definition) }, /entry 3: expected .*"epoch":1/],
  ] as const) {
    const lines = said(definition, [history]);
    t.match(lines, [expected], `${name}: ${lines[0]}`);
    t.throws(() => recordingOf(definition, history), expected, `${name}: and is not recorded`);
  }
});
