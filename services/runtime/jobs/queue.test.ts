import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { createDatabase } from '../../../test/support/infra.ts';
import { openDatabase } from '../db/database.ts';
import { migrate } from '../db/migrate.ts';
import type { Tx } from '../db/tx.ts';
import { newId } from '../id/id.ts';
import { Registry } from '../telemetry/metrics.ts';
import { type LeasedJob, type NewJob, type QueueDefinition, StaleLeaseError } from './queue.ts';
import { retryAfterMs } from './retry-policy.ts';
import { type JobHandler, jobRunner } from './runner.ts';
import { log, type NoteRow, noteMigration, noteQueue, open, writeEffect } from './testbed.ts';

t.setTimeout(120_000);
const database = await createDatabase(t, 'orders');
await migrate(database.migratorUrl, [noteMigration]);
await database.migrated();
const db = await openDatabase({ url: database.url, log, registry: new Registry() });
t.teardown(() => db.close());
const queue = noteQueue();

const inTransaction = async <T>(work: (tx: Tx) => Promise<T>): Promise<T> => {
  const call = open('test', 10_000);
  return db.transaction(call, work).finally(() => call.close());
};
const enqueue = (text: string, more: Partial<NewJob> = {}) =>
  inTransaction((tx) => queue.enqueue(tx, { columns: { text }, ...more }));
const claim = (limit = 100) => inTransaction((tx) => queue.claim(tx, limit));
const record = (...[job, result]: [LeasedJob<NoteRow>, Parameters<typeof queue.record>[2]]) =>
  inTransaction((tx) => queue.record(tx, job, result));
const texts = (jobs: readonly LeasedJob<NoteRow>[]) => jobs.map(({ row }) => row.text);
const change = (set: string, id: string) =>
  db.write(null, (sql) => sql.execute(`update note set ${set} where note_id = ?`, [id]));
const leaseExpires = (id: string) => change('lease_expires_at = utc_timestamp(6) - interval 1 second', id);
const becomesDue = (id: string) => change('next_attempt_at = utc_timestamp(6)', id);

interface Row {
  state: string;
  attempts: number;
  lease_token: number;
  last_error: string;
  wait_ms: number | null;
  expires_in_s: number | null;
  done: number;
}
const rowOf = async (id: string): Promise<Row | undefined> => {
  const rows = await db.read(null, (sql) =>
    sql.query<Row>(
      `select state, attempts, lease_token, last_error, done_at is not null as done,
         timestampdiff(microsecond, utc_timestamp(6), next_attempt_at) / 1000 as wait_ms,
         timestampdiff(second, created_at, expires_at) as expires_in_s from note where note_id = ?`,
      [id],
    ),
  );
  return rows[0];
};
const effects = async () =>
  (await db.read(null, (sql) => sql.query<{ text: string }>('select text from effect'))).length;

t.beforeEach(async () => {
  for (const table of ['note', 'effect']) await db.write(null, (sql) => sql.execute(`delete from ${table}`));
});

/** A worker of its own. `round` claims once and waits until the claimed jobs are recorded. */
function worker(
  run: JobHandler<NoteRow>['run'],
  changes: Partial<QueueDefinition> = {},
  attemptTimeoutMs?: number,
  transaction = db.transaction,
) {
  const registry = new Registry();
  const runner = jobRunner({ db: { ...db, transaction }, background: open, registry, random: () => 1 });
  const [claiming, purging] = runner.periodicJobs({
    ...{ queue: noteQueue(changes), name: 'notes', work: 'write note', concurrency: 4, run },
    ...(attemptTimeoutMs === undefined ? {} : { attemptTimeoutMs }),
  });
  const once = async (job = claiming!) => {
    const call = open('periodic job notes', 10_000);
    return job.run(call).finally(() => call.close());
  };
  return {
    claim: once,
    purge: () => once(purging),
    stop: () => claiming!.stop?.(),
    close: runner.close,
    metrics: () => registry.metrics(),
    async round() {
      const claimed = await once();
      await runner.close();
      return claimed;
    },
  };
}

