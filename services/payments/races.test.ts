import { randomInt, randomUUID } from 'node:crypto';
import { PaymentState } from '@armature/proto/payments/v1/payments.ts';
import { RpcError } from '@armature/runtime';
import t from 'tap';
import { connectMysql } from '../../scripts/devmesh/servers/mysql.ts';
import { seeded } from '../../test/support/random.ts';
import { refusal } from '../../test/support/refusal.ts';
import { developerCredentials, startService, token, workloadCertificate } from '../../test/support/service.ts';
import { acquirerLog } from '../../test/verification/invariants/ledger-checks.ts';
import { booksInOrder, openBed, queryOf } from './testbed.ts';

const acquirer = await startService(t, 'acquirer', { env: { ARMATURE_ACQUIRER_SLOW_MS: '400' } });
const acquirerUrl = `http://${acquirer.http}`;
const service = await startService(t, 'payments', {
  acquirerUrl,
  env: { ARMATURE_ACQUIRER_TIMEOUT_MS: '1000', ARMATURE_LOG_LEVEL: 'warn' },
});
const bed = openBed({
  grpc: service.grpc,
  acquirer: acquirerUrl,
  ordersTls: await workloadCertificate('orders'),
  developerTls: await developerCredentials(),
  tokens: { bo: await token('bo'), ada: await token('ada'), admin: await token('admin') },
});
const database = await connectMysql(service.database!.adminUrl);
const query = queryOf(database);
t.teardown(async () => {
  bed.close();
  await database.end();
});
const { orders, newAuthorization } = bed;
const inOrder = async () => booksInOrder(query, acquirerUrl, await bed.ledger.getTrialBalance({}));
t.afterEach(inOrder);

const logOf = async (orderId: string) =>
  (await acquirerLog(acquirerUrl)).filter((one) => one.order_reference === orderId);
const eur = (amountMinor: bigint) => ({ currencyCode: 'EUR', amountMinor });
const times = <T>(count: number, work: (index: number) => Promise<T>) =>
  Promise.allSettled(Array.from({ length: count }, (_, index) => work(index)));

/** How many ended in which way: "ok", or the reason of the refusal. */
function tally(results: PromiseSettledResult<unknown>[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const result of results) {
    const key = result.status === 'fulfilled' ? 'ok' : reasonOf(result.reason);
    counts[key] = (counts[key] ?? 0) + 1;
  }
  return counts;
}

function reasonOf(error: unknown): string {
  if (!(error instanceof RpcError)) throw error;
  return error.reason;
}

t.test('twenty captures at once take the money once', async (t) => {
  const { paymentId, orderId } = await authorizedPayment();
  const counts = tally(await times(20, () => orders.capturePayment({ paymentId })));
  t.equal(counts.ok, 1);
  t.equal((counts.CONTENTION ?? 0) + (counts.PAYMENT_STATE ?? 0), 19, JSON.stringify(counts));
  t.equal((await logOf(orderId)).filter((one) => one.kind === 'capture').length, 1, 'the acquirer was asked for one');
});

t.test('twenty refunds at once never exceed the capture', async (t) => {
  const { paymentId, orderId } = await authorizedPayment();
  await orders.capturePayment({ paymentId });
  const counts = tally(await times(20, () => orders.refundPayment({ paymentId, amount: eur(150n) })));
  t.strictSame(counts, { ok: 6, REFUND_EXCEEDS_CAPTURE: 14 });
  t.match(await orders.getPayment({ paymentId }), { refunded: eur(900n), state: PaymentState.PAYMENT_STATE_CAPTURED });
  t.equal((await logOf(orderId)).filter((one) => one.kind === 'refund').length, 6, 'the acquirer refused none');
});

