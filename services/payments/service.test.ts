import { randomUUID } from 'node:crypto';
import { PaymentState } from '@armature/proto/payments/v1/payments.ts';
import { derivedId } from '@armature/runtime/id';
import t from 'tap';
import { connectMysql } from '../../scripts/devmesh/servers/mysql.ts';
import { createDatabase } from '../../test/support/infra.ts';
import { refusal } from '../../test/support/refusal.ts';
import { developerCredentials, startService, token, workloadCertificate } from '../../test/support/service.ts';
import { acquirerLog } from '../../test/verification/invariants/ledger-checks.ts';
import { booksInOrder, openBed, queryOf } from './testbed.ts';

const slowMs = 150;
const acquirer = await startService(t, 'acquirer', { env: { ARMATURE_ACQUIRER_SLOW_MS: String(slowMs) } });
const acquirerUrl = `http://${acquirer.http}`;
const service = await startService(t, 'payments', {
  acquirerUrl,
  env: { ARMATURE_ACQUIRER_TIMEOUT_MS: '500', ARMATURE_LOG_LEVEL: 'debug' },
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
const { PAYMENT_STATE_AUTHORIZED, PAYMENT_STATE_CAPTURED, PAYMENT_STATE_DECLINED } = PaymentState;
const { PAYMENT_STATE_REFUNDED, PAYMENT_STATE_VOIDED } = PaymentState;

t.afterEach(async () => {
  await booksInOrder(query, acquirerUrl, await bed.ledger.getTrialBalance({}));
});

const logOf = async (orderId: string) =>
  (await acquirerLog(acquirerUrl)).filter((one) => one.order_reference === orderId);
const authorized = async (over: Parameters<typeof newAuthorization>[0] = {}) => {
  const request = newAuthorization(over);
  await orders.authorizePayment(request);
  return request;
};
const captured = async (over: Parameters<typeof newAuthorization>[0] = {}) => {
  const request = await authorized(over);
  await orders.capturePayment({ paymentId: request.paymentId });
  return request;
};

t.test('the test cards', async (t) => {
  for (const row of [
    { card: 'card_ok', state: PAYMENT_STATE_AUTHORIZED },
    { card: 'card_declined', state: PAYMENT_STATE_DECLINED, declineCode: 'card_declined' },
    { card: 'card_insufficient_funds', state: PAYMENT_STATE_DECLINED, declineCode: 'insufficient_funds' },
    { card: 'card_timeout_after_auth', state: PAYMENT_STATE_AUTHORIZED },
    { card: 'card_timeout_before_auth', state: PAYMENT_STATE_AUTHORIZED },
    { card: 'card_error_once', state: PAYMENT_STATE_AUTHORIZED },
    { card: 'card_slow', state: PAYMENT_STATE_AUTHORIZED },
    { card: 'card_webhook', state: PAYMENT_STATE_AUTHORIZED },
    {
      card: 'card_nobody_issued',
      state: PAYMENT_STATE_DECLINED,
      declineCode: 'payment_method_unknown',
      unlogged: true,
    },
  ]) {
    t.test(row.card, async (t) => {
      const request = newAuthorization({ card: row.card });
      const { moved, ...payment } = await orders.authorizePayment(request);
      const { state, declineCode = '' } = row;
      t.match(payment, { state, declineCode, amount: request.amount, version: 2n });
      const { moved: _, ...stored } = await orders.getPayment({ paymentId: request.paymentId });
      t.strictSame(stored, payment, 'the stored payment is the returned one');
      t.equal(moved?.amountMinor, state === PAYMENT_STATE_DECLINED ? 0n : request.amount.amountMinor);
      const charges = (await logOf(request.orderId)).filter((one) => one.kind === 'authorization');
      t.equal(charges.length, row.unlogged ? 0 : 1, 'exactly one charge at the acquirer');
    });
  }
});

t.test('a capture that times out after acting is one capture', async (t) => {
  const { paymentId, orderId, amount } = await authorized({ card: 'card_timeout_after_capture' });
  t.match(await orders.capturePayment({ paymentId }), { state: PAYMENT_STATE_CAPTURED, captured: amount });
  t.equal((await logOf(orderId)).filter((one) => one.kind === 'capture').length, 1);
});

t.test('a refused capture leaves a hold that can be voided', async (t) => {
  const { paymentId, orderId } = await authorized({ card: 'card_capture_declined' });
  const request = { paymentId, requestId: randomUUID() };
  const refused = refusal({
    code: 'FAILED_PRECONDITION',
    reason: 'PAYMENT_STATE',
    metadata: { payment_id: paymentId, state: 'AUTHORIZED', acquirer_code: 'capture_declined' },
  });
  await t.rejects(orders.capturePayment(request), refused);
  await t.rejects(orders.capturePayment(request), refused, 'a repeat gets the same refusal');
  t.match(await orders.voidPayment({ paymentId, orderId }), { state: PAYMENT_STATE_VOIDED });
});

t.test('from hold to refund', async (t) => {
  const { paymentId } = await authorized({ amountMinor: 1_000n });
  const sum = (amountMinor: bigint) => ({ currencyCode: 'EUR', amountMinor });
  t.match(await orders.capturePayment({ paymentId }), {
    state: PAYMENT_STATE_CAPTURED,
    captured: sum(1_000n),
    refunded: sum(0n),
    version: 3n,
  });
  t.match(await orders.refundPayment({ paymentId, amount: sum(300n) }), {
    state: PAYMENT_STATE_CAPTURED,
    refunded: sum(300n),
  });
  t.match(await orders.refundPayment({ paymentId, amount: sum(700n) }), {
    state: PAYMENT_STATE_REFUNDED,
    refunded: sum(1_000n),
    version: 5n,
  });
  const { entries } = await bed.ledger.listEntries({ paymentId });
  t.strictSame(
    entries.map((entry) => entry.kind),
    ['authorize', 'capture', 'refund', 'refund'],
  );
  const events = await query('select type, sequence from outbox where aggregate_id = ? order by position', [paymentId]);
  const names = ['PaymentAuthorized', 'PaymentCaptured', 'PaymentRefunded', 'PaymentRefunded'];
  t.strictSame(
    events.map((event) => [event.type, Number(event.sequence)]),
    names.map((name, index) => [`armature.payments.v1.${name}`, index + 1]),
  );
});

t.test('a refund without an amount refunds the rest', async (t) => {
  const sum = (amountMinor: bigint) => ({ currencyCode: 'EUR', amountMinor });
  const partly = await captured({ amountMinor: 15_490n });
  t.match(await orders.refundPayment({ paymentId: partly.paymentId, amount: sum(500n) }), { moved: sum(500n) });
  const request = { paymentId: partly.paymentId, requestId: randomUUID() };
  const rest = await orders.refundPayment(request);
  t.match(rest, { state: PAYMENT_STATE_REFUNDED, moved: sum(14_990n), refunded: sum(15_490n) });
  t.strictSame(await orders.refundPayment(request), rest, 'a repeat gets the same response');
  t.match(await orders.refundPayment({ paymentId: partly.paymentId }), {
    state: PAYMENT_STATE_REFUNDED,
    moved: sum(0n),
    refunded: sum(15_490n),
  });
  const reused = refusal({ code: 'INVALID_ARGUMENT', reason: 'REQUEST_ID_REUSED' });
  await t.rejects(orders.refundPayment({ ...request, amount: sum(14_990n) }), reused, 'an amount is another request');
  t.equal((await logOf(partly.orderId)).filter((one) => one.kind === 'refund').length, 2, 'nothing moved for nothing');
  const onHold = await authorized();
  await t.rejects(
    orders.refundPayment({ paymentId: onHold.paymentId }),
    refusal({ code: 'FAILED_PRECONDITION', reason: 'PAYMENT_STATE' }),
    'nothing is captured',
  );
});

t.test('responses name what the request moved, reads do not', async (t) => {
  const sum = (amountMinor: bigint) => ({ currencyCode: 'EUR', amountMinor });
  const request = newAuthorization({ amountMinor: 700n });
  const { paymentId, orderId } = request;
  t.match(await orders.authorizePayment(request), { moved: sum(700n) });
  t.match(await orders.voidPayment({ paymentId, orderId }), { moved: sum(700n) });
  t.match(await orders.voidPayment({ paymentId, orderId }), { moved: sum(0n) });
  t.equal((await orders.getPayment({ paymentId })).moved, undefined);
  t.match(await orders.authorizePayment(newAuthorization({ card: 'card_declined' })), { moved: sum(0n) });
});

t.test('reasons', async (t) => {
  const unknown = randomUUID();
  const onHold = await authorized();
  const taken = await captured();
  const declined = await authorized({ card: 'card_declined' });
  const gone = await authorized();
  await orders.voidPayment({ paymentId: gone.paymentId, orderId: gone.orderId });
  const given = await captured();
  await orders.refundPayment({ paymentId: given.paymentId, amount: given.amount });
  const eur = (amountMinor: bigint) => ({ currencyCode: 'EUR', amountMinor });
  const precondition = 'FAILED_PRECONDITION';
  const rows: [string, () => Promise<unknown>, Parameters<typeof refusal>[0]][] = [
    [
      'capturing nothing',
      () => orders.capturePayment({ paymentId: unknown }),
      { code: 'NOT_FOUND', reason: 'PAYMENT_NOT_FOUND' },
    ],
    [
      'refunding nothing',
      () => orders.refundPayment({ paymentId: unknown, amount: eur(1n) }),
      { code: 'NOT_FOUND', reason: 'PAYMENT_NOT_FOUND' },
    ],
    [
      'reading nothing',
      () => orders.getPayment({ paymentId: unknown }),
      { code: 'NOT_FOUND', reason: 'PAYMENT_NOT_FOUND' },
    ],
    [
      'a payment id twice',
      () => orders.authorizePayment(newAuthorization({ paymentId: onHold.paymentId })),
      { code: 'ALREADY_EXISTS', reason: 'PAYMENT_EXISTS' },
    ],
    [
      'a payment id that was voided',
      () => orders.authorizePayment(newAuthorization({ paymentId: gone.paymentId })),
      { code: precondition, reason: 'PAYMENT_VOIDED' },
    ],
    [
      'authorizing zero',
      () => orders.authorizePayment(newAuthorization({ amountMinor: 0n })),
      { code: 'INVALID_ARGUMENT', reason: 'AMOUNT_INVALID' },
    ],
    [
      'refunding zero',
      () => orders.refundPayment({ paymentId: taken.paymentId, amount: eur(0n) }),
      { code: 'INVALID_ARGUMENT', reason: 'AMOUNT_INVALID' },
    ],
    [
      'refunding too much',
      () => orders.refundPayment({ paymentId: taken.paymentId, amount: eur(1_001n) }),
      {
        code: precondition,
        reason: 'REFUND_EXCEEDS_CAPTURE',
        metadata: { payment_id: taken.paymentId, refundable_minor: '1000' },
      },
    ],
    [
      'refunding again',
      () => orders.refundPayment({ paymentId: given.paymentId, amount: eur(1n) }),
      { code: precondition, reason: 'REFUND_EXCEEDS_CAPTURE' },
    ],
    [
      'refunding in dollars',
      () => orders.refundPayment({ paymentId: taken.paymentId, amount: { currencyCode: 'USD', amountMinor: 1n } }),
      { code: precondition, reason: 'CURRENCY_MISMATCH' },
    ],
    [
      'refunding a hold',
      () => orders.refundPayment({ paymentId: onHold.paymentId, amount: eur(1n) }),
      { code: precondition, reason: 'PAYMENT_STATE' },
    ],
    [
      'capturing twice',
      () => orders.capturePayment({ paymentId: taken.paymentId }),
      { code: precondition, reason: 'PAYMENT_STATE' },
    ],
    [
      'capturing what was declined',
      () => orders.capturePayment({ paymentId: declined.paymentId }),
      { code: precondition, reason: 'PAYMENT_STATE' },
    ],
    [
      'capturing what was voided',
      () => orders.capturePayment({ paymentId: gone.paymentId }),
      { code: precondition, reason: 'PAYMENT_STATE' },
    ],
    [
      'voiding what was captured',
      () => orders.voidPayment({ paymentId: taken.paymentId, orderId: taken.orderId }),
      { code: precondition, reason: 'PAYMENT_STATE' },
    ],
    [
      'an account that is none',
      () => bed.ledger.getAccount({ account: 'cheese', currencyCode: 'EUR' }),
      { code: 'NOT_FOUND', reason: 'ACCOUNT_NOT_FOUND' },
    ],
    [
      'an account in a currency without payments',
      () => bed.ledger.getAccount({ account: 'sales', currencyCode: 'XXX' }),
      { code: 'NOT_FOUND', reason: 'ACCOUNT_NOT_FOUND' },
    ],
    [
      'a token of another list',
      () => bed.ledger.listEntries({ pageToken: 'abc' }),
      { code: 'INVALID_ARGUMENT', reason: 'PAGE_TOKEN_INVALID' },
    ],
    [
      'a customer in the ledger',
      () => bed.people.ada.refundPayment({ paymentId: taken.paymentId, amount: eur(1n) }),
      { code: 'PERMISSION_DENIED' },
    ],
  ];
  for (const [name, ask, expected] of rows) await t.rejects(ask(), refusal(expected), name);
  t.match(
    await orders.getPayment({ paymentId: taken.paymentId }),
    { state: PAYMENT_STATE_CAPTURED, version: 3n },
    'nothing changed',
  );
});

t.test('voiding what holds nothing changes nothing', async (t) => {
  const declined = await authorized({ card: 'card_declined' });
  const gone = await authorized();
  const first = await orders.voidPayment({ paymentId: gone.paymentId, orderId: gone.orderId });
  t.strictSame(await orders.voidPayment({ paymentId: gone.paymentId, orderId: gone.orderId }), {
    ...first,
    moved: { currencyCode: 'EUR', amountMinor: 0n },
  });
  t.match(await orders.voidPayment({ paymentId: declined.paymentId, orderId: declined.orderId }), {
    state: PAYMENT_STATE_DECLINED,
    version: 2n,
  });
  t.equal((await logOf(gone.orderId)).filter((one) => one.kind === 'void').length, 1);
  const { paymentId, orderId } = await captured();
  await orders.refundPayment({ paymentId });
  t.match(await orders.voidPayment({ paymentId, orderId }), { state: PAYMENT_STATE_REFUNDED, version: 4n });
});

t.test('a payment that is voided before it exists is never authorized', async (t) => {
  const request = newAuthorization();
  const { paymentId, orderId } = request;
  t.match(await orders.voidPayment({ paymentId, orderId }), {
    paymentId,
    orderId,
    state: PAYMENT_STATE_VOIDED,
    amount: undefined,
  });
  await t.rejects(orders.authorizePayment(request), refusal({ code: 'FAILED_PRECONDITION', reason: 'PAYMENT_VOIDED' }));
  t.match(await orders.voidPayment({ paymentId, orderId }), { state: PAYMENT_STATE_VOIDED });
  t.strictSame(await logOf(orderId), [], 'the acquirer has no record of it');
});

t.test('a repeated request gets the same response', async (t) => {
  const request = newAuthorization();
  const first = await orders.authorizePayment(request);
  const capture = { paymentId: request.paymentId, requestId: randomUUID() };
  await orders.capturePayment(capture);
  t.strictSame(await orders.authorizePayment(request), first, 'as it was then, not as it is now');
  t.match(await orders.capturePayment(capture), { state: PAYMENT_STATE_CAPTURED });
  const reused = refusal({ code: 'INVALID_ARGUMENT', reason: 'REQUEST_ID_REUSED' });
  await t.rejects(orders.authorizePayment({ ...request, customerId: 'eve' }), reused);
  await t.rejects(orders.authorizePayment({ ...request, paymentId: randomUUID() }), reused);
});

t.test('a retry of a request of a release that kept the case of request ids moves nothing twice', async (t) => {
  const { paymentId, orderId } = await captured();
  const [known, requestId] = [randomUUID(), randomUUID().toUpperCase()];
  const amount = { currencyCode: 'EUR', amountMinor: 300n };
  const first = await orders.refundPayment({ paymentId, requestId: known, amount });
  // As if that release had taken it with the other id, in upper case, and ended before it stored the response.
  const [stored] = await query('select principal, method from idempotency where request_key = ?', [known]);
  const operation = (id: string) => derivedId(`${stored!.principal}\n${stored!.method}\n${id}`);
  const change = 'update payment_operation set operation_id = ?, acquirer_key = ? where operation_id = ?';
  await query(change, [operation(requestId), operation(known), operation(known)]);
  t.strictSame(await orders.refundPayment({ paymentId, requestId, amount }), first);
  t.equal((await logOf(orderId)).filter(({ kind }) => kind === 'refund').length, 1);
});

t.test('who may read a payment', async (t) => {
  const { paymentId } = await authorized({ customerId: 'ada' });
  const other = await authorized({ customerId: 'eve' });
  t.match(await bed.people.ada.getPayment({ paymentId }), { paymentId });
  t.match(await bed.people.bo.getPayment({ paymentId }), { paymentId });
  const notFound = refusal({ code: 'NOT_FOUND', reason: 'PAYMENT_NOT_FOUND' });
  await t.rejects(bed.people.ada.getPayment({ paymentId: other.paymentId }), notFound);
  await t.rejects(bed.people.ada.getPayment({ paymentId: randomUUID() }), notFound);
});

t.test('the payments of a customer are listed in pages, newest first, for the customer and for staff', async (t) => {
  const customerId = 'ada';
  const made: string[] = [];
  for (let n = 0; n < 3; n++) made.push((await authorized({ customerId })).paymentId);
  await authorized({ customerId: 'eve' });
  const listed: string[] = [];
  for (let pageToken = ''; ; ) {
    const page = await bed.people.ada.listPayments({ customerId, pageSize: 2, pageToken });
    t.ok(page.payments.length <= 2);
    listed.push(...page.payments.map((payment) => payment.paymentId));
    t.strictSame([...new Set(page.payments.map((payment) => payment.customerId))], [customerId]);
    pageToken = page.nextPageToken;
    if (!pageToken) break;
  }
  t.strictSame(listed, [...listed].sort().reverse());
  t.strictSame([...made].sort(), listed.filter((paymentId) => made.includes(paymentId)).sort());
  const [newest] = (await bed.people.bo.listPayments({ customerId, pageSize: 1 })).payments;
  t.match(newest, { paymentId: listed[0], amount: { currencyCode: 'EUR' } });
  const denied = refusal({ code: 'PERMISSION_DENIED' });
  await t.rejects(bed.people.ada.listPayments({ customerId: 'eve' }), denied);
  await t.rejects(bed.people.ada.listPayments({}), denied);
  t.ok((await bed.people.bo.listPayments({})).payments.some((payment) => payment.customerId === 'eve'));
});

t.test('the ledger', async (t) => {
  const currencyCode = 'CHF';
  const account = (name: string) => bed.ledger.getAccount({ account: name, currencyCode });
  const first = await captured({ currencyCode, amountMinor: 70n });
  await authorized({ currencyCode, amountMinor: 5n });
  await orders.refundPayment({ paymentId: first.paymentId, amount: { currencyCode, amountMinor: 20n } });
  for (const [name, postedMinor, pendingMinor] of [
    ['acquirer_receivable', 50n, 0n],
    ['acquirer_holds', 0n, 5n],
    ['customer_authorizations', 0n, -5n],
    ['sales', -70n, 0n],
    ['refunds', 20n, 0n],
  ] as const) {
    t.strictSame(await account(name), { account: name, currencyCode, postedMinor, pendingMinor });
  }
  const balance = await bed.ledger.getTrialBalance({});
  const total = balance.totals.find((one) => one.currencyCode === currencyCode);
  t.strictSame(total, { currencyCode, debitsMinor: 75n, creditsMinor: 75n, differenceMinor: 0n });

  t.test('pages', async (t) => {
    const whole = await bed.ledger.listEntries({ pageSize: 500 });
    const paged: typeof whole.entries = [];
    for (let pageToken = ''; ; ) {
      const page = await bed.ledger.listEntries({ pageSize: 7, pageToken });
      t.ok(page.entries.length <= 7);
      paged.push(...page.entries);
      pageToken = page.nextPageToken;
      if (!pageToken) break;
    }
    t.strictSame(paged, whole.entries);
    t.ok(paged.length > 14, 'several pages');
    t.ok(
      paged.every((entry, index) => index === 0 || entry.position > paged[index - 1]!.position),
      'ascending',
    );
    const refunds = await bed.ledger.listEntries({ account: 'refunds', pageSize: 500 });
    t.strictSame(
      refunds.entries,
      whole.entries.filter((entry) => entry.postings.some((posting) => posting.account === 'refunds')),
    );
    const both = await bed.ledger.listEntries({ account: 'refunds', paymentId: first.paymentId });
    t.match(both.entries, [
      {
        kind: 'refund',
        paymentId: first.paymentId,
        postings: [
          { account: 'acquirer_receivable', amountMinor: -20n },
          { account: 'refunds', amountMinor: 20n, pending: false },
        ],
      },
    ]);
    t.strictSame(await bed.ledger.listEntries({ account: 'nothing' }), { entries: [], nextPageToken: '' });
  });

  t.test('the database itself keeps what was written, and others out', async (t) => {
    const service_ = await connectMysql(service.database!.url);
    const other = await createDatabase(t, 'orders');
    for (const sql of [
      `select * from ${other.schema}.orders`,
      'update ledger_posting set amount_minor = 0',
      'delete from ledger_posting',
      'delete from ledger_entry',
    ]) {
      await t.rejects(service_.query(sql), { code: /ER_TABLEACCESS_DENIED_ERROR|ER_DBACCESS_DENIED_ERROR/ }, sql);
    }
    await service_.end();
  });
});

t.test('metrics and logs', async (t) => {
  const metrics = await (await fetch(`http://${service.admin}/metrics`)).text();
  t.match(metrics, /armature_ledger_difference_minor\{currency="EUR",service="payments"\} 0/);
  t.match(metrics, /armature_payment_operations_pending\{service="payments"\} 0/);
  t.notMatch(service.logs(), /card_(?!declined|webhook_)|payment_method"/, 'no card token is logged');
});
