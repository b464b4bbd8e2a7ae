// The row of a saga when its lease is released.
import t from 'tap';
import { createDatabase } from '../../../test/support/infra.ts';
import { newId } from '../id/id.ts';
import { open, openSchema } from '../testing/saga.ts';
import { defineSaga, type LeasedSaga } from './definition.ts';
import { requestCancel } from './engine.ts';
import { fromRow, leaseLocked, lockPartition, releaseLease } from './lease-store.ts';
import { partitionOf } from './partitions.ts';
import { readState } from './state-format.ts';

const schema = await openSchema(t, await createDatabase(t, 'orders'));
const { db } = schema;
t.setTimeout(60_000);

const leaseMs = 15_000;
const definition = defineSaga<{ note: string }>({
  ...{ name: 'paying', version: 1, timeLimitMs: 600_000 },
  steps: [{ name: 'pay', dependency: 'payments', run: async () => ({ kind: 'done' }), async compensate() {} }],
});

async function lease(sagaId: string): Promise<LeasedSaga> {
  const call = open('lease', 10_000);
  const since = performance.now();
  const partition = { name: definition.name, version: 1, dependency: 'payments', urgent: false };
  const row = await db.transaction(call, async (tx) => {
    const rows = await lockPartition(tx, partition, 100);
    await leaseLocked(tx, [sagaId], { holder: newId(), leaseMs });
    return rows.find(({ saga_id }) => saga_id === sagaId)!;
  });
  call.close();
  return { ...fromRow(row, since, leaseMs), state: readState(row.state, definition.core) };
}

const rowOf = async (sagaId: string) =>
  (
    await schema.sql(
      `select status, dependency, urgent, lease_holder, due_at <= utc_timestamp(6) as due from saga where saga_id = ?`,
      [sagaId],
    )
  )[0];

t.test('a lease given back puts the saga into the partition of its state', async (t) => {
  const sagaId = await schema.start(definition);
  const saga = await lease(sagaId);
  await db.write(null, (sql) =>
    releaseLease(sql, saga, 30_000, { ...partitionOf(definition, saga.state), dependency: '' }),
  );
  t.match(await rowOf(sagaId), { status: 'WAITING', dependency: '', urgent: 0, lease_holder: null, due: 0 });
});

t.test('a lease given back after a cancel request leaves the saga urgent and due at once', async (t) => {
  const subject = newId();
  const sagaId = await schema.start(definition, subject);
  const saga = await lease(sagaId);
  const call = open('cancel', 10_000);
  t.equal(await db.transaction(call, (tx) => requestCancel(tx, definition, subject)), 'accepted');
  call.close();
  await db.write(null, (sql) => releaseLease(sql, saga, 30_000, partitionOf(definition, saga.state)));
  t.match(await rowOf(sagaId), { status: 'RUNNING', dependency: 'payments', urgent: 1, lease_holder: null, due: 1 });
});