t.test('twenty concurrent copies of one request have one effect and one response', async (t) => {
  const request = newAuthorization();
  const authorizations = await times(20, () => orders.authorizePayment(request));
  const { paymentId, orderId } = request;
  const capture = { paymentId, requestId: randomUUID() };
  const captures = await times(20, () => orders.capturePayment(capture));
  const refund = { paymentId, requestId: randomUUID(), amount: eur(10n) };
  const refunds = await times(20, () => orders.refundPayment(refund));
  for (const results of [authorizations, captures, refunds]) {
    t.strictSame(tally(results), { ok: 20 });
    const [first] = results;
    t.ok(
      results.every((result) => JSON.stringify(result, shown) === JSON.stringify(first, shown)),
      'all the same',
    );
  }
  t.strictSame(
    (await logOf(orderId)).map((one) => one.kind),
    ['authorization', 'capture', 'refund'],
  );
});

t.test('one payment id in twenty requests belongs to one of them', async (t) => {
  const paymentId = randomUUID();
  t.strictSame(tally(await times(20, () => orders.authorizePayment(newAuthorization({ paymentId })))), {
    ok: 1,
    PAYMENT_EXISTS: 19,
  });
});

t.test('one request id on twenty payments belongs to one of them', async (t) => {
  const payments = await Promise.all(Array.from({ length: 20 }, () => authorizedPayment()));
  const requestId = randomUUID();
  const captures = await times(20, (index) =>
    orders.capturePayment({ requestId, paymentId: payments[index]!.paymentId }),
  );
  t.strictSame(tally(captures), { ok: 1, REQUEST_ID_REUSED: 19 });
  const authorizations = await times(20, () => orders.authorizePayment(newAuthorization({ requestId })));
  t.strictSame(tally(authorizations), { ok: 1, REQUEST_ID_REUSED: 19 });
  const voids = await times(20, () =>
    orders.voidPayment({ requestId, paymentId: randomUUID(), orderId: randomUUID() }),
  );
  t.strictSame(tally(voids), { ok: 1, REQUEST_ID_REUSED: 19 });
});

t.test('voids of one payment that does not exist yet', async (t) => {
  const [paymentId, orderId] = [randomUUID(), randomUUID()];
  t.strictSame(tally(await times(20, () => orders.voidPayment({ paymentId, orderId }))), { ok: 20 });
  t.equal((await query('select events from payment where payment_id = ?', [paymentId]))[0].events, 1);
});

t.test('captures and voids at once: one of them wins', async (t) => {
  for (let round = 0; round < 5; round += 1) {
    const { paymentId, orderId } = await authorizedPayment();
    const results = await times(10, (index) =>
      index % 2 ? orders.capturePayment({ paymentId }) : orders.voidPayment({ paymentId, orderId }),
    );
    const log = (await logOf(orderId)).map((one) => `${one.kind} ${one.status}`);
    t.equal(log.length, 2, `${log.join(', ')}: ${JSON.stringify(tally(results))}`);
  }
});

t.test('a void cancels an authorization that is still running', async (t) => {
  for (const card of ['card_slow', 'card_timeout_before_auth']) {
    const request = newAuthorization({ card });
    const { paymentId, orderId } = request;
    const pending = orders.authorizePayment(request).then(
      () => 'ok',
      (error) => reasonOf(error),
    );
    await untilState(paymentId, 'PENDING');
    t.match(await orders.voidPayment({ paymentId, orderId }), { state: PaymentState.PAYMENT_STATE_VOIDED }, card);
    t.equal(await pending, 'PAYMENT_VOIDED', card);
    await t.rejects(orders.authorizePayment(request), refusal({ reason: 'PAYMENT_VOIDED' }), 'for good');
    t.strictSame(await logOf(orderId), [], 'the acquirer recorded nothing');
  }
});