t.test('a job is queued with the transaction of its caller', async (t) => {
  const undo = new Error('undo');
  const undone = inTransaction(async (tx) => {
    await queue.enqueue(tx, { columns: { text: 'undone' } });
    throw undo;
  });
  await t.rejects(undone, undo);
  const id = newId();
  t.equal(await enqueue('one', { id, columns: { text: 'one', expires_at: { secondsFromNow: 60 } } }), id);
  const skipped = await enqueue('skipped', { skipped: true });
  t.strictSame(texts(await claim()), ['one']);
  t.match(await rowOf(id), { state: 'QUEUED', attempts: 1, lease_token: 1, expires_in_s: 60 });
  t.match(await rowOf(skipped), { state: 'SKIPPED', attempts: 0 });
});

t.test('jobs of a higher priority go first, then those that have been due for longer', async (t) => {
  for (const priority of ['low', 'normal', 'high'] as const) {
    for (const minutes of [1, 2]) {
      await enqueue(`${priority} ${minutes}`, { priority, runAt: new Date(Date.now() - minutes * 60_000) });
    }
  }
  t.strictSame(texts(await claim(3)), ['high 2', 'high 1', 'normal 2'], 'a batch is bounded');
  t.strictSame(texts(await claim()), ['normal 1', 'low 2', 'low 1'], 'a leased job is not leased twice');
});

t.test('a job is not run before its time', async (t) => {
  const id = await enqueue('later', { runAt: new Date(Date.now() + 3_600_000), priority: 'high' });
  await enqueue('now');
  t.strictSame(texts(await claim()), ['now']);
  t.match(await rowOf(id), { attempts: 0 });
  t.ok(Math.abs(Number((await rowOf(id))?.wait_ms) - 3_600_000) < 60_000, 'runAt is stored in UTC');
  await becomesDue(id);
  t.strictSame(texts(await claim()), ['later']);
});

t.test('two workers that claim at the same time get different jobs', async (t) => {
  for (const text of ['a', 'b', 'c']) await enqueue(text);
  const [first, second] = await inTransaction(async (tx) => [await queue.claim(tx, 2), await claim()]);
  t.strictSame([texts(first!), texts(second!)], [['a', 'b'], ['c']]);
  const many = await Promise.all(Array.from({ length: 20 }, (_, i) => enqueue(`note ${i}`)));
  const done: string[] = [];
  const workers = Array.from({ length: 3 }, () => worker(async ({ text }) => void done.push(text)));
  while (done.length < many.length) await Promise.all(workers.map((one) => one.round()));
  t.equal(new Set(done).size, many.length);
  t.equal(done.length, many.length, 'each job ran once');
  for (const id of many) t.match(await rowOf(id), { state: 'DONE', attempts: 1, done: 1 });
});

t.test('a result is refused when the lease has gone to another worker', async (t) => {
  const id = await enqueue('slow');
  const [late] = await claim();
  await leaseExpires(id);
  const [next] = await claim();
  t.ok(next!.leaseToken > late!.leaseToken, 'the fencing token grows');
  for (const result of [{ kind: 'done' }, { kind: 'dead', error: 'late' }] as const) {
    await t.rejects(record(late!, result), StaleLeaseError);
  }
  t.match(await rowOf(id), { state: 'QUEUED', attempts: 2, last_error: '' });
  await record(next!, { kind: 'done' });
  await t.rejects(record(next!, { kind: 'done' }), StaleLeaseError, 'a result is recorded once');
  t.match(await rowOf(id), { state: 'DONE', attempts: 2, done: 1 });
});

t.test('a worker whose lease was lost counts it and changes nothing', async (t) => {
  const id = await enqueue('slow');
  const slow = worker(async () => {
    await leaseExpires(id);
    await claim();
  });
  await slow.round();
  t.match(await rowOf(id), { state: 'QUEUED', attempts: 2 });
  t.match(await slow.metrics(), /armature_jobs_total\{job="notes",outcome="lease_lost"\} 1/);
});

t.test('waits double up to the maximum, and end with attempts or time', async (t) => {
  const policy = { maxAttempts: 8, initialBackoffMs: 1_000, maxBackoffMs: 10_000, maxElapsedMs: 3_600_000 };
  const after = (attempt: number, leftMs = 3_600_000) => retryAfterMs(policy, { attempt, leftMs }, () => 1);
  t.strictSame(
    [1, 2, 3, 4, 5, 7, 8].map((attempt) => after(attempt)),
    [1_000, 2_000, 4_000, 8_000, 10_000, 10_000, null],
  );
  t.equal(after(2, 1_999), null, 'the next attempt would be too late');
  t.equal(
    retryAfterMs(policy, { attempt: 1, leftMs: 10_000 }, () => 0),
    500,
    'half of a wait is random',
  );
});

