import { randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { PaymentServiceContract } from '@armature/proto/payments/v1/contract.ts';
import { Payment } from '@armature/proto/payments/v1/payments.ts';
import t from 'tap';
import { createDatabase } from '../../../test/support/infra.ts';
import { background } from '../context/background.ts';
import { type CallContext, compose, openCall } from '../context/call-context.ts';
import { childTrace } from '../context/trace.ts';
import { openDatabase } from '../db/database.ts';
import { migrate } from '../db/migrate.ts';
import { rpcError } from '../errors/errors.ts';
import { idempotency } from '../idempotency/idempotency.ts';
import { setIdempotencyKey } from '../idempotency/key.ts';
import { noHashKeys, requestHasher } from '../idempotency/request-hash.ts';
import { runIdempotent } from '../idempotency/run-idempotent.ts';
import { runtimeMigrations } from '../migrations/runtime-migrations.ts';
import { createLogger } from '../telemetry/log.ts';
import { createRegistry, exposition } from '../telemetry/metrics.ts';
import { accessClients, scriptedAccess } from '../testing/policy.ts';
import { decisionRecorder, decisionToRecord, recordInTransaction, setAllowed } from './authorization.ts';
import { decisionLog } from './decision-log.ts';
import { countDecisions, insertDecisions, pendingDecisions } from './decisions.ts';
import { decisionOf, denials } from './denials.ts';

const schema = await createDatabase(t, 'payments');
await migrate(schema.migratorUrl, runtimeMigrations);
await schema.migrated();
const log = createLogger('test', 'fatal');
const db = await openDatabase({
  ...{ url: schema.migratorUrl, log, registry: createRegistry('test') },
  participants: [decisionRecorder],
});
t.teardown(() => db.close());
const open = background('test', log);
const method = PaymentServiceContract.methods.refundPayment;
await db.write(null, (sql) => sql.execute('create table effect (id char(36) primary key)'));
t.beforeEach(async () => {
  await db.write(null, (sql) => sql.execute('delete from decision_outbox'));
});

function allowedCall(key: string = randomUUID()): CallContext {
  const caller = { workload: 'service:orders', user: null };
  const message = { paymentId: key };
  const call: CallContext = openCall({
    ...{ kind: 'server', name: method.path, method, message, caller, log },
    deadline: Date.now() + 10_000,
    trace: childTrace(undefined),
  });
  setAllowed(call, { allowed: true, scope: 'any', policyVersion: 'v1' });
  recordInTransaction(call, decisionOf(call, { permission: method.permission, policyVersion: 'v1' }));
  setIdempotencyKey(call, {
    principal: 'service:orders',
    method: method.path,
    key,
    hash: requestHasher(noHashKeys)(Buffer.alloc(0), Buffer.alloc(0)),
  });
  return call;
}
const act = (call: CallContext) =>
  runIdempotent(db, call, async (tx) => {
    await tx.execute('insert into effect (id) values (?)', [call.id]);
    return Payment.fromPartial({});
  });
const pending = () => db.read(null, (sql) => pendingDecisions(sql, 1_000));
const effects = async () => {
  const rows = await db.read(null, (sql) => sql.query<{ n: number }>('select count(*) as n from effect'));
  return Number(rows[0]!.n);
};

t.test('what was allowed is recorded with its effect', async (t) => {
  const call = allowedCall();
  const { decisionId } = decisionToRecord(call)!;
  await act(call);
  const records = await pending();
  t.equal(records.length, 1);
  t.match(records[0]!.decision, {
    decisionId,
    workload: 'service:orders',
    subject: '',
    permission: 'payments.refund',
    target: method.path,
    allowed: true,
    reason: '',
    policyVersion: 'v1',
    callId: call.id,
    count: 1,
  });
  t.ok(Math.abs(Date.now() - records[0]!.decision.decideTime!.getTime()) < 60_000);
});

t.test('a call of several transactions is recorded with the first', async (t) => {
  const call = allowedCall();
  await db.transaction(call, (tx) => tx.execute('insert into effect (id) values (?)', [randomUUID()]));
  t.equal((await pending()).length, 1, 'before anything is done outside');
  await act(call);
  t.equal((await pending()).length, 1, 'and once');
});

t.test('what is rolled back leaves no record, and is recorded when it is done again', async (t) => {
  const call = allowedCall();
  const failing = db.transaction(call, async () => {
    throw new Error('no');
  });
  await t.rejects(failing, { message: 'no' });
  t.strictSame(await pending(), []);
  await act(call);
  t.equal((await pending()).length, 1);
});

t.test('a repeat gets the stored response, without an effect and without a record of its own', async (t) => {
  const key = randomUUID();
  await act(allowedCall(key));
  const before = await effects();
  await act(allowedCall(key));
  t.equal(await effects(), before);
  t.equal((await pending()).length, 1);
});

t.test('a refusal of the business is an allowed call too', async (t) => {
  const refuse = compose([idempotency(db, 'payments.armature.local')], async () => {
    throw rpcError('FAILED_PRECONDITION', 'REFUND_TOO_LARGE', 'no');
  });
  const call = allowedCall();
  await t.rejects(refuse(call), { code: 'FAILED_PRECONDITION' });
  t.match(await pending(), [{ decision: { allowed: true, callId: call.id } }]);
});

t.test('without its record nothing happens', async (t) => {
  const before = await effects();
  await db.write(null, (sql) => sql.execute('rename table decision_outbox to gone'));
  t.teardown(() => db.write(null, (sql) => sql.execute('rename table gone to decision_outbox')));
  await t.rejects(act(allowedCall()), { message: /decision_outbox/ });
  t.equal(await effects(), before);
});

t.test('the way to access', async (t) => {
  const access = await scriptedAccess(t);
  const client = (await accessClients(() => access.address))();
  t.teardown(() => client.close());
  const collected = denials();
  const registry = createRegistry('test');
  const record = decisionLog({
    service: 'orders',
    db,
    denials: collected,
    registry,
    send: async (call, requestId, decisions) => {
      await client.recordDecisions({ requestId, decisions: [...decisions] }, { parent: call });
    },
  });
  const runJob = async (name: string) => {
    const call = open(name, 10_000);
    return record.periodicJobs
      .find((one) => one.name === name)!
      .run(call)
      .finally(() => call.close());
  };
  const metric = async (name: string) => {
    const line = (await exposition(registry)).split('\n').find((one) => one.startsWith(name));
    return Number(line?.split(' ').at(-1));
  };
  const stranger = openCall({
    ...{ kind: 'server', name: method.path, message: null, deadline: Date.now(), trace: childTrace(undefined), log },
    caller: { workload: 'workload:edge', user: { kind: 'user', subject: 'ada', token: '', scope: 'all' } },
  } as const);
  for (let times = 0; times < 3; times++) collected.denied(stranger, 'payments.refund', 'no', 'v1');
  await act(allowedCall());
  t.equal(await metric('armature_decisions_pending'), 2, 'one in the table, one in memory');
  await runJob('denials');
  t.equal(await metric('armature_decisions_pending'), 2, 'both in the table');

  access.refuseRecords = true;
  await t.rejects(runJob('decisions'));
  t.equal((await pending()).length, 2, 'what access did not take stays');
  access.refuseRecords = false;
  await runJob('decisions');
  t.strictSame(await pending(), []);
  t.equal(access.recorded.length, 1);
  t.equal(access.recorded[0]!.by, 'service:orders');
  t.match(access.recorded[0]!.decisions, [
    { allowed: true, count: 1, service: 'service:orders' },
    { allowed: false, count: 3, subject: 'user:ada', reason: 'no' },
  ]);
  t.equal(await runJob('decisions'), 0, 'nothing is sent when there is nothing');
  t.equal(access.recorded.length, 1);

  const again = access.recorded[0]!.decisions;
  await db.write(null, (sql) => insertDecisions(sql, again));
  await runJob('decisions');
  t.equal(access.recorded[1]!.requestId, access.recorded[0]!.requestId, 'the same batch is the same request');

  t.test('many at once', async (t) => {
    const many = Array.from({ length: 1_200 }, () => decisionOf(stranger, { permission: 'a.b', policyVersion: 'v' }));
    await db.write(null, (sql) => insertDecisions(sql, many));
    const before = access.recorded.length;
    t.strictSame([await runJob('decisions'), await runJob('decisions'), await runJob('decisions')], [500, 500, 0]);
    const sent = access.recorded.slice(before).flatMap(({ decisions }) => decisions.map((one) => one.decisionId));
    t.strictSame(
      sent,
      many.map((one) => one.decisionId),
    );
  });

  t.test('records that access refuses hold up no others', async (t) => {
    const many = Array.from({ length: 60 }, () => decisionOf(stranger, { permission: 'a.b', policyVersion: 'v' }));
    const bad = new Set([many[7]!.decisionId, many[41]!.decisionId]);
    const taken: string[] = [];
    const refusing = decisionLog({
      ...{ service: 'orders', db, denials: denials(), registry: createRegistry('refusing') },
      async send(_call, _requestId, decisions) {
        if (decisions.some((one) => bad.has(one.decisionId))) {
          throw rpcError('INVALID_ARGUMENT', 'FIELDS_INVALID', 'subject has a strange form');
        }
        taken.push(...decisions.map((one) => one.decisionId));
      },
    });
    await db.write(null, (sql) => insertDecisions(sql, many));
    const call = open('decisions', 20_000);
    const job = refusing.periodicJobs.find((one) => one.name === 'decisions')!;
    await job.run(call);
    t.strictSame(
      taken,
      many.map((one) => one.decisionId).filter((id) => !bad.has(id)),
      'every other record is taken, in order',
    );
    t.strictSame(await pending(), [], 'and those two are not tried again');
    const kept = await db.read(null, (sql) =>
      sql.query<{ id: string; refusal: string }>('select decision_id as id, refusal from decision_outbox'),
    );
    t.strictSame(new Set(kept.map(({ id }) => id)), bad);
    t.match(kept[0]?.refusal, /^INVALID_ARGUMENT FIELDS_INVALID: subject/);
    t.equal(await metric('armature_decisions_refused'), 2);
    await job.run(call);
    t.equal(taken.length, 58);

    const [first, ...others] = [...bad];
    bad.delete(first!);
    const runbook = await readFile(new URL('../../../docs/runbooks/policy-stale.md', import.meta.url), 'utf8');
    const [putBack] = runbook.match(/update decision_outbox [^;]+/) ?? [];
    await db.write(null, (sql) => sql.execute(putBack!));
    await job.run(call);
    t.strictSame(taken.slice(58), [first], 'after the statement of the runbook they are tried again');
    t.equal(await metric('armature_decisions_refused'), others.length);
    await db.write(null, (sql) => sql.execute('update decision_outbox set refused_at = refused_at - interval 8 day'));
    t.equal(await runJob('old decisions'), 1, 'they go after a week');
    call.close();
  });

  t.test('denials outlive a database that fails', async (t) => {
    await db.write(null, (sql) => sql.execute('rename table decision_outbox to gone'));
    collected.denied(stranger, 'a.b', 'no', 'v1');
    await t.rejects(runJob('denials'));
    await db.write(null, (sql) => sql.execute('rename table gone to decision_outbox'));
    await runJob('denials');
    t.match(await pending(), [{ decision: { permission: 'a.b', allowed: false } }]);
  });

  t.test('drops what is old only when there is too much', async (t) => {
    const old = new Date(Date.now() - 8 * 24 * 3_600_000);
    const made = (decideTime: Date) => ({
      ...decisionOf(stranger, { permission: 'a.b', policyVersion: 'v' }),
      decideTime,
    });
    await db.write(null, (sql) => insertDecisions(sql, [made(old), made(old), made(new Date())]));
    t.equal(await runJob('old decisions'), 0);
    await db.write(null, (sql) =>
      sql.execute('update decision_outbox set position = position + 200000 order by position desc limit 1'),
    );
    t.equal(await runJob('old decisions'), 2);
    t.equal(await metric('armature_decisions_dropped_total'), 3);
    t.equal(await db.read(null, (sql) => countDecisions(sql, 10)), 1, 'new ones are never dropped');
  });
});
