// A dependency that hangs delays only the sagas that call it, and new sagas do not delay urgent ones.
import t from 'tap';
import { createDatabase } from '../../../test/support/infra.ts';
import { newId } from '../id/id.ts';
import { open, openSchema } from '../testing/saga.ts';
import { defineSaga, type StepContext } from './definition.ts';
import { requestCancel } from './engine.ts';

const schema = await openSchema(t, await createDatabase(t, 'orders'));
const { db } = schema;
t.setTimeout(90_000);

type Data = { note: string };

/** Calls `payments`, which hangs until the test releases it, or `inventory`, which works. */
function shop(name: string) {
  const gate = Promise.withResolvers<void>();
  let open = false;
  const calls = { inProgress: 0, most: 0, inventory: 0 };
  const payments = async ({ call: { signal } }: StepContext<Data>) => {
    calls.inProgress += 1;
    calls.most = Math.max(calls.most, calls.inProgress);
    const aborted = new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
    try {
      if (!open) await Promise.race([gate.promise, aborted]);
      return { kind: 'done' as const };
    } finally {
      calls.inProgress -= 1;
    }
  };
  const inventory = async () => {
    calls.inventory += 1;
    return { kind: 'done' as const };
  };
  const step = { timeoutMs: 8_000 };
  const paying = defineSaga<Data>({
    ...{ name: `${name}-paying`, version: 1, timeLimitMs: 600_000 },
    steps: [{ ...step, name: 'pay', dependency: 'payments', run: payments, async compensate() {} }],
  });
  const reserving = defineSaga<Data>({
    ...{ name: `${name}-reserving`, version: 1, timeLimitMs: 600_000 },
    steps: [{ ...step, name: 'reserve', dependency: 'inventory', run: inventory }],
  });
  const cancelling = defineSaga<Data>({
    ...{ name: `${name}-cancelling`, version: 1, timeLimitMs: 'none', mustComplete: true },
    steps: [
      { ...step, name: 'return', dependency: 'inventory', run: inventory },
      { ...step, name: 'refund', dependency: 'payments', run: async () => ({ kind: 'done' }) },
    ],
  });
  const letGo = () => {
    open = true;
    gate.resolve();
  };
  return { paying, reserving, cancelling, calls, letGo };
}

const startMany = async (definition: ReturnType<typeof shop>['paying'], count: number): Promise<string[]> => {
  const ids: string[] = [];
  while (ids.length < count) {
    ids.push(...(await Promise.all(Array.from({ length: 25 }, () => schema.start(definition)))));
  }
  return ids;
};

const leased = async (name: string) =>
  Number(
    (
      await schema.sql<{ n: string }>('select count(*) as n from saga where name = ? and lease_holder is not null', [
        name,
      ])
    )[0]?.n,
  );

