import t from 'tap';
import { type KeyedItem, openKeyedExecutor } from './keyed-executor.ts';

/** A small generator of pseudo-random numbers, so that a failing run can be repeated from its seed. */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

interface Item extends KeyedItem {
  skip: boolean;
}

t.test('random arrivals with duplicates and late predecessors', async (t) => {
  for (let round = 0; round < 20; round += 1) {
    const seed = Math.floor(Math.random() * 2 ** 32);
    const next = random(seed);
    const applied = new Map<string, bigint>();
    const waiting: Item[] = [];
    let busy = 0;
    let most = 0;
    let wrong = '';
    const inWork = new Set<string>();
    const executor = openKeyedExecutor<Item>({
      width: 4,
      batchMax: 5,
      batchable: (item) => item.skip,
      stallMs: 10,
      stalledMax: 8,
      giveUp: (items) => waiting.push(...items),
      async work(items) {
        busy += 1;
        most = Math.max(most, busy);
        const ids = new Set(items.map((item) => item.aggregateId));
        for (const id of ids) if (inWork.has(id)) wrong = `two pieces of work on ${id}`;
        for (const id of ids) inWork.add(id);
        if (items.length > 1 && items.some((item) => !item.skip)) wrong = 'a batch with an item that is not batchable';
        await new Promise((resolve) => setTimeout(resolve, next() * 3));
        const results = items.map(({ aggregateId, sequence }) => {
          const done = applied.get(aggregateId) ?? 0n;
          if (sequence > done + 1n) return 'early' as const;
          if (sequence === done + 1n) applied.set(aggregateId, sequence);
          return 'done' as const;
        });
        for (const id of ids) inWork.delete(id);
        busy -= 1;
        return results;
      },
    });
    const items: Item[] = [];
    for (let queue = 0; queue < 8; queue += 1) {
      for (let sequence = 1n; sequence <= 10n; sequence += 1n) {
        items.push({ aggregateId: `${queue}`, sequence, skip: next() < 0.5 });
        if (next() < 0.2) items.push({ aggregateId: `${queue}`, sequence, skip: next() < 0.5 });
      }
    }
    items.sort(() => next() - 0.5);
    for (const item of items) {
      executor.add(item);
      if (next() < 0.3) await new Promise((resolve) => setTimeout(resolve, next() * 4));
    }
    // Items that were given up return later, as from a retry queue.
    const until = Date.now() + 5_000;
    while ([...applied.values()].filter((sequence) => sequence === 10n).length < 8 && Date.now() < until) {
      for (const item of waiting.splice(0)) executor.add(item);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    await executor.stop();
    t.same([...applied.values()], Array(8).fill(10n), `everything is applied, seed ${seed}`);
    t.equal(wrong, '', `seed ${seed}`);
    t.ok(most <= 4 && most > 1, `${most} at once, seed ${seed}`);
  }
});

/** One item at a time. */
const single = {
  width: 1,
  batchMax: 1,
  batchable: () => false,
  stallMs: 1_000,
  stalledMax: 10,
  giveUp: () => undefined,
};

t.test('what is removed is not worked on', async (t) => {
  const worked: bigint[] = [];
  const gate = Promise.withResolvers<void>();
  const executor = openKeyedExecutor<KeyedItem>({
    ...single,
    async work(items) {
      worked.push(items[0]!.sequence);
      await gate.promise;
      return ['done'];
    },
  });
  for (const sequence of [1n, 2n, 3n]) executor.add({ aggregateId: 'a', sequence });
  executor.remove((item) => item.sequence === 2n);
  gate.resolve();
  await new Promise((resolve) => setTimeout(resolve, 20));
  await executor.stop();
  t.same(worked, [1n, 3n]);
});

t.test('one batch at a time: the next grows while it waits, and others do not wait for it', async (t) => {
  const batches: number[] = [];
  const order: string[] = [];
  const gate = Promise.withResolvers<void>();
  const executor = openKeyedExecutor<Item>({
    width: 4,
    batchMax: 100,
    batchable: (item) => item.skip,
    stallMs: 1_000,
    stalledMax: 10,
    giveUp: () => undefined,
    async work(items) {
      if (items[0]?.skip) {
        batches.push(items.length);
        if (batches.length === 1) await gate.promise;
      }
      order.push(...items.map((item) => item.aggregateId));
      return items.map(() => 'done' as const);
    },
  });
  for (const id of ['a', 'b', 'c', 'd']) executor.add({ aggregateId: id, sequence: 1n, skip: true });
  executor.add({ aggregateId: 'handled', sequence: 1n, skip: false });
  await new Promise((resolve) => setImmediate(resolve));
  t.strictSame(order, ['handled'], 'what is handled did not wait for the batch');
  gate.resolve();
  await new Promise((resolve) => setImmediate(resolve));
  await executor.stop();
  t.strictSame(batches, [1, 3]);
  t.equal(order.length, 5);
});

t.test('a baseline waits for the items before it, and goes ahead of early ones', async (t) => {
  let [applied, baseline] = [0n, 0n];
  const order: bigint[] = [];
  const arrives = new Map<bigint, () => void>();
  const executor = openKeyedExecutor<KeyedItem>({
    ...single,
    async work([item]) {
      const { sequence } = item!;
      arrives.get(sequence)?.();
      arrives.delete(sequence);
      await new Promise((resolve) => setImmediate(resolve));
      if (sequence > 0n && sequence > applied + 1n) return ['early'];
      order.push(sequence);
      applied = sequence > 0n ? sequence : baseline;
      return ['done'];
    },
  });
  const add = (...sequences: bigint[]) => {
    for (const sequence of sequences) executor.add({ aggregateId: 'a', sequence });
  };
  const idle = () => new Promise((resolve) => setTimeout(resolve, 20));

  baseline = 3n;
  add(1n, 2n, 0n, 4n);
  await idle();
  t.strictSame(order.splice(0), [1n, 2n, 0n, 4n], 'after those that can be worked on, before those that follow it');

  baseline = 6n;
  add(7n, 8n);
  await idle();
  add(0n);
  await idle();
  t.strictSame(order.splice(0), [0n, 7n, 8n], 'ahead of what is early');

  baseline = 9n;
  // It arrives while the early one is tried.
  arrives.set(10n, () => add(0n));
  add(10n, 11n);
  await idle();
  t.strictSame(order.splice(0), [0n, 10n, 11n], 'ahead of what turns out to be early');
  await executor.stop();
});
