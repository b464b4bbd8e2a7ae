import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { PaymentState } from '@armature/proto/payments/v1/payments.ts';
import t, { type Test } from 'tap';
import { connectMysql } from '../../scripts/devmesh/servers/mysql.ts';
import { refusal } from '../../test/support/refusal.ts';
import { developerCredentials, startService, token, workloadCertificate } from '../../test/support/service.ts';
import { acquirerLog } from './books.ts';
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

/** Quick to look after what was left behind. */
const impatient = {
  ARMATURE_ACQUIRER_TIMEOUT_MS: '400',
  ARMATURE_PENDING_RESOLVE_MS: '300',
  ARMATURE_PENDING_ABANDON_MS: '600',
  ARMATURE_PENDING_SWEEP_MS: '50',
};
/** Leaves everything to the callers. */
const patient = { ...impatient, ARMATURE_PENDING_RESOLVE_MS: '600000' };

let service = await startService(t, 'payments', { acquirerUrl: proxy.url, env: patient });
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

async function nothingUnderWay(): Promise<void> {
  const deadline = Date.now() + 15_000;
  for (;;) {
    const open = await query("select kind, failure_code from payment_operation where state = 'PENDING'");
    if (open.length === 0) return;
    if (Date.now() > deadline)
      throw new Error(`still under way: ${JSON.stringify(open)}: ${service.logs().slice(-2_000)}`);
    await sleep(50);
  }
}

const kinds = ['authorize', 'capture', 'void', 'refund'] as const;
/** Operations that come before the one that is to be interrupted. */
const before = { authorize: 0, capture: 1, void: 1, refund: 2 };
const ends = {
  authorize: PAYMENT_STATE_AUTHORIZED,
  capture: PAYMENT_STATE_CAPTURED,
  void: PAYMENT_STATE_VOIDED,
  refund: PAYMENT_STATE_CAPTURED,
};

type Kind = (typeof kinds)[number];
type Wish = ReturnType<Bed['wish']>;

/** Does what comes before an operation of this kind. */
async function prepare(kind: Kind, wish: Wish): Promise<void> {
  const { paymentId } = wish;
  if (kind !== 'authorize') await bed.orders.authorizePayment(wish);
  if (kind === 'refund') await bed.orders.capturePayment({ paymentId });
}

