// Compensations, and the steps of a group, in the engine: one that hangs or is refused does not delay the others.
import t from 'tap';
import { createDatabase } from '../../../test/support/infra.ts';
import { rpcError } from '../errors/errors.ts';
import { newId } from '../id/id.ts';
import { chooseStuck, type StuckWanted } from '../ops/saga-store.ts';
import { hasty, open, openSchema } from '../testing/saga.ts';
import type { State } from './core.ts';
import { defineSaga, type RemoteStep, type SagaInit } from './definition.ts';
import { requestCancel, resumeSaga } from './engine.ts';

const schema = await openSchema(t, await createDatabase(t, 'orders'));
const { db } = schema;
t.setTimeout(60_000);

type Data = { note: string };
type Behaviour = 'work' | 'refuse' | 'hang' | 'fail';
let named = 0;

const inTransaction = async <T>(work: Parameters<typeof db.transaction<T>>[1]): Promise<T> => {
  const call = open('test', 10_000);
  return db.transaction(call, work).finally(() => call.close());
};

async function behave(behaviour: Behaviour): Promise<void> {
  if (behaviour === 'hang') await new Promise(() => {});
  if (behaviour === 'refuse') throw rpcError('FAILED_PRECONDITION', 'REFUSED', 'as told');
  if (behaviour === 'fail') throw rpcError('UNAVAILABLE', 'AWAY', 'as told');
}

/** A step whose compensation, or whose run where it has none, behaves as the test says. */
function remote(name: string, told: Record<string, Behaviour>, more: Partial<RemoteStep<Data>>): RemoteStep<Data> {
  return {
    ...{ name, dependency: name, timeoutMs: hasty.timeoutMs },
    async run() {
      await behave(told[`run ${name}`] ?? 'work');
      return { kind: 'done' };
    },
    async record(tx, { sagaId }, outcome) {
      await tx.execute('insert into fact (saga_id, what) values (?, ?)', [sagaId, `${name} ${outcome.kind}`]);
    },
    ...more,
  };
}

const compensated = (name: string, told: Record<string, Behaviour>): RemoteStep<Data> =>
  remote(name, told, {
    async compensate() {
      await behave(told[`compensate ${name}`] ?? 'work');
      return undefined;
    },
  });

function saga(init: Pick<SagaInit<Data>, 'steps'> & Partial<SagaInit<Data>>) {
  named += 1;
  return defineSaga<Data>({
    ...{ name: `branches-${named}`, version: 1, timeLimitMs: 60_000 },
    retry: { initialBackoffMs: 100, maxBackoffMs: 200, maxElapsedMs: 60_000 },
    ...init,
  });
}

