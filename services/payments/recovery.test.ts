import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { PaymentState } from '@armature/proto/payments/v1/payments.ts';
import { until } from '@armature/runtime/testing';
import t, { type Test } from 'tap';
import { connectMysql } from '../../scripts/devmesh/servers/mysql.ts';
import { refusal } from '../../test/support/refusal.ts';
import { developerCredentials, startService, token, workloadCertificate } from '../../test/support/service.ts';
import { long } from '../../test/support/tier.ts';
import { acquirerLog } from '../../test/verification/invariants/ledger-checks.ts';
import { type Bed, booksInOrder, openAcquirerProxy, openBed, queryOf } from './testbed.ts';

// A dozen starts of a service take longer than a test usually may.
t.setTimeout(290_000);
const acquirerDir = t.testdir();
const acquirerEnv = { ARMATURE_ACQUIRER_SLOW_MS: '300', ARMATURE_ACQUIRER_DATA_DIR: acquirerDir };
let acquirer = await startService(t, 'acquirer', { env: acquirerEnv });
const acquirerUrl = `http://${acquirer.http}`;
const restartAcquirer = async () => {
  acquirer = await startService(t, 'acquirer', { env: acquirerEnv, http: acquirer.http });
};

const proxy = await openAcquirerProxy(t, acquirerUrl);

/** The periodic job runs often. */
const withJob = {
  ARMATURE_ACQUIRER_TIMEOUT_MS: '400',
  ARMATURE_PENDING_RESOLVE_MS: '300',
  ARMATURE_PENDING_ABANDON_MS: '600',
  ARMATURE_PENDING_SWEEP_MS: '50',
};
/** The periodic job does not run during the test. */
const withoutJob = { ...withJob, ARMATURE_PENDING_RESOLVE_MS: '600000' };

let service = await startService(t, 'payments', { acquirerUrl: proxy.url, env: withoutJob });
const { database, vhost } = service;
const connection = await connectMysql(database!.adminUrl);
const query = queryOf(connection);
const tokens = { bo: await token('bo'), ada: await token('ada'), admin: await token('admin') };
let bed = await connect();
t.teardown(async () => {
  bed.close();
  await connection.end();
});

async function connect(): Promise<Bed> {
  return openBed({
    grpc: service.grpc,
    acquirer: acquirerUrl,
    ordersTls: await workloadCertificate('orders'),
    developerTls: await developerCredentials(),
    tokens,
  });
}

async function restart(env: Record<string, string>): Promise<void> {
  bed.close();
  await service.stop();
  service = await startService(t, 'payments', { acquirerUrl: proxy.url, env, database, vhost });
  bed = await connect();
}

t.afterEach(async () => booksInOrder(query, acquirerUrl, await bed.ledger.getTrialBalance({})));

const logOf = async (orderId: string) =>
  (await acquirerLog(acquirerUrl)).filter((one) => one.order_reference === orderId);
const { PAYMENT_STATE_AUTHORIZED, PAYMENT_STATE_CAPTURED, PAYMENT_STATE_VOIDED } = PaymentState;

async function untilNothingIsPending(): Promise<void> {
  const deadline = Date.now() + 15_000;
  for (;;) {
    const open = await query("select kind, failure_code from payment_operation where state = 'PENDING'");
    if (open.length === 0) return;
    if (Date.now() > deadline)
      throw new Error(`still pending: ${JSON.stringify(open)}: ${service.logs().slice(-2_000)}`);
    await sleep(50);
  }
}

const kinds = ['authorize', 'capture', 'void', 'refund'] as const;
/** Those that one test repeats, with a restart for each. */
const repeated = long ? kinds : (['authorize', 'refund'] as const);
/** The number of operations before the one that is interrupted. */
const before = { authorize: 0, capture: 1, void: 1, refund: 2 };
const ends = {
  authorize: PAYMENT_STATE_AUTHORIZED,
  capture: PAYMENT_STATE_CAPTURED,
  void: PAYMENT_STATE_VOIDED,
  refund: PAYMENT_STATE_CAPTURED,
};

type Kind = (typeof kinds)[number];
type Authorization = ReturnType<Bed['newAuthorization']>;

