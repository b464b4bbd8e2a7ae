import t from 'tap';
import { allocate, type Level, mergeLines, type State, transition } from './reservation.ts';

t.test('merges lines of one SKU and sorts them by SKU', async (t) => {
  const merged = mergeLines([
    { sku: 'B', quantity: 1n },
    { sku: 'A', quantity: 2n },
    { sku: 'B', quantity: 3n },
  ]);
  t.strictSame(merged, [
    { sku: 'A', quantity: 2n },
    { sku: 'B', quantity: 4n },
  ]);
});

const level = (sku: string, locationId: string, onHand: bigint, reserved = 0n): Level => ({
  sku,
  locationId,
  onHand,
  reserved,
  version: 1n,
});

t.test('allocate', async (t) => {
  for (const row of [
    {
      name: 'takes from the first location with units',
      ask: 2n,
      levels: [level('A', 'east', 5n)],
      takes: [['east', 2n]],
    },
    {
      name: 'splits a line over locations when one has too few units',
      ask: 6n,
      levels: [level('A', 'east', 5n), level('A', 'west', 5n)],
      takes: [
        ['east', 5n],
        ['west', 1n],
      ],
    },
    {
      name: 'skips units that are reserved for other orders',
      ask: 2n,
      levels: [level('A', 'east', 5n, 5n), level('A', 'west', 2n)],
      takes: [['west', 2n]],
    },
  ] as const) {
    t.test(row.name, async (t) => {
      const { allocations, short, unknown } = allocate([{ sku: 'A', quantity: row.ask }], row.levels);
      t.strictSame(
        allocations.map(({ locationId, quantity }) => [locationId, quantity]),
        row.takes,
      );
      t.strictSame([short, unknown], [[], []]);
    });
  }
  t.test('names short and unknown SKUs', async (t) => {
    const lines = [
      { sku: 'A', quantity: 3n },
      { sku: 'B', quantity: 1n },
    ];
    const { short, unknown } = allocate(lines, [level('A', 'east', 2n)]);
    t.strictSame(short, [{ sku: 'A', quantity: 3n, available: 2n }]);
    t.strictSame(unknown, ['B']);
  });
});

t.test('transitions of a reservation', async (t) => {
  const table: Record<'commit' | 'release' | 'expire', Record<State, string>> = {
    commit: { HELD: 'COMMITTED', COMMITTED: 'same', RELEASED: 'released', EXPIRED: 'expired', RETURNED: 'released' },
    release: { HELD: 'RELEASED', COMMITTED: 'RETURNED', RELEASED: 'same', EXPIRED: 'same', RETURNED: 'same' },
    expire: { HELD: 'EXPIRED', COMMITTED: 'same', RELEASED: 'same', EXPIRED: 'same', RETURNED: 'same' },
  };
  for (const act of ['commit', 'release', 'expire'] as const) {
    for (const [state, expected] of Object.entries(table[act])) {
      const step = transition(act, state as State);
      const found = step.kind === 'change' ? step.to : step.kind === 'refuse' ? step.because : 'same';
      t.equal(found, expected, `${act} when ${state}`);
    }
  }
});