async function until(what: string, condition: () => Promise<boolean>, timeoutMs = 10_000): Promise<void> {
  const end = Date.now() + timeoutMs;
  while (!(await condition())) {
    if (Date.now() > end) throw new Error(`not within ${timeoutMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 15));
  }
}

const statusOf = async (id: string) =>
  (await schema.sql<{ status: string }>('select status from saga where saga_id = ?', [id]))[0]?.status;

/** reserve → authorize → wait, which is refused: the earlier steps are compensated. */
const refusedAtTheEnd = (told: Record<string, Behaviour>) =>
  saga({ steps: [compensated('reserve', told), compensated('authorize', told), remote('wait', told, {})] });

for (const behaviour of ['hang', 'fail', 'refuse'] as const) {
  t.test(`stock returns although a void does not work: ${behaviour}`, async (t) => {
    const told: Record<string, Behaviour> = { 'run wait': 'refuse', 'compensate authorize': behaviour };
    const definition = refusedAtTheEnd(told);
    const worker = schema.worker([definition], { leaseMs: hasty.leaseMs });
    const id = await schema.start(definition);
    await until('the stock is back', async () => (await schema.facts(id)).includes('reserve compensated'));
    t.notOk((await schema.facts(id)).includes('authorize compensated'));
    if (behaviour === 'refuse') {
      t.strictSame(await schema.rest([id]), ['STUCK'], 'only the void needs an operator');
      told['compensate authorize'] = 'work';
      t.equal(await inTransaction((tx) => resumeSaga(tx, definition, id)), 'accepted');
    }
    told['compensate authorize'] = 'work';
    t.strictSame(await schema.rest([id]), ['FAILED']);
    t.strictSame((await schema.facts(id)).sort(), [
      ...['authorize compensated', 'authorize done', 'reserve compensated', 'reserve done', 'wait rejected'],
    ]);
    t.strictSame(await schema.misplayed(definition), []);
    await worker.stop();
  });
}

t.test('a branch that is refused while another goes on is shown as stuck, and can be resumed', async (t) => {
  const told: Record<string, Behaviour> = {
    ...{ 'run wait': 'refuse', 'compensate authorize': 'refuse', 'compensate reserve': 'fail' },
  };
  const definition = refusedAtTheEnd(told);
  const worker = schema.worker([definition]);
  const id = await schema.start(definition);
  const attemptsOf = async (step: number) => {
    const [row] = await schema.sql<{ state: string }>('select state from saga where saga_id = ?', [id]);
    return (JSON.parse(row!.state) as State).branches.find((branch) => branch.step === step)?.attempt ?? 0;
  };
  await until('the void was refused', async () => (await statusOf(id)) === 'STUCK');
  const before = await attemptsOf(0);
  await until('stock is tried again', async () => (await attemptsOf(0)) > before + 2);
  t.equal(await statusOf(id), 'STUCK', 'it stays so while the other branch is tried');
  t.match(await worker.registry.metrics(), `armature_sagas_stuck{saga="${definition.name}"} 1`);
  const { name, version } = definition;
  const wanted = { known: [definition], name, reason: '', steps: null, olderThanSeconds: 0n };
  const at = (index: number) => ({ ...wanted, steps: [{ name, version, index }] });
  const rows: [string, StuckWanted, string[]][] = [
    ['by name', wanted, [id]],
    ['by the step that is stuck', at(1), [id]],
    ['not by one that is tried again', at(0), []],
    ['by its reason', { ...wanted, reason: 'REFUSED' }, [id]],
    ['not by that of the other branch', { ...wanted, reason: 'AWAY' }, []],
    ['not before its time', { ...wanted, olderThanSeconds: 3_600n }, []],
  ];
  for (const [how, what, found] of rows) {
    t.strictSame((await db.read(null, (sql) => chooseStuck(sql, what, 10))).ids, found, how);
  }
  await schema.sql('update saga set created_at = created_at - interval 2 hour where saga_id = ?', [id]);
  const old = await db.read(null, (sql) => chooseStuck(sql, { ...wanted, olderThanSeconds: 3_600n }, 10));
  t.strictSame(old.ids, [id], 'by its age although the other branch changes it time and again');
  await schema.sql('update saga set created_at = created_at + interval 2 hour where saga_id = ?', [id]);

  told['compensate authorize'] = 'work';
  t.equal(await inTransaction((tx) => resumeSaga(tx, definition, id)), 'accepted');
  t.not(await statusOf(id), 'STUCK', 'resumed');
  await until('the void is done', async () => (await schema.facts(id)).includes('authorize compensated'));
  told['compensate reserve'] = 'work';
  t.strictSame(await schema.rest([id]), ['FAILED']);
  t.strictSame(await schema.misplayed(definition), []);
  await worker.stop();
});

t.test('steps of a group end in any order, and the step after them waits for all', async (t) => {
  const told: Record<string, Behaviour> = { 'run refund': 'refuse' };
  const definition = saga({
    ...{ timeLimitMs: 'none', mustComplete: true },
    steps: [
      remote('refund', told, { group: 'undo' }),
      remote('return', told, { group: 'undo' }),
      {
        name: 'end',
        local: true,
        async record(tx, { sagaId }) {
          await tx.execute('insert into fact (saga_id, what) values (?, ?)', [sagaId, 'end']);
        },
      },
    ],
  });
  const worker = schema.worker([definition]);
  const subject = newId();
  const id = await schema.start(definition, subject);
  t.strictSame(await schema.rest([id]), ['STUCK']);
  t.strictSame(await schema.facts(id), ['return done']);
  t.equal(await inTransaction((tx) => requestCancel(tx, definition, subject)), 'too_late');
  told['run refund'] = 'work';
  t.equal(await inTransaction((tx) => resumeSaga(tx, definition, id)), 'accepted');
  t.strictSame(await schema.rest([id]), ['COMPLETED']);
  t.strictSame(await schema.facts(id), ['return done', 'refund done', 'end']);
  t.strictSame(await schema.misplayed(definition), []);
  await worker.stop();
});