/** Runs the operations before an operation of this kind. */
async function prepare(kind: Kind, authorization: Authorization): Promise<void> {
  const { paymentId } = authorization;
  if (kind !== 'authorize') await bed.orders.authorizePayment(authorization);
  if (kind === 'refund') await bed.orders.capturePayment({ paymentId });
}

function sendRequest(kind: Kind, authorization: Authorization, requestId: string, timeoutMs: number): Promise<unknown> {
  const { paymentId, orderId } = authorization;
  const { orders } = bed;
  switch (kind) {
    case 'authorize':
      return orders.authorizePayment({ ...authorization, requestId }, { timeoutMs });
    case 'capture':
      return orders.capturePayment({ requestId, paymentId }, { timeoutMs });
    case 'void':
      return orders.voidPayment({ requestId, paymentId, orderId }, { timeoutMs });
    case 'refund':
      return orders.refundPayment(
        { requestId, paymentId, amount: { currencyCode: 'EUR', amountMinor: 400n } },
        { timeoutMs },
      );
  }
}

interface Interrupted {
  kind: Kind;
  authorization: Authorization;
  requestId: string;
}

/** Arms a crash point of payments, for a pass after those of the earlier operations. The periodic job does not run. */
const armed = (env: Record<string, string>, point: string, of: readonly Kind[], pass = 1) => ({
  ...env,
  ARMATURE_ACQUIRER_TIMEOUT_MS: '10000',
  ARMATURE_PENDING_SWEEP_MS: '60000',
  ARMATURE_CRASH_POINTS: `payments.${point}:${of.reduce((sum, kind) => sum + before[kind], pass)}`,
});

/** Interrupts operations of these kinds together, by an armed crash point of the service. */
async function interrupt(t: Test, of: readonly Kind[], point: string): Promise<Interrupted[]> {
  const all = of.map((kind) => ({ kind, authorization: bed.newAuthorization(), requestId: randomUUID() }));
  for (const { kind, authorization } of all) await prepare(kind, authorization);
  if (of.length > 1) proxy.gather(point === 'before-acquirer' ? 'requests' : 'responses', of.length);
  const responses = await Promise.allSettled(
    all.map(({ kind, authorization, requestId }) => sendRequest(kind, authorization, requestId, 10_000)),
  );
  t.ok(
    responses.every(({ status }) => status === 'rejected'),
    'no caller gets a response',
  );
  proxy.pass();
  t.equal(await service.stop(), 'SIGKILL');
  return all;
}

/** Checks the response to a retry of the caller, and that the acquirer did nothing twice. */
async function checkRetry(t: Test, { kind, authorization, requestId }: Interrupted, cancelled = false): Promise<void> {
  const response = sendRequest(kind, authorization, requestId, 10_000);
  // Only the request contains the card, so the job cancels an authorization that was never sent.
  if (cancelled) await t.rejects(response, refusal({ code: 'FAILED_PRECONDITION', reason: 'PAYMENT_VOIDED' }), kind);
  else t.match(await response, { state: ends[kind] }, kind);
  const log = (await logOf(authorization.orderId)).map((one) => one.kind);
  t.equal(new Set(log).size, log.length, `${kind}: the acquirer did nothing twice`);
  t.equal((await bed.ledger.listEntries({ paymentId: authorization.paymentId })).entries.length, log.length);
}

for (const [title, env, point, of] of [
  ['the periodic job completes what kill -9 interrupted', withJob, 'before-acquirer', kinds],
  ['the periodic job completes what kill -9 interrupted', withJob, 'after-acquirer', kinds],
  // The rollback is the same for every kind, so one kind is enough.
  ['the periodic job completes what kill -9 interrupted', withJob, 'before-ledger-commit', ['capture']],
  ['a retry of the caller completes what kill -9 interrupted', withoutJob, 'after-acquirer', kinds],
] as const) {
  // The crash test kills at every point too.
  if (!long && point === 'before-ledger-commit') continue;
  t.test(`${title} at payments.${point}`, async (t) => {
    // Before the acquirer, the last operation passes the crash point, and no request reaches the acquirer.
    await restart(armed(env, point, of, point === 'before-acquirer' ? of.length : 1));
    const interrupted = await interrupt(t, of, point);
    await restart(env);
    if (env === withJob) await untilNothingIsPending();
    for (const one of interrupted) {
      const cancelled = env === withJob && one.kind === 'authorize' && point === 'before-acquirer';
      await checkRetry(t, one, cancelled);
    }
    await untilNothingIsPending();
  });
}