t.test('a failing job is tried again and then given up', async (t) => {
  const id = await enqueue('bad');
  const failing = worker(async () => {
    throw new Error('no such mailbox');
  });
  for (const [attempt, waitMs] of [1_000, 2_000].entries()) {
    t.equal(await failing.round(), 1);
    const row = await rowOf(id);
    t.match(row, { state: 'QUEUED', attempts: attempt + 1, last_error: 'no such mailbox', done: 0 });
    t.ok(Number(row?.wait_ms) > 0 && Number(row?.wait_ms) <= waitMs, `waits ${row?.wait_ms} of ${waitMs} ms`);
    await becomesDue(id);
  }
  t.equal(await failing.round(), 1);
  t.match(await rowOf(id), { state: 'DEAD', attempts: 3, last_error: 'no such mailbox', done: 0 });
  t.equal(await failing.round(), 0, 'it is not run again');
  const metrics = await failing.metrics();
  t.match(metrics, /armature_jobs_total\{job="notes",outcome="failed"\} 2/);
  t.match(metrics, /armature_jobs_total\{job="notes",outcome="dead"\} 1/);
  t.match(metrics, /armature_jobs_dead\{job="notes"\} 1/);
  t.match(metrics, /armature_jobs_due\{job="notes"\} 0/);

  t.equal(await inTransaction((tx) => queue.requeue(tx, id)), true);
  t.equal(await inTransaction((tx) => queue.requeue(tx, id)), false, 'it is queued already');
  t.match(await rowOf(id), { state: 'QUEUED', attempts: 0, last_error: '' });
  t.match(await worker(async () => {}).metrics(), /armature_jobs_due\{job="notes"\} 1/);
  await worker(async () => {}).round();
  t.match(await rowOf(id), { state: 'DONE', attempts: 1, done: 1 });
});

t.test('a job is given up when its time has passed, but runs once however late', async (t) => {
  const id = await enqueue('late');
  await change('give_up_at = utc_timestamp(6) - interval 1 hour', id);
  let runs = 0;
  await worker(async () => {
    runs += 1;
    throw new Error('too late');
  }).round();
  t.equal(runs, 1);
  t.match(await rowOf(id), { state: 'DEAD', attempts: 1, last_error: 'too late' });
});

t.test('a job that hangs or fails does not block the others', async (t) => {
  const ending = Promise.withResolvers<void>();
  const done: string[] = [];
  const one = worker(async ({ text }) => {
    if (text === 'hangs') await ending.promise;
    if (text === 'fails') throw new Error('poison');
    done.push(text);
  });
  for (const text of ['hangs', 'fails', 'a', 'b']) await enqueue(text, { priority: text.length > 1 ? 'high' : 'low' });
  await one.claim();
  for (const text of ['c', 'd', 'e']) await enqueue(text);
  while (done.length < 5) await one.claim();
  t.strictSame(done.toSorted(), ['a', 'b', 'c', 'd', 'e']);
  ending.resolve();
  await one.close();
  t.equal(done.length, 6, 'close waits for the attempt in progress');
});

t.test('no more jobs run at the same time than allowed', async (t) => {
  for (let i = 0; i < 12; i += 1) await enqueue(`note ${i}`);
  let running = 0;
  let most = 0;
  const one = worker(async () => {
    running += 1;
    most = Math.max(most, running);
    await db.read(null, (sql) => sql.query('select 1'));
    running -= 1;
  });
  while ((await one.claim()) > 0);
  await one.close();
  t.equal(most, 4);
});

t.test('an attempt that takes too long has failed', async (t) => {
  const id = await enqueue('hangs');
  await worker(() => new Promise(() => {}), {}, 20).round();
  t.match(await rowOf(id), { state: 'QUEUED', attempts: 1, last_error: 'write note took longer than 20 ms' });
  t.throws(() => worker(async () => {}, { leaseMs: 5_000 }), /attemptTimeoutMs must be 4000 ms less than the lease/);
});