t.test('one dependency hangs with 500 sagas before it', async (t) => {
  const { paying, reserving, cancelling, calls, letGo } = shop('hang');
  const worker = schema.worker([paying, reserving, cancelling], { pollMs: 500 });
  const waiting = await startMany(paying, 500);

  t.test('its calls stay within its limit, and those of new sagas within their share', async (t) => {
    const end = Date.now() + 5_000;
    while (calls.inProgress < 18 && Date.now() < end) await new Promise((resolve) => setTimeout(resolve, 20));
    t.equal(calls.most, 18, '75 % of 24');
  });

  t.test('sagas that call another dependency go on at once', async (t) => {
    const since = Date.now();
    const ids = await startMany(reserving, 25);
    t.ok((await schema.rest(ids)).every((status) => status === 'COMPLETED'));
    t.comment(`25 sagas ended after ${Date.now() - since} ms`);
    t.ok(Date.now() - since < 5_000);
  });

  t.test('a new cancellation is picked up within a second', async (t) => {
    const since = Date.now();
    const id = await schema.start(cancelling);
    t.strictSame(await schema.rest([id]), ['COMPLETED']);
    t.comment(`it ended after ${Date.now() - since} ms`);
    t.ok(Date.now() - since < 2_000);
  });

  t.test('a saga that is cancelled while it waits is compensated before the others are called', async (t) => {
    const subject = newId();
    const id = await schema.start(paying, subject);
    const call = open('cancel', 10_000);
    const since = Date.now();
    t.equal(await db.transaction(call, (tx) => requestCancel(tx, paying, subject)), 'accepted');
    call.close();
    const end = Date.now() + 2_000;
    const tried = () => schema.sql('select 1 from saga where saga_id = ? and lease_token > 0', [id]);
    while ((await tried()).length === 0 && Date.now() < end) await new Promise((resolve) => setTimeout(resolve, 20));
    t.equal((await tried()).length, 1, `taken up after ${Date.now() - since} ms`);
    waiting.push(id);
  });

  t.test('what waits holds no lease', async (t) => {
    const end = Date.now() + 5_000;
    while ((await leased(paying.name)) > 24 && Date.now() < end)
      await new Promise((resolve) => setTimeout(resolve, 50));
    t.ok((await leased(paying.name)) <= 24, `${await leased(paying.name)} leases`);
  });

  t.test('when it works again all of them end', async (t) => {
    letGo();
    const since = Date.now();
    const statuses = await schema.rest(waiting, 60_000);
    t.comment(`501 sagas ended after ${Date.now() - since} ms`);
    t.equal(statuses.filter((status) => status === 'COMPLETED').length, 500);
    t.equal(statuses.filter((status) => status === 'FAILED').length, 1, 'the one that was cancelled');
  });
  await t.test('no lease is left', async (t) => {
    await worker.stop();
    t.equal(await leased(paying.name), 0);
  });
});

/** Two steps: the second is only there so that the first is compensated. */
function booking(name: string, timeLimitMs: number) {
  const calls = { urgent: 0, fresh: 0 };
  const hang = ({ call: { signal } }: StepContext<Data>) =>
    new Promise<never>((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
  const step = { timeoutMs: 8_000, dependency: 'payments' };
  const urgent = defineSaga<Data>({
    ...{ name: `${name}-refunding`, version: 1, timeLimitMs: 'none', mustComplete: true },
    steps: [
      {
        ...{ ...step, name: 'refund' },
        run(ctx) {
          calls.urgent += 1;
          return hang(ctx);
        },
      },
    ],
  });
  const fresh = defineSaga<Data>({
    ...{ name: `${name}-booking`, version: 1, timeLimitMs },
    steps: [
      {
        ...{ ...step, name: 'pay' },
        async run(ctx) {
          calls.fresh += 1;
          return timeLimitMs < 60_000 ? hang(ctx) : { kind: 'done' };
        },
      },
    ],
  });
  return { urgent, fresh, calls };
}

t.test('urgent sagas that hang at a dependency leave it slots for new ones', async (t) => {
  const { urgent, fresh, calls } = booking('starved', 600_000);
  const worker = schema.worker([urgent, fresh], { stopGraceMs: 100 });
  await startMany(urgent, 50);
  const end = Date.now() + 5_000;
  while (calls.urgent < 18 && Date.now() < end) await new Promise((resolve) => setTimeout(resolve, 20));
  const ids = await startMany(fresh, 25);
  t.ok((await schema.rest(ids, 6_000)).every((status) => status === 'COMPLETED'));
  await worker.stop();
});

t.test('new sagas turn back when their time is up although their dependency has no slot', async (t) => {
  const { fresh, calls } = booking('late', 1_000);
  const ids = await startMany(fresh, 50);
  const worker = schema.worker([fresh], { stopGraceMs: 100, dependencyMax: 2, newShare: 0.5 });
  const turned = async () => {
    const rows = await schema.sql<{ state: string }>('select state from saga where saga_id in (?)', [ids]);
    return rows.filter(({ state }) => (JSON.parse(state) as { failure: unknown }).failure !== null).length;
  };
  const end = Date.now() + 5_000;
  while ((await turned()) < 49 && Date.now() < end) await new Promise((resolve) => setTimeout(resolve, 50));
  t.ok((await turned()) >= 49, `${await turned()} of 50 have turned back while one call hangs`);
  t.ok(calls.fresh <= 4);
  await worker.stop();
});