t.test('a retry of the caller gets the response that it missed', async (t) => {
  await restart(armed(withoutJob, 'after-ledger-commit', ['authorize']));
  for (const [index, kind] of repeated.entries()) {
    await t.test(kind, async (t) => {
      const [one] = await interrupt(t, [kind], 'after-ledger-commit');
      // The next process is armed for the next kind. The retry passes the crash point once before.
      const next = repeated[index + 1];
      await restart(next ? armed(withoutJob, 'after-ledger-commit', [next], 2) : withoutJob);
      await checkRetry(t, one!);
    });
  }
});

t.test('while the acquirer is down the outcome is unknown, and a retry continues', async (t) => {
  await acquirer.kill();
  const authorization = bed.newAuthorization();
  await t.rejects(
    bed.orders.authorizePayment(authorization),
    refusal({ code: 'UNAVAILABLE', reason: 'ACQUIRER_UNAVAILABLE', details: { retryDelayMs: 500 } }),
  );
  t.match(await bed.orders.getPayment({ paymentId: authorization.paymentId }), {
    state: PaymentState.PAYMENT_STATE_PENDING,
  });
  await t.rejects(
    bed.orders.capturePayment({ paymentId: authorization.paymentId }),
    refusal({ reason: 'PAYMENT_STATE' }),
  );
  const reused = refusal({ code: 'INVALID_ARGUMENT', reason: 'REQUEST_ID_REUSED' });
  const otherCard = { ...authorization, paymentMethod: 'card_declined' };
  await t.rejects(bed.orders.authorizePayment(otherCard), reused, 'another payment method is another request');
  await restartAcquirer();
  t.match(await bed.orders.authorizePayment(authorization), { state: PAYMENT_STATE_AUTHORIZED });
  await acquirer.kill();
  const capture = { paymentId: authorization.paymentId, requestId: randomUUID() };
  const unavailable = refusal({ code: 'UNAVAILABLE', reason: 'ACQUIRER_UNAVAILABLE' });
  await t.rejects(bed.orders.capturePayment(capture), unavailable);
  await t.rejects(
    bed.orders.voidPayment(authorization),
    refusal({ code: 'ABORTED', reason: 'CONTENTION' }),
    'the capture decides',
  );
  await restartAcquirer();
  t.match(await bed.orders.capturePayment(capture), { state: PAYMENT_STATE_CAPTURED });
  t.strictSame(
    (await logOf(authorization.orderId)).map((one) => one.kind),
    ['authorization', 'capture'],
  );
});

t.test('a capture that is pending while the key of request hashes is replaced', async (t) => {
  const authorization = bed.newAuthorization();
  await bed.orders.authorizePayment(authorization);
  await acquirer.kill();
  const capture = { paymentId: authorization.paymentId, requestId: randomUUID() };
  const unavailable = refusal({ code: 'UNAVAILABLE', reason: 'ACQUIRER_UNAVAILABLE' });
  await t.rejects(bed.orders.capturePayment(capture), unavailable);
  const other = bed.newAuthorization();
  await t.rejects(bed.orders.authorizePayment(other), unavailable);
  const rotated = 'another key of at least thirty-two characters';
  await restart({ ...withoutJob, ARMATURE_REQUEST_HASH_KEY: rotated });
  await restartAcquirer();
  t.match(
    await bed.orders.authorizePayment(other),
    { state: PAYMENT_STATE_AUTHORIZED },
    'the digest of its method is under the key before',
  );
  t.match(await bed.orders.capturePayment(capture), { state: PAYMENT_STATE_CAPTURED });
  await t.rejects(
    bed.orders.capturePayment({ ...capture, paymentId: other.paymentId }),
    refusal({ code: 'INVALID_ARGUMENT', reason: 'REQUEST_ID_REUSED' }),
    'another payment is another request',
  );
});