t.test('the work is told when its time is over', async (t) => {
  await enqueue('hangs');
  const reasons: unknown[] = [];
  await worker(
    (_row, _call, signal) =>
      new Promise((_, reject) => {
        signal.addEventListener('abort', () => {
          reasons.push(signal.reason);
          reject(signal.reason);
        });
      }),
    {},
    20,
  ).round();
  t.match(reasons, [{ message: 'write note took longer than 20 ms' }]);
});

t.test('the time of an attempt begins with its lease', async (t) => {
  const id = await enqueue('late');
  // The claim takes 200 of the 220 ms that an attempt and the recording of its result leave of the lease.
  const slow: typeof db.transaction = async (call, work) => {
    const result = await db.transaction(call, work);
    if (call.name === 'periodic job notes') await sleep(200);
    return result;
  };
  await worker(() => new Promise(() => {}), { leaseMs: 4_220 }, 220, slow).round();
  const limit = /^write note took longer than (\d+) ms$/.exec((await rowOf(id))?.last_error ?? '');
  t.ok(Number(limit?.[1]) <= 20, `${(await rowOf(id))?.last_error}`);
});

t.test('a stop interrupts a job that hangs, and the job is due again', async (t) => {
  for (const text of ['a', 'b', 'c', 'd']) await enqueue(text);
  const last = await enqueue('last');
  await change('attempts = 2', last);
  await change('priority = 0', last);
  let aborted = 0;
  const hanging = worker((_row, _call, signal) => {
    signal.addEventListener('abort', () => {
      aborted += 1;
    });
    return new Promise(() => {});
  });
  const started = performance.now();
  const claiming = hanging.claim();
  // The periodic job waits for a free slot now.
  while (Number((await rowOf(last))?.lease_token) === 0) await sleep(10);
  hanging.stop();
  t.equal(await claiming, 4);
  t.ok(performance.now() - started < 5_000, 'a stop ends the wait for a free slot');
  await hanging.close();
  const tookMs = performance.now() - started;
  t.ok(tookMs < 8_000, `took ${tookMs} ms`);
  t.equal(aborted, 4, 'all attempts were told');
  const interrupted = { state: 'QUEUED', attempts: 2, last_error: 'the process stopped' };
  t.match(await rowOf(last), interrupted, 'it has its last attempt again');
  t.ok(Number((await rowOf(last))?.wait_ms) <= 0);
  t.equal((await claim()).length, 5);
  t.match(await hanging.metrics(), /armature_jobs_total\{job="notes",outcome="interrupted"\} 4/);
});

t.test('a result that cannot be recorded is recorded when the database is back', async (t) => {
  const id = await enqueue('once');
  let failures = 0;
  const outage: typeof db.transaction = (call, work) => {
    if (call.name !== 'write note' || failures === 3) return db.transaction(call, work);
    failures += 1;
    return Promise.reject(new Error('connection lost'));
  };
  let runs = 0;
  const run = async () => {
    runs += 1;
  };
  await worker(run, {}, undefined, outage).round();
  t.strictSame([runs, failures], [1, 3]);
  t.match(await rowOf(id), { state: 'DONE', attempts: 1 });
});

t.test('a result is recorded until the lease ends, and not longer', async (t) => {
  const id = await enqueue('long outage');
  const outage: typeof db.transaction = (call, work) =>
    call.name === 'write note' ? Promise.reject(new Error('connection lost')) : db.transaction(call, work);
  const started = performance.now();
  await worker(async () => {}, { leaseMs: 5_000 }, 1_000, outage).round();
  t.ok(performance.now() - started < 5_000, 'the worker gives up before the lease ends');
  t.match(await rowOf(id), { state: 'QUEUED', attempts: 1 });
});

t.test('a lower limit of attempts gives a job up with its true error', async (t) => {
  const id = await enqueue('bad');
  await change("attempts = 7, last_error = 'no such mailbox'", id);
  let runs = 0;
  await worker(async () => {
    runs += 1;
  }).round();
  t.equal(runs, 0);
  t.match(await rowOf(id), {
    ...{ state: 'DEAD', attempts: 7 },
    last_error: 'not run again after 7 attempts, because the limit is 3 now; the error before: no such mailbox',
  });
});