function ask(kind: Kind, wish: Wish, requestId: string, timeoutMs: number): Promise<unknown> {
  const { paymentId, orderId } = wish;
  const { orders } = bed;
  switch (kind) {
    case 'authorize':
      return orders.authorizePayment({ ...wish, requestId }, { timeoutMs });
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
  wish: Wish;
  requestId: string;
}

/** Arms a point of payments for a pass after those that come before these kinds. Nothing else ends an operation there. */
const armed = (env: Record<string, string>, point: string, of: readonly Kind[], pass = 1) => ({
  ...env,
  ARMATURE_ACQUIRER_TIMEOUT_MS: '10000',
  ARMATURE_PENDING_SWEEP_MS: '60000',
  ARMATURE_CRASH_POINTS: `payments.${point}:${of.reduce((sum, kind) => sum + before[kind], pass)}`,
});

/** Has operations of these kinds interrupted together by a service that is armed for that. */
async function interrupt(t: Test, of: readonly Kind[], point: string): Promise<Interrupted[]> {
  const all = of.map((kind) => ({ kind, wish: bed.wish(), requestId: randomUUID() }));
  for (const { kind, wish } of all) await prepare(kind, wish);
  if (of.length > 1) proxy.gather(point === 'before-acquirer' ? 'requests' : 'responses', of.length);
  const asked = await Promise.allSettled(all.map(({ kind, wish, requestId }) => ask(kind, wish, requestId, 10_000)));
  t.ok(
    asked.every(({ status }) => status === 'rejected'),
    'no caller gets a response',
  );
  proxy.pass();
  t.equal(await service.stop(), 'SIGKILL');
  return all;
}

/** The caller asks again: what it gets, and that nothing was done twice. */
async function comesBack(t: Test, { kind, wish, requestId }: Interrupted, calledOff = false): Promise<void> {
  const answer = ask(kind, wish, requestId, 10_000);
  // Only the caller has the card: an authorization that payments never sent is cancelled.
  if (calledOff) await t.rejects(answer, refusal({ code: 'FAILED_PRECONDITION', reason: 'PAYMENT_VOIDED' }), kind);
  else t.match(await answer, { state: ends[kind] }, kind);
  const log = (await logOf(wish.orderId)).map((one) => one.kind);
  t.equal(new Set(log).size, log.length, `${kind}: the acquirer did nothing twice`);
  t.equal((await bed.ledger.listEntries({ paymentId: wish.paymentId })).entries.length, log.length);
}

for (const [title, env, point, of] of [
  ['the periodic job completes what kill -9 interrupted', impatient, 'before-acquirer', kinds],
  ['the periodic job completes what kill -9 interrupted', impatient, 'after-acquirer', kinds],
  // Rolled back is as good as not yet begun, whatever was to be committed: one kind shows it.
  ['the periodic job completes what kill -9 interrupted', impatient, 'before-ledger-commit', ['capture']],
  ['a retry of the caller completes what kill -9 interrupted', patient, 'after-acquirer', kinds],
] as const) {
  t.test(`${title} at payments.${point}`, async (t) => {
    // Before the acquirer the last of them kills, and the requests of the others never arrive there.
    await restart(armed(env, point, of, point === 'before-acquirer' ? of.length : 1));
    const interrupted = await interrupt(t, of, point);
    await restart(env);
    if (env === impatient) await nothingUnderWay();
    for (const one of interrupted) {
      const calledOff = env === impatient && one.kind === 'authorize' && point === 'before-acquirer';
      await comesBack(t, one, calledOff);
    }
    await nothingUnderWay();
  });
}

t.test('a caller that comes back gets the answer it missed', async (t) => {
  await restart(armed(patient, 'after-ledger-commit', ['authorize']));
  for (const [index, kind] of kinds.entries()) {
    await t.test(kind, async (t) => {
      const [one] = await interrupt(t, [kind], 'after-ledger-commit');
      // The next process is armed for the next kind already; the repeat passes the point once before.
      const next = kinds[index + 1];
      await restart(next ? armed(patient, 'after-ledger-commit', [next], 2) : patient);
      await comesBack(t, one!);
    });
  }
});

t.test('while the acquirer is away the outcome is unknown, and asking again continues', async (t) => {
  await acquirer.kill();
  const wish = bed.wish();
  await t.rejects(
    bed.orders.authorizePayment(wish),
    refusal({ code: 'UNAVAILABLE', reason: 'ACQUIRER_UNAVAILABLE', details: { retryDelayMs: 500 } }),
  );
  t.match(await bed.orders.getPayment({ paymentId: wish.paymentId }), { state: PaymentState.PAYMENT_STATE_PENDING });
  await t.rejects(bed.orders.capturePayment({ paymentId: wish.paymentId }), refusal({ reason: 'PAYMENT_STATE' }));
  const reused = refusal({ code: 'INVALID_ARGUMENT', reason: 'REQUEST_ID_REUSED' });
  const otherCard = { ...wish, paymentMethod: 'card_declined' };
  await t.rejects(bed.orders.authorizePayment(otherCard), reused, 'another payment method is another request');
  await restartAcquirer();
  t.match(await bed.orders.authorizePayment(wish), { state: PAYMENT_STATE_AUTHORIZED });
  await acquirer.kill();
  const capture = { paymentId: wish.paymentId, requestId: randomUUID() };
  const unavailable = refusal({ code: 'UNAVAILABLE', reason: 'ACQUIRER_UNAVAILABLE' });
  await t.rejects(bed.orders.capturePayment(capture), unavailable);
  await t.rejects(
    bed.orders.voidPayment(wish),
    refusal({ code: 'ABORTED', reason: 'CONTENTION' }),
    'the capture decides',
  );
  await restartAcquirer();
  t.match(await bed.orders.capturePayment(capture), { state: PAYMENT_STATE_CAPTURED });
  t.strictSame(
    (await logOf(wish.orderId)).map((one) => one.kind),
    ['authorization', 'capture'],
  );
});

t.test('a capture that is pending while the key of request hashes is replaced', async (t) => {
  const wish = bed.wish();
  await bed.orders.authorizePayment(wish);
  await acquirer.kill();
  const capture = { paymentId: wish.paymentId, requestId: randomUUID() };
  const unavailable = refusal({ code: 'UNAVAILABLE', reason: 'ACQUIRER_UNAVAILABLE' });
  await t.rejects(bed.orders.capturePayment(capture), unavailable);
  const other = bed.wish();
  await t.rejects(bed.orders.authorizePayment(other), unavailable);
  const rotated = 'another key of at least thirty-two characters';
  await restart({ ...patient, ARMATURE_REQUEST_HASH_KEY: rotated });
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
  const wish = bed.wish();
  const { paymentId } = wish;
  await bed.orders.authorizePayment(wish);
  await bed.orders.capturePayment({ paymentId });
  await acquirer.kill();
  const part = { paymentId, requestId: randomUUID(), amount: eur(400n) };
  const unavailable = refusal({ code: 'UNAVAILABLE', reason: 'ACQUIRER_UNAVAILABLE' });
  await t.rejects(bed.orders.refundPayment(part), unavailable);
  const rest = { paymentId, requestId: randomUUID() };
  await t.rejects(
    bed.orders.refundPayment(rest),
    refusal({ code: 'ABORTED', reason: 'CONTENTION', details: { retryDelayMs: 100 } }),
    'it is asked for again',
  );
  await restartAcquirer();
  t.match(await bed.orders.refundPayment(part), { moved: eur(400n) });
  t.match(await bed.orders.refundPayment(rest), { moved: eur(600n), refunded: eur(1_000n) });
});

t.test('an acquirer that dies after acting is believed when it is back', async (t) => {
  await restart(impatient);
  const wish = bed.wish({ card: 'card_timeout_after_auth' });
  const asked = bed.orders.authorizePayment(wish, { timeoutMs: 5_000 }).catch((error) => error.reason);
  const deadline = Date.now() + 5_000;
  while ((await logOf(wish.orderId)).length === 0 && Date.now() < deadline) await sleep(5);
  await acquirer.kill();
  t.equal(await asked, 'ACQUIRER_UNAVAILABLE');
  await restartAcquirer();
  await nothingUnderWay();
  t.match(await bed.orders.getPayment({ paymentId: wish.paymentId }), { state: PAYMENT_STATE_AUTHORIZED });
  t.equal((await logOf(wish.orderId)).length, 1, 'one charge');
});

t.test('a caller that gives up leaves nothing undone', async (t) => {
  const wish = bed.wish({ card: 'card_slow' });
  await t.rejects(bed.orders.authorizePayment(wish, { timeoutMs: 250 }), refusal({ code: 'DEADLINE_EXCEEDED' }));
  await nothingUnderWay();
  t.match(await bed.orders.getPayment({ paymentId: wish.paymentId }), { state: PAYMENT_STATE_AUTHORIZED });
});
