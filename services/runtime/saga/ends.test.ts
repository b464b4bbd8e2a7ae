// All ends of a saga: a saga that must complete does, `finished` runs at every end, and the row has no secrets
// afterwards.
import t from 'tap';
import { createDatabase } from '../../../test/support/infra.ts';
import { RpcError } from '../errors/errors.ts';
import { newId } from '../id/id.ts';
import { open, openSchema } from '../testing/saga.ts';
import { defineSaga, type SagaInit } from './definition.ts';
import { forceCompensate, requestCancel } from './engine.ts';

const schema = await openSchema(t, await createDatabase(t, 'orders'));
const { db } = schema;
t.setTimeout(60_000);

type Data = { note: string; card: string };
let named = 0;

/** A saga whose first step is local, so that it may end before a worker has seen it. */
function shortSaga(more: Partial<SagaInit<Data>>) {
  named += 1;
  return defineSaga<Data>({
    ...{ name: `short-${named}`, version: 1, timeLimitMs: 60_000, secrets: ['card'] },
    steps: [
      { name: 'decide', local: true, pivot: true, async record() {} },
      { name: 'refund', run: async () => ({ kind: 'done' }) },
    ],
    async finished(tx, { sagaId, data }, result) {
      const what = `end ${result.kind === 'failed' ? result.failure.cause : 'completed'} ${data.card}`;
      await tx.execute('insert into fact (saga_id, what) values (?, ?)', [sagaId, what]);
    },
    ...more,
  });
}

const inTransaction = async <T>(work: Parameters<typeof db.transaction<T>>[1]): Promise<T> => {
  const call = open('test', 10_000);
  return db.transaction(call, work).finally(() => call.close());
};

const rowOf = async (id: string) => {
  const [row] = await schema.sql<{
    status: string;
    due_at: string | null;
    lease_holder: string | null;
    data: string;
    secrets_removed: number;
  }>('select status, due_at, lease_holder, data, secrets_removed from saga where saga_id = ?', [id]);
  return row!;
};

/** As after a downtime longer than any limit. */
const age = (id: string) =>
  schema.sql("update saga set deadline_at = '2020-01-01', created_at = '2020-01-01' where saga_id = ?", [id]);

t.test('a saga that must complete does so however late it is picked up', async (t) => {
  const definition = shortSaga({ timeLimitMs: 'none', mustComplete: true });
  const id = await schema.start(definition, newId(), { note: '', card: 'tok_1' });
  await age(id);
  const worker = schema.worker([definition]);
  t.strictSame(await schema.rest([id]), ['COMPLETED']);
  t.strictSame(await schema.facts(id), ['end completed tok_1']);
  await worker.stop();
});

t.test('a saga with a time limit that is picked up too late ends as expired', async (t) => {
  const definition = shortSaga({});
  const id = await schema.start(definition, newId(), { note: '', card: 'tok_1' });
  await age(id);
  const worker = schema.worker([definition]);
  t.strictSame(await schema.rest([id]), ['FAILED']);
  t.strictSame(await schema.facts(id), ['end expired tok_1']);
  await worker.stop();
});

t.test('an operator cannot turn back what must complete, picked up or not', async (t) => {
  const definition = shortSaga({ timeLimitMs: 'none', mustComplete: true });
  const subject = newId();
  const id = await schema.start(definition, subject, { note: '', card: 'tok_1' });
  t.equal(await inTransaction((tx) => forceCompensate(tx, definition, id)), 'not_possible');
  t.equal(await inTransaction((tx) => requestCancel(tx, definition, subject)), 'too_late');
  t.match(await rowOf(id), { status: 'RUNNING', due_at: String });
  const worker = schema.worker([definition]);
  t.strictSame(await schema.rest([id]), ['COMPLETED']);
  await worker.stop();
});

t.test('an operator or a cancel request that ends a saga at once tells `finished`', async (t) => {
  const rows: [string, string, (definition: ReturnType<typeof shortSaga>, id: string, subject: string) => unknown][] = [
    ['operator', 'end operator tok_1', (definition, id) => inTransaction((tx) => forceCompensate(tx, definition, id))],
    [
      'cancel request',
      'end cancelled tok_1',
      (definition, _, subject) => inTransaction((tx) => requestCancel(tx, [definition], subject)),
    ],
  ];
  for (const [name, fact, end] of rows) {
    const definition = shortSaga({});
    const subject = newId();
    const id = await schema.start(definition, subject, { note: 'n', card: 'tok_1' });
    t.equal(await end(definition, id, subject), 'accepted', name);
    t.strictSame(await schema.facts(id), [fact], name);
    t.match(await rowOf(id), { status: 'FAILED', due_at: null, lease_holder: null, secrets_removed: 1 }, name);
    t.equal((await rowOf(id)).data, '{"note":"n"}', `${name}: the secret is gone`);
  }
});