t.test('a job can have less time than its queue gives', async (t) => {
  const id = await enqueue('short', { maxElapsedMs: 500 });
  await worker(async () => {
    throw new Error('away');
  }).round();
  t.match(await rowOf(id), { state: 'DEAD', attempts: 1, last_error: 'away' });
});

/** Runs a worker in its own process, which a crash point kills; resolves with the signal that ended it. */
async function crash(point: string): Promise<NodeJS.Signals | null> {
  const file = fileURLToPath(import.meta.resolve('./worker-child.ts'));
  const child = spawn(process.execPath, [file, database.url, point], { stdio: ['ignore', 'inherit', 'inherit'] });
  const tooLong = setTimeout(() => child.kill('SIGTERM'), 60_000);
  const [, signal] = (await once(child, 'exit')) as [number | null, NodeJS.Signals | null];
  clearTimeout(tooLong);
  return signal;
}

t.test('a job whose worker was killed runs again when the lease has expired', async (t) => {
  const rows = [
    { point: 'note.before-effect', effectsInAll: 1 },
    { point: 'note.written', effectsInAll: 2 },
  ];
  for (const { point, effectsInAll } of rows) {
    const id = await enqueue(point);
    const before = await effects();
    t.equal(await crash(point), 'SIGKILL');
    const next = worker(({ text }) => writeEffect(db, text).then(() => {}));
    t.equal(await next.round(), 0, 'not while it is leased');
    await leaseExpires(id);
    t.equal(await next.round(), 1);
    t.match(await rowOf(id), { state: 'DONE', attempts: 2, done: 1 });
    t.equal((await effects()) - before, effectsInAll, `${point}: at least once`);
  }
});

t.test('a job that kills its worker at every attempt is given up without another run', async (t) => {
  const id = await enqueue('deadly');
  for (let attempt = 1; attempt <= 3; attempt += 1) {
    t.equal((await claim())[0]?.attempt, attempt);
    await leaseExpires(id);
  }
  const next = worker(() => writeEffect(db, 'deadly').then(() => {}));
  t.equal(await next.round(), 1);
  t.equal(await effects(), 0);
  t.match(await rowOf(id), { state: 'DEAD', attempts: 3, last_error: 'attempt 3 ended without a result' });
});

t.test('jobs that are done are deleted after their retention', async (t) => {
  const old = await enqueue('old');
  const dead = await enqueue('dead');
  const young = await enqueue('young');
  for (const job of await claim()) {
    await record(job, job.id === dead ? { kind: 'dead', error: 'bad' } : { kind: 'done' });
  }
  for (const id of [old, dead]) await change('created_at = utc_timestamp(6) - interval 31 day', id);
  const one = worker(async () => {});
  t.equal(await one.purge(), 1);
  t.equal(await one.purge(), 0);
  t.equal(await rowOf(old), undefined);
  t.match(await rowOf(dead), { state: 'DEAD' }, 'states without a retention are kept');
  t.match(await rowOf(young), { state: 'DONE' });
});

t.test('rows and leases of a process of an earlier release are respected', async (t) => {
  // It knows neither priority nor time limit, and counts an attempt when it records.
  const [mine, leased] = [newId(), newId()];
  for (const id of [mine, leased]) {
    await db.write(null, (sql) =>
      sql.execute(
        `insert into note (note_id, text, state, next_attempt_at, created_at)
         values (?, 'earlier', 'QUEUED', utc_timestamp(6), utc_timestamp(6))`,
        [id],
      ),
    );
  }
  await change('lease_token = lease_token + 1, lease_expires_at = utc_timestamp(6) + interval 30 second', leased);
  const failing = worker(async () => {
    throw new Error('away');
  });
  t.equal(await failing.round(), 1);
  t.match(await rowOf(mine), { state: 'QUEUED', attempts: 1, last_error: 'away' });
  t.match(await rowOf(leased), { state: 'QUEUED', attempts: 0 });
  await leaseExpires(leased);
  const [job] = await claim();
  t.equal(job?.id, leased);
  t.equal(job?.giveUpAt, Number.POSITIVE_INFINITY);
  const late = await db.write(null, (sql) =>
    sql.execute(
      `update note set state = 'SENT', attempts = 1, lease_expires_at = null
       where note_id = ? and lease_token = 1 and state = 'QUEUED'`,
      [leased],
    ),
  );
  t.equal(late.affectedRows, 0, 'its late result is refused, as ours would be');
});
