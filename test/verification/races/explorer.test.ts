// Tests the search: it finds all schedules, skips only equivalent ones, and finds a known race.
import t from 'tap';
import { connectMysql } from '../../../scripts/devmesh/servers/mysql.ts';
import { createDatabase } from '../../support/infra.ts';
import { type Choose, explore, type Step, written } from './explorer.ts';
import { lockWaits } from './lock-waits.ts';

/** Explores actors given as lists of labels; no step blocks. */
async function schedulesOf(actors: Record<string, string[]>, independent: (a: Step, b: Step) => boolean) {
  const seen: string[] = [];
  const exploration = await explore({
    runsMax: 10_000,
    independent,
    async run(choose: Choose) {
      const left = Object.entries(actors).map(([actor, labels]) => ({ actor, labels: [...labels] }));
      for (;;) {
        const ready = left.filter(({ labels }) => labels.length > 0);
        if (ready.length === 0) break;
        const step = choose(ready.map(({ actor, labels }) => ({ actor, label: labels[0]! })));
        left.find(({ actor }) => actor === step.actor)?.labels.shift();
      }
      return (schedule) => seen.push(written(schedule));
    },
  });
  return { ...exploration, seen };
}

t.test('the search', async (t) => {
  const rows: { name: string; actors: Record<string, string[]>; wanted: number }[] = [
    { name: 'two of three steps', actors: { a: ['1', '2', '3'], b: ['1', '2', '3'] }, wanted: 20 },
    { name: 'three of two steps', actors: { a: ['1', '2'], b: ['1', '2'], c: ['1', '2'] }, wanted: 90 },
    { name: 'one alone', actors: { a: ['1', '2'] }, wanted: 1 },
  ];
  for (const row of rows) {
    const { explored, redundant, exhausted, seen } = await schedulesOf(row.actors, () => false);
    t.strictSame([explored, redundant, exhausted], [row.wanted, 0, true], row.name);
    t.equal(new Set(seen).size, row.wanted, `${row.name}: all different`);
  }
  // Steps "x" are independent of all others, so only the order of "1" and "2" among the actors counts.
  const apart = (one: Step, other: Step) => one.label === 'x' || other.label === 'x';
  const { explored, exhausted, seen } = await schedulesOf({ a: ['1', 'x', '2'], b: ['1', '2'] }, apart);
  const orders = new Set(
    seen.map((schedule) =>
      schedule
        .split(' ')
        .filter((step) => !step.endsWith('x'))
        .join(' '),
    ),
  );
  t.strictSame([explored, orders.size, exhausted], [6, 6, true], 'one run for each order of dependent steps');
  const cut = await explore({
    runsMax: 1,
    independent: () => false,
    run: async (choose) => {
      choose([
        { actor: 'a', label: '1' },
        { actor: 'b', label: '1' },
      ]);
      return () => {};
    },
  });
  t.notOk(cut.exhausted, 'a search that hits its limit reports it');
  let runs = 0;
  const changing = explore({
    runsMax: 10,
    independent: () => false,
    async run(choose) {
      runs += 1;
      choose([
        { actor: 'a', label: String(runs) },
        { actor: 'b', label: '1' },
      ]);
      return () => {};
    },
  });
  await t.rejects(
    changing,
    /after nothing there was a:1 b:1, and now a:2 b:1/,
    'a run that is not deterministic is rejected',
  );
});

t.test('finds the interleavings that oversell when stock is checked and then changed', async (t) => {
  const database = await createDatabase(t, 'races');
  const connections = await Promise.all([1, 2].map(() => connectMysql(database.adminUrl)));
  const [admin] = connections;
  t.teardown(() => Promise.all(connections.map((one) => one.end())));
  await admin!.query('create table shelf (id int primary key, units int not null)');
  const sells = async (naive: boolean) => {
    const oversold: string[] = [];
    const { explored, exhausted } = await explore({
      runsMax: 100,
      independent: () => false,
      async run(choose) {
        await admin!.query('replace into shelf values (1, 1)');
        let sold = 0;
        const left = connections.map((connection, index) => {
          let units = 0;
          const take = async (sql: string) => {
            const [result] = await connection.query(sql);
            sold += (result as { affectedRows: number }).affectedRows;
          };
          const steps: [string, () => Promise<void>][] = naive
            ? [
                [
                  'look',
                  async () => {
                    const [rows] = await connection.query('select units from shelf where id = 1');
                    units = (rows as { units: number }[])[0]!.units;
                  },
                ],
                [
                  'take',
                  async () => {
                    if (units > 0) await take('update shelf set units = units - 1 where id = 1');
                  },
                ],
              ]
            : [['take', () => take('update shelf set units = units - 1 where id = 1 and units > 0')]];
          return { actor: 'ab'[index]!, steps };
        });
        for (;;) {
          const ready = left.filter(({ steps }) => steps.length > 0);
          if (ready.length === 0) break;
          const step = choose(ready.map(({ actor, steps }) => ({ actor, label: steps[0]![0] })));
          await left
            .find(({ actor }) => actor === step.actor)
            ?.steps.shift()?.[1]();
        }
        return (schedule) => {
          if (sold > 1) oversold.push(written(schedule));
        };
      },
    });
    return { explored, exhausted, oversold };
  };
  const naive = await sells(true);
  t.comment(`check then act: ${naive.oversold.length} of ${naive.explored} interleavings sell one unit twice`);
  t.strictSame([naive.explored, naive.exhausted], [6, true]);
  t.strictSame(naive.oversold.sort(), [
    'a:look b:look a:take b:take',
    'a:look b:look b:take a:take',
    'b:look a:look a:take b:take',
    'b:look a:look b:take a:take',
  ]);
  t.strictSame(await sells(false), { explored: 2, exhausted: true, oversold: [] }, 'one conditional statement is not');
});

t.test('finds the connections that wait for a lock', async (t) => {
  const database = await createDatabase(t, 'waits');
  const [holder, waiter, monitor] = await Promise.all([1, 2, 3].map(() => connectMysql(database.adminUrl)));
  t.teardown(() => Promise.all([holder, waiter, monitor].map((one) => one!.end())));
  await holder!.query('create table shelf (id int primary key, units int not null)');
  await holder!.query('insert into shelf values (1, 1)');
  await holder!.beginTransaction();
  await holder!.query('select units from shelf where id = 1 for update');
  t.notOk((await lockWaits(monitor!)).has(waiter!.threadId), 'no connection waits yet');
  const waiting = waiter!.query('update shelf set units = 0 where id = 1');
  const end = Date.now() + 4_000;
  while (!(await lockWaits(monitor!)).has(waiter!.threadId))
    if (Date.now() > end) throw new Error('no connection waits for the lock');
  t.notOk((await lockWaits(monitor!)).has(holder!.threadId), 'the lock holder does not wait');
  await holder!.commit();
  await waiting;
  t.notOk((await lockWaits(monitor!)).has(waiter!.threadId), 'no connection waits any more');
});