t.test('the rest is not known while another refund is pending', async (t) => {
  const eur = (amountMinor: bigint) => ({ currencyCode: 'EUR', amountMinor });
  const authorization = bed.newAuthorization();
  const { paymentId } = authorization;
  await bed.orders.authorizePayment(authorization);
  await bed.orders.capturePayment({ paymentId });
  await acquirer.kill();
  const part = { paymentId, requestId: randomUUID(), amount: eur(400n) };
  const unavailable = refusal({ code: 'UNAVAILABLE', reason: 'ACQUIRER_UNAVAILABLE' });
  await t.rejects(bed.orders.refundPayment(part), unavailable);
  const rest = { paymentId, requestId: randomUUID() };
  await t.rejects(
    bed.orders.refundPayment(rest),
    refusal({ code: 'ABORTED', reason: 'CONTENTION', details: { retryDelayMs: 100 } }),
    'the client must retry',
  );
  await restartAcquirer();
  t.match(await bed.orders.refundPayment(part), { moved: eur(400n) });
  t.match(await bed.orders.refundPayment(rest), { moved: eur(600n), refunded: eur(1_000n) });
});

t.test('the outcome of an acquirer that is killed after acting is recorded after its restart', async (t) => {
  await restart(withJob);
  const authorization = bed.newAuthorization({ card: 'card_timeout_after_auth' });
  const response = bed.orders.authorizePayment(authorization, { timeoutMs: 5_000 }).catch((error) => error.reason);
  const deadline = Date.now() + 5_000;
  while ((await logOf(authorization.orderId)).length === 0 && Date.now() < deadline) await sleep(5);
  await acquirer.kill();
  t.equal(await response, 'ACQUIRER_UNAVAILABLE');
  await restartAcquirer();
  await untilNothingIsPending();
  t.match(await bed.orders.getPayment({ paymentId: authorization.paymentId }), { state: PAYMENT_STATE_AUTHORIZED });
  t.equal((await logOf(authorization.orderId)).length, 1, 'one charge');
});

t.test('an operation completes after its caller has given up', async (t) => {
  const authorization = bed.newAuthorization({ card: 'card_slow' });
  await t.rejects(
    bed.orders.authorizePayment(authorization, { timeoutMs: 250 }),
    refusal({ code: 'DEADLINE_EXCEEDED' }),
  );
  await untilNothingIsPending();
  t.match(await bed.orders.getPayment({ paymentId: authorization.paymentId }), { state: PAYMENT_STATE_AUTHORIZED });
});

t.test('a stop does not wait for an acquirer that does not respond', async (t) => {
  await restart({ ...withJob, ARMATURE_ACQUIRER_TIMEOUT_MS: '20000' });
  const [first, second] = [bed.newAuthorization(), bed.newAuthorization()];
  for (const authorization of [first, second]) await bed.orders.authorizePayment(authorization);
  proxy.gather('requests', 99);
  const gaveUp = refusal({ code: 'DEADLINE_EXCEEDED' });
  await t.rejects(bed.orders.capturePayment({ paymentId: first.paymentId }, { timeoutMs: 300 }), gaveUp);
  const waiting = t.rejects(bed.orders.capturePayment({ paymentId: second.paymentId }, { timeoutMs: 10_000 }));
  await until('the periodic job and a call wait for the acquirer', () => proxy.withheld() >= 3);
  const since = performance.now();
  t.equal(await service.stop(), 0);
  t.ok(performance.now() - since < 9_000, `stopped in ${Math.round(performance.now() - since)} ms`);
  await waiting;
  proxy.pass();
  await restart(withJob);
  await untilNothingIsPending();
  for (const { paymentId, orderId } of [first, second]) {
    t.match(await bed.orders.getPayment({ paymentId }), { state: PAYMENT_STATE_CAPTURED });
    t.equal((await logOf(orderId)).filter(({ kind }) => kind === 'capture').length, 1, 'captured once');
  }
});