t.test('a void of an authorization that acted releases its hold', async (t) => {
  for (const card of ['card_timeout_after_auth', 'card_webhook']) {
    const request = newAuthorization({ card });
    const { paymentId, orderId } = request;
    const pending = orders.authorizePayment(request).catch((error) => reasonOf(error));
    await untilState(paymentId, 'PENDING');
    await untilLogged(orderId);
    t.match(await orders.voidPayment({ paymentId, orderId }), { state: PaymentState.PAYMENT_STATE_VOIDED }, card);
    await pending;
    t.equal((await logOf(orderId)).at(-1)?.status, 'voided', card);
    const kinds = (await bed.ledger.listEntries({ paymentId })).entries.map((entry) => entry.kind);
    t.strictSame(kinds, ['authorize', 'void']);
  }
});

t.test('random concurrent requests for a few payments', async (t) => {
  const seed = randomInt(2 ** 31);
  t.comment(`seed ${seed}`);
  const { between, pick } = seeded(seed);
  const cards = [
    'card_ok',
    'card_ok',
    'card_slow',
    'card_webhook',
    'card_error_once',
    'card_declined',
    'card_capture_declined',
  ];
  const payments = Array.from({ length: 12 }, () => newAuthorization({ card: pick(cards) }));
  const requestIds = Array.from({ length: 60 }, () => randomUUID());
  const results = await times(400, () => {
    const payment = pick(payments);
    const { paymentId, orderId } = payment;
    const requestId = pick(requestIds);
    const amount = eur(BigInt(between(1, 500)));
    return pick([
      () => orders.authorizePayment({ ...payment, requestId: pick([payment.requestId, requestId]) }),
      () => orders.authorizePayment(payment),
      () => orders.capturePayment({ requestId, paymentId }),
      () => orders.voidPayment({ requestId, paymentId, orderId }),
      () => orders.refundPayment({ requestId, paymentId, amount }),
    ])();
  });
  const counts = tally(results);
  t.comment(JSON.stringify(counts));
  t.notOk(counts.INTERNAL, `nothing went wrong inside: ${service.logs().slice(-4_000)}`);
  const [{ open }] = await query("select count(*) as open from payment_operation where state = 'PENDING'");
  t.equal(Number(open), 0, 'nothing is left pending');
});

t.test('the check of the books detects violations', async (t) => {
  for (const [what, spoil, restore] of [
    [
      'a balance',
      'update account_balance set posted_minor = posted_minor + 1 where account = "sales" limit 1',
      'update account_balance set posted_minor = posted_minor - 1 where account = "sales" limit 1',
    ],
    [
      'a posting',
      'update ledger_posting set amount_minor = amount_minor + 1 where line = 1 order by position limit 1',
      'update ledger_posting set amount_minor = amount_minor - 1 where line = 1 order by position limit 1',
    ],
    [
      'an external id',
      'update ledger_entry set external_id = concat(external_id, "x") order by position limit 1',
      'update ledger_entry set external_id = left(external_id, length(external_id) - 1) order by position limit 1',
    ],
    [
      'an event',
      'update payment set events = events + 1 order by payment_id limit 1',
      'update payment set events = events - 1 order by payment_id limit 1',
    ],
  ] as const) {
    await database.query(spoil);
    await t.rejects(inOrder(), /the books are not in order/, what);
    await database.query(restore);
  }
});

async function authorizedPayment() {
  const request = newAuthorization();
  await orders.authorizePayment(request);
  return request;
}

/** Waits until the intent is committed, so that the next request runs against it. */
async function untilState(paymentId: string, state: string): Promise<void> {
  const deadline = Date.now() + 5_000;
  for (;;) {
    const [row] = await query('select state from payment where payment_id = ?', [paymentId]);
    if (row?.state === state) return;
    if (Date.now() > deadline) throw new Error(`payment ${paymentId} is ${row?.state}, not ${state}`);
  }
}

async function untilLogged(orderId: string): Promise<void> {
  const deadline = Date.now() + 5_000;
  while ((await logOf(orderId)).length === 0) {
    if (Date.now() > deadline) throw new Error(`the acquirer has no record of ${orderId}`);
  }
}

function shown(_key: string, value: unknown): unknown {
  return typeof value === 'bigint' ? String(value) : value;
}