t.test('a saga that a cancel request ends while a worker holds it is not picked up again', async (t) => {
  const reached = Promise.withResolvers<void>();
  const goOn = Promise.withResolvers<void>();
  const definition = shortSaga({
    steps: [
      {
        name: 'ask',
        async run() {
          reached.resolve();
          await goOn.promise;
          return { kind: 'done' };
        },
      },
    ],
  });
  const worker = schema.worker([definition], { leaseMs: 7_000 });
  const subject = newId();
  const id = await schema.start(definition, subject, { note: '', card: 'tok_1' });
  await reached.promise;
  t.equal(await inTransaction((tx) => requestCancel(tx, definition, subject)), 'accepted');
  goOn.resolve();
  t.strictSame(await schema.rest([id]), ['FAILED']);
  t.match(await rowOf(id), { status: 'FAILED', due_at: null, lease_holder: null });
  t.strictSame(await schema.facts(id), ['end cancelled tok_1']);
  await worker.stop();
});

t.test('secrets leave the row in the transaction that ends the saga, and not before', async (t) => {
  const seen: string[] = [];
  const definition = shortSaga({
    steps: [
      {
        name: 'refund',
        async run({ data, sagaId }) {
          seen.push(data.card, (await rowOf(sagaId)).data);
          return { kind: 'done' };
        },
      },
    ],
  });
  const worker = schema.worker([definition]);
  const id = await schema.start(definition, newId(), { note: 'n', card: 'tok_1' });
  t.strictSame(await schema.rest([id]), ['COMPLETED']);
  t.strictSame(seen, ['tok_1', '{"note":"n","card":"tok_1"}']);
  t.match(await rowOf(id), { data: '{"note":"n"}', secrets_removed: 1 });
  t.strictSame(await schema.facts(id), ['end completed tok_1']);
  await worker.stop();
});

t.test('versions', async (t) => {
  const versions = [1, 2].map((version) => shortSaga({ name: 'versions', version }));
  const [one, two] = versions as [(typeof versions)[0], (typeof versions)[0]];
  const subjects = [newId(), newId()] as const;
  const first = await schema.start(one, subjects[0], { note: '', card: 'tok_1' });
  const second = await schema.start(two, subjects[1], { note: '', card: 'tok_2' });

  t.test('a cancel request for a version that this process does not know throws', async (t) => {
    const error = await inTransaction((tx) => requestCancel(tx, [one], subjects[1])).catch((thrown) => thrown);
    t.ok(error instanceof RpcError);
    t.match(error, { code: 'UNAVAILABLE', message: /version 2, which this process does not know/ });
    t.equal(await inTransaction((tx) => forceCompensate(tx, one, second)), 'unknown_saga');
  });

  t.test('a worker runs the versions that it knows, and shows the others', async (t) => {
    const worker = schema.worker([one]);
    t.strictSame(await schema.rest([first]), ['COMPLETED']);
    t.match(await rowOf(second), { status: 'RUNNING', lease_holder: null });
    const metrics = await worker.registry.metrics();
    t.match(metrics, 'armature_sagas_unknown{saga="versions",version="2"} 1');
    await worker.stop();
  });

  t.test('a worker leaves a saga whose name it does not know, and shows it', async (t) => {
    const unknown = shortSaga({ name: 'removed' });
    const id = await schema.start(unknown, newId(), { note: '', card: 'tok_3' });
    const known = await schema.start(one, newId(), { note: '', card: 'tok_4' });
    const worker = schema.worker([one]);
    t.strictSame(await schema.rest([known]), ['COMPLETED']);
    t.match(await rowOf(id), { status: 'RUNNING', lease_holder: null });
    t.strictSame(await schema.facts(id), []);
    const metrics = await worker.registry.metrics();
    t.match(metrics, 'armature_sagas_unknown{saga="removed",version="1"} 1');
    t.match(metrics, 'armature_sagas{saga="removed",status="RUNNING"} 1');
    t.match(metrics, /armature_saga_oldest_unfinished_seconds\{saga="removed"\} \d/);
    await worker.stop();
  });

  t.test('a cancel request finds the version that the saga was started with', async (t) => {
    t.equal(await inTransaction((tx) => requestCancel(tx, versions, subjects[0])), 'too_late');
    t.equal(await inTransaction((tx) => requestCancel(tx, versions, subjects[1])), 'accepted');
    t.strictSame(await schema.facts(second), ['end cancelled tok_2']);
  });
});
