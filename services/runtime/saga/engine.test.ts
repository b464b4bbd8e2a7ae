import t from 'tap';
import { createDatabase } from '../../../test/support/infra.ts';
import { amount } from '../../../test/support/tier.ts';
import { rpcError } from '../errors/errors.ts';
import { newId } from '../id/id.ts';
import { type Behaviour, checkout, hasty, open, openSchema, type Script } from '../testing/saga.ts';
import { forceCompensate, requestCancel, resumeSaga } from './engine.ts';

const schema = await openSchema(t, await createDatabase(t, 'orders'));
const { db } = schema;
t.setTimeout(120_000);
let named = 0;
/** A saga with its own name, so that tests do not run each other's. */
const fresh = (options: Parameters<typeof checkout>[1] = {}) => {
  named += 1;
  return checkout(db, { name: `checkout-${named}`, ...options });
};

/** Behaves as planned, call by call, and succeeds from then on. */
function told(plan: Record<string, Behaviour[]>): Script {
  const left = structuredClone(plan);
  return (call) => left[call]?.shift() ?? 'work';
}

const inTransaction = async <T>(work: Parameters<typeof db.transaction<T>>[1]): Promise<T> => {
  const call = open('test', 10_000);
  return db.transaction(call, work).finally(() => call.close());
};

const committed = async () => {
  const metric = await schema.registry.getSingleMetric('armature_db_transactions_total')?.get();
  return metric?.values.find(({ labels }) => labels.outcome === 'committed')?.value ?? 0;
};

const all = ['run reserve', 'run authorize', 'run capture'];
const completed = ['reserve done', 'authorize done', 'confirmed', 'capture done', 'complete', 'end'];
const undone = ['run reserve', 'run authorize', 'compensate authorize', 'compensate reserve'];

t.test('a saga without trouble costs one transaction to start and one per remote step', async (t) => {
  const definition = fresh();
  // Its queries find nothing, and open no transaction.
  const worker = schema.worker([definition], { pollMs: 60_000 });
  const before = await committed();
  const id = await schema.start(definition);
  t.strictSame(await schema.rest([id]), ['COMPLETED']);
  // The last commit is visible before its process has counted it.
  await worker.stop();
  t.equal((await committed()) - before, 4);
  t.strictSame(await schema.facts(id), completed);
  t.strictSame(await schema.effects(id), all);
  const rows = await schema.sql<Record<string, unknown>>(
    'select lease_holder, due_at, version, results from saga where saga_id = ?',
    [id],
  );
  t.match(rows, [{ lease_holder: null, due_at: null, version: 5 }]);
  t.strictSame(Object.keys(JSON.parse(String(rows[0]?.results))), ['reserve', 'authorize', 'capture']);
  t.match(await worker.registry.metrics(), /armature_sagas_finished_total\{saga="checkout-\d+",result="completed"\} 1/);
  await worker.stop();
});

t.test('outcomes', async (t) => {
  const compensatedBoth = ['authorize compensated', 'reserve compensated'];
  const rows: {
    name: string;
    plan: Record<string, Behaviour[]>;
    status?: string;
    effects: string[];
    facts?: string[];
  }[] = [
    {
      name: 'refused at the first step',
      plan: { 'run reserve': ['refuse'] },
      status: 'FAILED',
      effects: [],
      facts: ['reserve rejected', 'end rejected'],
    },
    {
      name: 'refused at the second: the first is undone',
      plan: { 'run authorize': ['refuse'] },
      status: 'FAILED',
      effects: ['run reserve', 'compensate reserve'],
      facts: ['reserve done', 'authorize rejected', 'reserve compensated', 'end rejected'],
    },
    { name: 'the result is lost after acting', plan: { 'run authorize': ['act, then time out'] }, effects: all },
    { name: 'the request is lost', plan: { 'run authorize': ['time out'] }, effects: all },
    {
      name: 'the outcome is unknown for a while',
      plan: { 'run reserve': ['time out'], 'query reserve': ['time out', 'time out'] },
      effects: all,
    },
    { name: 'a call hangs', plan: { 'run authorize': ['hang'] }, effects: all },
    { name: 'a call after the pivot hangs and is lost', plan: { 'run capture': ['hang', 'time out'] }, effects: all },
    {
      name: 'compensations fail for a while, or their result is lost',
      plan: {
        'run authorize': ['refuse'],
        'compensate reserve': ['time out', 'act, then time out'],
      },
      status: 'FAILED',
      effects: ['run reserve', 'compensate reserve'],
    },
  ];
  for (const { name, plan, status = 'COMPLETED', effects, facts } of rows) {
    t.test(name, async (t) => {
      const hangs = Object.values(plan).flat().includes('hang');
      const definition = fresh({ script: told(plan), ...(hangs ? hasty : {}) });
      const worker = schema.worker([definition]);
      const id = await schema.start(definition);
      t.strictSame(await schema.rest([id]), [status]);
      t.strictSame(await schema.effects(id), effects);
      t.strictSame(await schema.facts(id), facts ?? (status === 'COMPLETED' ? completed : await schema.facts(id)));
      t.strictSame(await schema.misplayed(definition), []);
      await worker.stop();
    });
  }
  t.test('a local step refuses: nothing of its transaction remains', async (t) => {
    const definition = fresh({
      confirm: () => {
        throw rpcError('FAILED_PRECONDITION', 'ORDER_CLOSED', 'it is closed');
      },
    });
    const worker = schema.worker([definition]);
    const id = await schema.start(definition);
    t.strictSame(await schema.rest([id]), ['FAILED']);
    t.strictSame(await schema.effects(id), undone);
    t.strictSame(await schema.facts(id), ['reserve done', 'authorize done', ...compensatedBoth, 'end rejected']);
    t.strictSame(await schema.misplayed(definition), []);
    await worker.stop();
  });
  t.test('a local step fails twice, then works', async (t) => {
    let failures = 3;
    const definition = fresh({
      confirm: () => {
        failures -= 1;
        if (failures >= 0) throw new TypeError('a fault');
      },
    });
    const worker = schema.worker([definition]);
    const id = await schema.start(definition);
    t.strictSame(await schema.rest([id]), ['COMPLETED']);
    t.strictSame(await schema.facts(id), completed);
    t.strictSame(await schema.misplayed(definition), []);
    await worker.stop();
  });
});

