import t from 'tap';
import { createPool, createSlots, type Place } from './slots.ts';

const options = { limit: 8, newShare: 0.75, waitMaxMs: 1_000 };
const noop = () => {};

t.test('new sagas get a share', async (t) => {
  const pool = createPool(options, noop);
  const taken = Array.from({ length: 6 }, () => pool.take(false));
  t.ok(taken.every((place) => place !== null));
  t.equal(pool.take(false), null, 'the share is used up');
  t.equal(pool.room(true), 2);
  const urgent = [pool.take(true), pool.take(true)];
  t.equal(pool.take(true), null, 'and then the pool');
  taken[0]!.release();
  t.equal(pool.room(false), 1);
  t.equal(pool.room(true), 1);
  urgent[0]!.release();
  t.equal(pool.room(true), 2);
  urgent[0]!.release();
  t.equal(pool.room(true), 2, 'a place is released once');
});

t.test('a saga that becomes urgent no longer counts as new', async (t) => {
  const pool = createPool(options, noop);
  const places = Array.from({ length: 6 }, () => pool.take(false)!);
  t.equal(pool.room(false), 0);
  places[0]!.urgent = true;
  t.equal(pool.room(false), 1);
});

t.test('urgent sagas leave a quarter of a pool to new ones', async (t) => {
  const rows: [limit: number, urgent: number, left: number][] = [
    [24, 18, 6],
    [8, 6, 2],
    [2, 1, 1],
    [1, 1, 0],
  ];
  for (const [limit, urgentMax, left] of rows) {
    const pool = createPool({ ...options, limit }, noop);
    while (pool.take(true)) t.ok(pool.room(false) <= limit);
    t.equal(limit - urgentMax, pool.room(false), `limit ${limit}`);
    t.equal(pool.room(false), left, `limit ${limit}: room for new sagas`);
  }
});

t.test('a place that comes free goes to the urgent saga that waits, then to the new one', async (t) => {
  const pool = createPool({ ...options, limit: 1 }, noop);
  const place = pool.take(false)!;
  const served: string[] = [];
  const waits = (urgent: boolean, name: string) =>
    pool.wait(urgent, 5_000).then((got) => {
      served.push(name);
      return got!;
    });
  const last = waits(false, 'new');
  const first = waits(true, 'urgent');
  place.release();
  (await first).release();
  (await last).release();
  t.strictSame(served, ['urgent', 'new']);
  t.equal(pool.room(true), 1);
});

t.test('waiting ends, and is not worth it while places are taken for long', async (t) => {
  const pool = createPool({ ...options, limit: 1, waitMaxMs: 5 }, noop);
  t.equal(pool.worthWaiting, true);
  const place = pool.take(true)!;
  t.equal(await pool.wait(true, 20), null);
  place.release();
  t.equal(pool.worthWaiting, false);
  pool.take(true)!.release();
  t.equal(pool.worthWaiting, true, 'a short call makes it worth waiting again');
});

t.test('what was left waiting is told of room once, when a quarter is free', async (t) => {
  let told = 0;
  const pool = createPool(options, () => {
    told += 1;
  });
  const places: Place[] = Array.from({ length: 8 }, () => pool.force(true));
  places.pop()!.release();
  t.equal(told, 0, 'nothing was left waiting');
  pool.want(true);
  places.push(pool.force(true));
  for (let count = 0; count < 3; count += 1) places.pop()!.release();
  t.equal(told, 0, 'one of six is free for urgent sagas');
  places.pop()!.release();
  t.equal(told, 1);
  for (const place of places) place.release();
  t.equal(told, 1);
});

t.test('each dependency has a pool of its own, steps without one are not limited', async (t) => {
  const slots = createSlots({ sagasMax: 64, dependencyMax: { payments: 2 }, newShare: 0.75 }, noop);
  t.equal(slots.dependency(''), null);
  t.equal(slots.dependency('payments')?.room(true), 1);
  t.equal(slots.dependency('inventory')?.room(true), 18);
  slots.dependency('payments')?.take(true);
  t.equal(slots.dependency('payments')?.room(true), 0);
  t.equal(slots.dependency('inventory')?.room(true), 18);
  t.equal(slots.sagas.room(false), 48);
});
