import { divergences } from '@armature/runtime/saga';
import { purchase as definition, done, lost, type PlayedOutcome, played, undone } from '@armature/runtime/testing';
import t from 'tap';
import { readRecordings, representatives, writeRecordings } from './recordings.ts';

const no: PlayedOutcome = (epoch) => ({ kind: 'rejected', epoch, reason: 'NO', detail: 'ada' });
const histories = [
  played('a', [done, lost, lost, lost, done, done]),
  played('b', [done, done, done]),
  played('c', [done, lost, done, done]),
  played('d', [done, no, undone]),
  played('e', [done, done, done]),
  played('f', [done, lost, lost, done, done]),
  played('under way', [lost]),
];

t.test('keeps the shortest history of each behaviour, and names it after the behaviour', async (t) => {
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
  t.strictSame(kept, representatives(definition, histories.toReversed()), 'in any order of the input');
  t.notMatch(JSON.stringify(kept), /ada/);
});

t.test('writes a line for each entry, and reads back what was written', async (t) => {
  const kept = representatives(definition, histories);
  const text = writeRecordings(kept);
  t.strictSame(readRecordings(text), kept);
  t.strictSame(divergences([definition], readRecordings(text)), []);
  t.equal(text.split('\n').length, 2 + kept.reduce((sum, { entries }) => sum + entries.length + 2, 0) + 1);
});

t.test('rejects a history that its definition does not lead to', async (t) => {
  const [, completed] = histories;
  const torn = { ...completed!, entries: completed!.entries.slice(1) };
  t.throws(() => representatives(definition, [torn]), /diverges at entry 1/);
});