t.test('cancelling', async (t) => {
  const cancel = (definition: ReturnType<typeof fresh>, subject: string) =>
    inTransaction((tx) => requestCancel(tx, definition, subject, { reason: 'CUSTOMER' }));

  t.test('before a worker has begun', async (t) => {
    const definition = fresh();
    const subject = newId();
    const id = await schema.start(definition, subject);
    t.equal(await cancel(definition, subject), 'accepted');
    t.equal(await cancel(definition, subject), 'accepted', 'twice is once');
    const worker = schema.worker([definition]);
    t.strictSame(await schema.rest([id]), ['FAILED']);
    t.strictSame(await schema.effects(id), ['compensate reserve'], 'a tombstone, in case a request is under way');
    t.strictSame(await schema.facts(id), ['reserve compensated absent', 'end cancelled']);
    await worker.stop();
  });

  t.test('while a step is under way', async (t) => {
    const reached = Promise.withResolvers<void>();
    const goOn = Promise.withResolvers<void>();
    const definition = fresh({
      script: async (call): Promise<Behaviour> => {
        if (call === 'run authorize') {
          reached.resolve();
          await goOn.promise;
        }
        return 'work';
      },
    });
    const worker = schema.worker([definition]);
    const subject = newId();
    const id = await schema.start(definition, subject);
    await reached.promise;
    t.equal(await cancel(definition, subject), 'accepted');
    goOn.resolve();
    t.strictSame(await schema.rest([id]), ['FAILED']);
    t.strictSame(await schema.effects(id), undone);
    t.strictSame(await schema.misplayed(definition), []);
    await worker.stop();
  });

  t.test('after the pivot it is too late', async (t) => {
    const reached = Promise.withResolvers<void>();
    const goOn = Promise.withResolvers<void>();
    const definition = fresh({
      script: async (call): Promise<Behaviour> => {
        if (call === 'run capture') {
          reached.resolve();
          await goOn.promise;
        }
        return 'work';
      },
    });
    const worker = schema.worker([definition]);
    const subject = newId();
    const id = await schema.start(definition, subject);
    await reached.promise;
    t.equal(await cancel(definition, subject), 'too_late');
    goOn.resolve();
    t.strictSame(await schema.rest([id]), ['COMPLETED']);
    t.equal(await cancel(definition, subject), 'too_late');
    t.equal(await cancel(definition, newId()), 'unknown_saga');
    t.strictSame(await schema.misplayed(definition), []);
    await worker.stop();
  });

  t.test('at any moment: all or nothing, as the cancel result said', async (t) => {
    const definition = fresh();
    const worker = schema.worker([definition]);
    const seed = Date.now() % 1_000_000;
    t.comment(`seed ${seed}`);
    let random = seed;
    const delays = Array.from({ length: amount(60, 150) }, () => {
      random = (random * 1_103_515_245 + 12_345) % 2_147_483_648;
      return random % 600;
    });
    const ids: { id: string; result: string }[] = [];
    const cancelAfter = async (delayMs: number) => {
      const subject = newId();
      const id = await schema.start(definition, subject);
      await new Promise((resolve) => setTimeout(resolve, delayMs));
      return { id, result: await cancel(definition, subject) };
    };
    // No more at a time than the connection pool serves on a busy machine.
    for (let at = 0; at < delays.length; at += 30) {
      ids.push(...(await Promise.all(delays.slice(at, at + 30).map(cancelAfter))));
    }
    const statuses = await schema.rest(ids.map(({ id }) => id));
    const wrong = ids.filter(
      ({ result }, index) => (result === 'accepted' ? 'FAILED' : 'COMPLETED') !== statuses[index],
    );
    t.strictSame(wrong, []);
    const failed = statuses.filter((status) => status === 'FAILED').length;
    t.comment(`${failed} of ${statuses.length} were undone`);
    const left = await schema.sql(
      `select s.saga_id from saga s join effect e on e.saga_id = s.saga_id and e.kind = 'run' and e.outcome = 'done'
       left join effect c on c.saga_id = e.saga_id and c.step = e.step and c.kind = 'compensate'
       where s.name = ? and (s.status = 'FAILED') <> (c.effect_key is not null)`,
      [definition.name],
    );
    t.strictSame(left, [], 'undone if and only if failed');
    t.strictSame(await schema.misplayed(definition), []);
    await worker.stop();
  });
});

