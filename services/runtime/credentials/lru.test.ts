import t from 'tap';
import { lruMap } from './lru.ts';

t.test('keeps what is used and stays within its limit', async (t) => {
  const map = lruMap<number, number>(10);
  for (let key = 0; key < 1000; key++) {
    map.set(key, key * 2);
    if (map.get(0) !== 0) t.fail(`lost the key in use after ${key}`);
    if (map.size > 10) t.fail(`holds ${map.size} entries after ${key}`);
  }
  t.equal(map.get(0), 0, 'the key that was always asked for is still there');
  t.equal(map.get(1), undefined, 'the least recently used key is gone');
  t.equal(map.get(999), 1998, 'the newest is there');
});

t.test('the newest half is always there', async (t) => {
  for (const limit of [2, 3, 7, 64]) {
    const map = lruMap<number, number>(limit);
    for (let key = 0; key < 500; key++) {
      map.set(key, key);
      const newest = Array.from({ length: Math.min(key + 1, Math.floor(limit / 2)) }, (_, age) => key - age);
      // Reading would make the entries recent, so presence is checked in the last step only.
      if (key === 499) for (const each of newest) t.equal(map.get(each), each, `limit ${limit}, key ${each}`);
    }
  }
});

t.test('deletes and clears', async (t) => {
  const map = lruMap<string, number>(4);
  map.set('a', 1);
  map.set('b', 2);
  map.set('a', 3);
  map.delete('b');
  t.same([map.get('a'), map.get('b'), map.size], [3, undefined, 1]);
  map.clear();
  t.same([map.get('a'), map.size], [undefined, 0]);
  t.throws(() => lruMap(1), /at least 2/);
});
