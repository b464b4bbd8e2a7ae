// A rolling deployment: processes that know version 1 run beside processes that know versions 1 and 2.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { createDatabase } from '../../../test/support/infra.ts';
import { checkout, openSchema } from '../testing/saga.ts';

const schema = await openSchema(t, await createDatabase(t, 'orders'));
t.setTimeout(120_000);
const name = 'deployed';
const versions = [1, 2].map((version) => checkout(schema.db, { name, version, timeLimitMs: 600_000 }));

async function deploy(known: string, label: string): Promise<ChildProcess> {
  const program = fileURLToPath(import.meta.resolve('./version-child.ts'));
  const child = spawn(process.execPath, [program, schema.url, name, known, label], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.teardown(() => child.kill('SIGKILL'));
  await once(child.stdout!, 'data');
  return child;
}

const startSome = async (count: number): Promise<string[][]> =>
  Promise.all(
    versions.map(async (definition) => {
      const ids: string[] = [];
      while (ids.length < count) {
        ids.push(...(await Promise.all(Array.from({ length: 5 }, () => schema.start(definition)))));
      }
      return ids;
    }),
  );

const ranBy = async (version: number, label: string): Promise<number> => {
  const [row] = await schema.sql<{ n: string }>(
    `select count(*) as n from fact join saga using (saga_id) where definition_version = ? and what like ?`,
    [version, `% by ${label}`],
  );
  return Number(row?.n);
};

t.test('sagas of both versions end, and a process runs only what it knows', async (t) => {
  const old = await deploy('1', 'old');
  const alone = (await startSome(5)) as [string[], string[]];
  t.ok((await schema.rest(alone[0], 60_000)).every((status) => status === 'COMPLETED'));
  t.equal(await ranBy(2, 'old'), 0, 'version 2 waits for a process that knows it');
  const waiting = await schema.sql<{ n: string }>(
    "select count(*) as n from saga where definition_version = 2 and status = 'RUNNING' and version = 0",
  );
  t.equal(Number(waiting[0]?.n), 5);

  await deploy('1,2', 'new');
  const beside = await startSome(10);
  // The old process is killed; the sagas that it leased go to the new one, as do those that start now.
  old.kill('SIGKILL');
  const after = await startSome(5);
  const all = [...alone, ...beside, ...after].flat();
  t.strictSame([...new Set(await schema.rest(all, 90_000))], ['COMPLETED']);
  t.equal(await ranBy(2, 'old'), 0, 'the old process never touched version 2');
  t.ok((await ranBy(1, 'old')) > 0, 'it ran version 1');
  t.ok((await ranBy(1, 'new')) > 0, 'and so did the new one');
  t.ok((await ranBy(2, 'new')) >= 20 * 3);
  const crossed = await schema.sql(
    `select what from fact join saga using (saga_id)
     where what like 'version %' and what not like concat('version ', definition_version, ' %')`,
  );
  t.strictSame(crossed, [], 'each saga is run by its own version');
  for (const definition of versions) t.strictSame(await schema.misplayed(definition), []);
});

t.test('workers of both deployments claim at once: one of them runs a saga, and knows its version', async (t) => {
  const raced = `${name}-race`;
  const ranAs: [sagaId: string, version: number, by: string][] = [];
  const known = (label: string) =>
    [1, 2].map((version) =>
      checkout(schema.db, {
        ...{ name: raced, version },
        script(_, { sagaId }) {
          ranAs.push([sagaId, version, label]);
          return 'work';
        },
      }),
    );
  const [current, previous] = [known('new'), known('old').slice(0, 1)];
  const started = await Promise.all(
    current.map((definition) => Promise.all(Array.from({ length: 20 }, () => schema.start(definition)))),
  );
  const workers = [previous, current].map((definitions) => schema.worker(definitions, { sagasMax: 4 }));
  t.strictSame([...new Set(await schema.rest(started.flat()))], ['COMPLETED']);
  const runs = Map.groupBy(ranAs, ([sagaId]) => sagaId);
  for (const [index, ids] of started.entries()) {
    const of = ids.map((id) => new Set(runs.get(id)!.map(([, version, by]) => `version ${version} by ${by}`)));
    t.ok(
      of.every((ways) => ways.size === 1),
      `each saga of version ${index + 1} is run by one worker`,
    );
    const ways = new Set(of.flatMap((one) => [...one]));
    for (const by of ['new', ...(index === 0 ? ['old'] : [])]) ways.delete(`version ${index + 1} by ${by}`);
    t.strictSame([...ways], [], 'which knows it');
  }
  for (const worker of workers) await worker.stop();
});