t.test('pauses double, then the saga is stuck until an operator resumes it', async (t) => {
  let works = false;
  const definition = fresh({
    script: (call) => (works || !call.endsWith('capture') ? 'work' : 'time out'),
    retry: { initialBackoffMs: 40, maxBackoffMs: 100, maxElapsedMs: 1_500 },
  });
  const worker = schema.worker([definition], { random: () => 1 });
  const subject = newId();
  const id = await schema.start(definition, subject);
  t.strictSame(await schema.rest([id]), ['STUCK']);
  const rows = await schema.sql<{ kind: string; outcome: string; detail: string }>(
    "select kind, outcome, detail from saga_log where saga_id = ? and step = 'capture' order by position",
    [id],
  );
  const [first, ...others] = rows.map(({ kind, outcome }) => `${kind} ${outcome}`);
  t.equal(first, 'run unknown');
  t.ok(others.length >= 1 && others.every((one) => one === 'query unknown'), `${others.length} more tries`);
  // The rounded time of a failed try, from which its pause counts; it is recorded some time later.
  const times = rows.map(({ detail }) => (JSON.parse(detail) as { at: number }).at);
  const failingMs = times.at(-1)! - times[0]!;
  t.ok(failingMs >= 1_500, `failing for ${failingMs} ms when it became stuck`);
  const gaps = times.slice(1).map((at, index) => at - times[index]!);
  gaps.forEach((gapMs, index) => {
    const pauseMs = Math.min(40 * 2 ** index, 100);
    // The process and the database take their times at different moments of a try.
    t.ok(gapMs >= pauseMs - 10, `pause ${index}: ${gapMs} ms, at least ${pauseMs} ms`);
  });
  t.match(await worker.registry.metrics(), `armature_sagas_stuck{saga="${definition.name}"} 1`);
  t.equal(await inTransaction((tx) => requestCancel(tx, definition, subject)), 'too_late');
  t.equal(await inTransaction((tx) => forceCompensate(tx, definition, id)), 'not_possible', 'only forward');
  works = true;
  t.equal(await inTransaction((tx) => resumeSaga(tx, definition, id)), 'accepted');
  t.strictSame(await schema.rest([id]), ['COMPLETED']);
  t.equal(await inTransaction((tx) => resumeSaga(tx, definition, id)), 'not_possible');
  t.strictSame(await schema.facts(id), completed);
  t.strictSame(await schema.misplayed(definition), []);
  await worker.stop();
});

t.test('an operator turns back what has not passed the pivot', async (t) => {
  let works = false;
  const definition = fresh({
    script: (call) => (works || !call.endsWith('authorize') ? 'work' : 'time out'),
    retry: { maxElapsedMs: 1_000 },
  });
  const worker = schema.worker([definition]);
  const id = await schema.start(definition);
  while ((await schema.facts(id)).length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  t.equal(await inTransaction((tx) => forceCompensate(tx, definition, id)), 'accepted');
  t.strictSame(await schema.rest([id]), ['STUCK'], 'not before the outcome is known');
  works = true;
  t.equal(await inTransaction((tx) => resumeSaga(tx, definition, id)), 'accepted');
  t.strictSame(await schema.rest([id]), ['FAILED']);
  t.ok((await schema.facts(id)).includes('end operator'));
  t.strictSame(await schema.misplayed(definition), []);
  await worker.stop();
});

t.test('a saga whose time is up goes back once the outcome is known', async (t) => {
  const definition = fresh({
    script: told({ 'run authorize': ['hang'], 'query authorize': ['time out', 'work'] }),
    timeLimitMs: 1_000,
    timeoutMs: 1_500,
  });
  const worker = schema.worker([definition]);
  const id = await schema.start(definition);
  t.strictSame(await schema.rest([id]), ['FAILED']);
  t.strictSame(await schema.effects(id), ['run reserve', 'compensate authorize', 'compensate reserve']);
  t.ok((await schema.facts(id)).includes('end expired'));
  t.strictSame(await schema.misplayed(definition), []);
  await worker.stop();
});
