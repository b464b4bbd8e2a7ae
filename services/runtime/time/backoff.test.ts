import t from 'tap';
import { backOff, backoffMs, exponentialBackoffMs, sleep, wakeableSleeps, withTimeout } from './index.ts';

const policy = { initialBackoffMs: 100, maxBackoffMs: 1_000 };

t.test('the wait doubles up to its maximum', async (t) => {
  const waits = [1, 2, 3, 4, 5, 60, 5_000].map((failures) => exponentialBackoffMs(failures, policy));
  t.same(waits, [100, 200, 400, 800, 1_000, 1_000, 1_000]);
  t.equal(exponentialBackoffMs(0, policy), 100, 'before the first failure: as after it');
});

t.test('jitter takes at most half of the wait, or all of it', async (t) => {
  const rows = [
    { jitter: 'equal', random: 0, ms: 200 },
    { jitter: 'equal', random: 0.5, ms: 300 },
    { jitter: 'equal', random: 1, ms: 400 },
    { jitter: 'full', random: 0, ms: 0 },
    { jitter: 'full', random: 1, ms: 400 },
  ] as const;
  for (const { jitter, random, ms } of rows) {
    t.equal(backoffMs(3, policy, { jitter, random: () => random }), ms, `${jitter} ${random}`);
  }
});

t.test('an aborted signal ends a wait, before and during it', async (t) => {
  await sleep(60_000, AbortSignal.abort());
  const stopping = new AbortController();
  const waiting = backOff(9, { initialBackoffMs: 60_000, maxBackoffMs: 60_000 }, stopping.signal);
  stopping.abort();
  await t.resolves(waiting);
});

t.test('a sleep ends when its key is woken, and sleeps of other keys continue', async (t) => {
  const sleeps = wakeableSleeps();
  const stopping = new AbortController();
  const ended: string[] = [];
  const begin = (key: string) => sleeps.sleep(key, 60_000, stopping.signal).then(() => ended.push(key));
  const [one, other] = [begin('one'), begin('other')];
  sleeps.wake('one');
  await one;
  t.strictSame(ended, ['one']);
  stopping.abort();
  await other;
  t.strictSame(ended, ['one', 'other'], 'an aborted signal ends it too');
  await sleeps.sleep('one', 60_000, stopping.signal);
});

t.test('work that takes longer than its timeout is named', async (t) => {
  t.equal(await withTimeout(60_000, Promise.resolve(7), 'the sum'), 7);
  await t.rejects(withTimeout(1, new Promise(() => {}), 'the sum'), { message: 'the sum took longer than 1 ms' });
  await t.rejects(withTimeout(60_000, Promise.reject(new Error('broken')), 'the sum'), { message: 'broken' });
});
