// Holds that the acquirer ends, operations that it refuses permanently, and keys that it has deleted.
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { ledgerClient, paymentOperationsClient } from '@armature/clients';
import { PaymentResolution } from '@armature/proto/payments/v1/operations.ts';
import { PaymentState } from '@armature/proto/payments/v1/payments.ts';
import t from 'tap';
import { compareBooks } from '../../scripts/cli/reconcile/pages.ts';
import { connectMysql } from '../../scripts/devmesh/servers/mysql.ts';
import { refusal } from '../../test/support/refusal.ts';
import { developerCredentials, startService, token, workloadCertificate } from '../../test/support/service.ts';
import { acquirerLog } from '../../test/verification/invariants/ledger-checks.ts';
import { booksInOrder, openAcquirerProxy, openBed, queryOf } from './testbed.ts';

t.setTimeout(180_000);
const slowMs = 400;
const acquirerDir = t.testdir();
const acquirerEnv = { ARMATURE_ACQUIRER_DATA_DIR: acquirerDir, ARMATURE_ACQUIRER_SLOW_MS: String(slowMs) };
/** Services that are started later run until the file ends. */
const mesh = t;
const acquirer = await startService(t, 'acquirer', { env: acquirerEnv });
const acquirerUrl = `http://${acquirer.http}`;
/** Without webhooks and periodic jobs, so that only requests detect changes at the acquirer. */
const patient = {
  ...{ ARMATURE_ACQUIRER_TIMEOUT_MS: '1000', ARMATURE_PENDING_RESOLVE_MS: '600000', ARMATURE_RECONCILE_MS: '3600000' },
  ARMATURE_ACQUIRER_SEND_AGAIN_MS: '60000',
};
const proxy = await openAcquirerProxy(t, acquirerUrl);
const service = await startService(t, 'payments', { acquirerUrl: proxy.url, env: patient });
const connection = await connectMysql(service.database!.adminUrl);
const query = queryOf(connection);
const bedOptions = {
  acquirer: acquirerUrl,
  ordersTls: await workloadCertificate('orders'),
  developerTls: await developerCredentials(),
  tokens: { bo: await token('bo'), ada: await token('ada'), admin: await token('admin') },
};
const bed = openBed({ grpc: service.grpc, ...bedOptions });
const admin = ledgerClient({
  ...{ addresses: [service.grpc], tls: bedOptions.developerTls, token: () => bedOptions.tokens.admin },
});
t.teardown(async () => {
  bed.close();
  admin.close();
  await connection.end();
});
t.afterEach(async () => booksInOrder(query, acquirerUrl, await bed.ledger.getTrialBalance({})));

/** The acquirer acts, and its response is lost, so that payments does not know the outcome. */
async function loseResponse(send: () => Promise<unknown>): Promise<void> {
  proxy.lose('responses');
  await t.rejects(send(), unavailable, 'the response is lost');
  proxy.pass();
}

/** The request is lost, so that the acquirer does not act. */
async function loseRequest(send: () => Promise<unknown>): Promise<void> {
  proxy.lose('requests');
  await t.rejects(send(), unavailable, 'the request is lost');
  proxy.pass();
}
const unavailable = refusal({ reason: 'ACQUIRER_UNAVAILABLE' });

const post = async (path: string, body: object = {}, key: string = randomUUID()) => {
  const headers = { 'idempotency-key': key };
  const response = await fetch(acquirerUrl + path, { method: 'POST', headers, body: JSON.stringify(body) });
  // biome-ignore lint/suspicious/noExplicitAny: JSON of the acquirer, of any shape
  return { status: response.status, json: (await response.json()) as any };
};
const { PAYMENT_STATE_HOLD_EXPIRED, PAYMENT_STATE_VOIDED_EXTERNALLY } = PaymentState;
const { PAYMENT_STATE_CAPTURED, PAYMENT_STATE_DECLINED } = PaymentState;
const eur = (amountMinor: bigint) => ({ currencyCode: 'EUR', amountMinor });
const logOf = async (orderId: string) =>
  (await acquirerLog(acquirerUrl)).filter((one) => one.order_reference === orderId);
const authorized = async (card = 'card_ok') => {
  const authorization = bed.newAuthorization({ card });
  const { acquirerChargeId } = await bed.orders.authorizePayment(authorization);
  return { ...authorization, chargeId: acquirerChargeId };
};
const captured = async (card = 'card_ok') => {
  const authorization = await authorized(card);
  await bed.orders.capturePayment({ paymentId: authorization.paymentId });
  return authorization;
};
async function until(what: string, holds: () => Promise<boolean>): Promise<void> {
  for (const deadline = Date.now() + 15_000; !(await holds()); await sleep(20)) {
    if (Date.now() > deadline) throw new Error(`not within 15 s: ${what}: ${service.logs().slice(-2_000)}`);
  }
}

const ends = [
  {
    name: 'expires by itself',
    card: 'card_hold_expires',
    end: async (chargeId: string) => {
      const url = `${acquirerUrl}/v1/charges/${chargeId}`;
      // biome-ignore lint/suspicious/noExplicitAny: JSON of the acquirer, of any shape
      await until('the hold ends', async () => ((await (await fetch(url)).json()) as any).status === 'expired');
    },
    state: PAYMENT_STATE_HOLD_EXPIRED,
    metadata: { state: 'HOLD_EXPIRED', acquirer_code: 'charge_expired' },
    entry: 'expire',
    reason: 2,
  },
  {
    name: 'is voided under another key',
    card: 'card_ok',
    end: async (chargeId: string) => void (await post(`/v1/charges/${chargeId}/void`)),
    state: PAYMENT_STATE_VOIDED_EXTERNALLY,
    metadata: { state: 'VOIDED_EXTERNALLY', acquirer_code: 'charge_voided' },
    entry: 'void',
    reason: 3,
  },
];
for (const { name, card, end, state, metadata, entry, reason } of ends) {
  t.test(`a hold that ${name}`, async (t) => {
    const check = async (paymentId: string) => {
      t.match(await bed.orders.getPayment({ paymentId }), { state, captured: eur(0n), version: 3n });
      const { entries } = await bed.ledger.listEntries({ paymentId });
      t.strictSame(
        entries.map((one) => one.kind),
        ['authorize', entry],
        'the ledger holds nothing',
      );
      const events = await query('select type from outbox where aggregate_id = ? order by sequence', [paymentId]);
      t.match(
        events.map((one) => one.type),
        [/PaymentAuthorized$/, /PaymentVoided$/],
      );
    };

    t.test('is detected by a capture, which is refused', async (t) => {
      const { paymentId, orderId, chargeId } = await authorized(card);
      await end(chargeId);
      const request = { paymentId, requestId: randomUUID() };
      const refused = refusal({ code: 'FAILED_PRECONDITION', reason: 'PAYMENT_STATE', metadata });
      await t.rejects(bed.orders.capturePayment(request), refused);
      await t.rejects(bed.orders.capturePayment(request), refused, 'a repeat');
      await t.rejects(bed.orders.capturePayment({ paymentId }), refused, 'another request');
      await check(paymentId);
      t.match(
        await bed.orders.voidPayment({ paymentId, orderId }),
        { state, moved: eur(0n) },
        'a void has nothing to do',
      );
      await check(paymentId);
    });

    t.test('is detected by a void, which has nothing to do', async (t) => {
      const { paymentId, orderId, chargeId } = await authorized(card);
      await end(chargeId);
      t.match(await bed.orders.voidPayment({ paymentId, orderId }), { state, moved: eur(0n) });
      await check(paymentId);
      t.strictSame(await query("select 1 from payment_operation where state = 'PENDING'"), []);
    });

    t.test('is published as an event with its reason', async (t) => {
      const [row] = await query(
        "select payload from outbox where type like '%PaymentVoided' order by position desc limit 1",
      );
      const { PaymentVoided } = await import('@armature/proto/payments/v1/events.ts');
      t.match(PaymentVoided.decode(row.payload), { reason });
    });
  });
}

t.test('a void that the acquirer refuses for another reason waits for an operator', async (t) => {
  const { paymentId, orderId } = await authorized('card_void_declined');
  const request = { paymentId, orderId, requestId: randomUUID() };
  const waits = refusal({
    code: 'ABORTED',
    reason: 'OPERATION_NEEDS_OPERATOR',
    metadata: { acquirer_code: 'void_declined', payment_id: paymentId },
    details: { retryDelayMs: 60_000 },
  });
  await t.rejects(bed.orders.voidPayment(request), waits);
  await t.rejects(bed.orders.voidPayment(request), waits, 'for as long as it does');
  t.equal((await logOf(orderId)).filter((one) => one.kind === 'void').length, 1, 'the acquirer gets one request');
  t.match(await bed.orders.getPayment({ paymentId }), { state: PaymentState.PAYMENT_STATE_AUTHORIZED });
});

t.test('a closed card', async (t) => {
  const { paymentId } = await captured('card_refund_declined');
  const metadata = { state: 'CAPTURED', acquirer_code: 'refund_declined' };
  const refused = refusal({ code: 'FAILED_PRECONDITION', reason: 'PAYMENT_STATE', metadata });
  await t.rejects(bed.orders.refundPayment({ paymentId }), refused);
  await t.rejects(bed.orders.refundPayment({ paymentId }), refused, 'the rest is still all of it');
  t.match(await bed.orders.getPayment({ paymentId }), { state: PAYMENT_STATE_CAPTURED, refunded: eur(0n) });
});

t.test('a payment method of another customer', async (t) => {
  const issued = await post('/v1/payment_methods', { customer_reference: 'eve', card: 'card_ok' });
  const card = issued.json.payment_method;
  const foreign = bed.newAuthorization({ card, customerId: 'ada' });
  t.match(await bed.orders.authorizePayment(foreign), {
    state: PAYMENT_STATE_DECLINED,
    declineCode: 'payment_method_not_owned',
    moved: eur(0n),
  });
  t.strictSame(await logOf(foreign.orderId), [], 'nothing was charged');
  const own = bed.newAuthorization({ card, customerId: 'eve' });
  t.match(await bed.orders.authorizePayment(own), { state: PaymentState.PAYMENT_STATE_AUTHORIZED });
});

t.test('reconciliation finds the end of a hold whose authorization had no outcome', async (t) => {
  const authorization = bed.newAuthorization();
  const { paymentId, orderId } = authorization;
  await loseResponse(() => bed.orders.authorizePayment(authorization));
  const [charge] = await logOf(orderId);
  await post(`/v1/charges/${charge!.charge_id}/expire`);
  await compareBooks(admin, { apply: true, graceSeconds: 0 });
  t.match(await bed.orders.getPayment({ paymentId }), { state: PAYMENT_STATE_HOLD_EXPIRED });
});

t.test('an operation whose key the acquirer has deleted is not sent again', async (t) => {
  const { paymentId, orderId } = await captured();
  const refund = { paymentId, requestId: randomUUID(), amount: eur(400n) };
  await loseResponse(() => bed.orders.refundPayment(refund));
  const [retried, voided] = [bed.newAuthorization(), bed.newAuthorization()];
  for (const authorization of [retried, voided]) await loseResponse(() => bed.orders.authorizePayment(authorization));
  await acquirer.kill();
  const shortRetention = { ...acquirerEnv, ARMATURE_ACQUIRER_KEY_RETENTION_MS: '50' };
  await startService(mesh, 'acquirer', { env: shortRetention, http: acquirer.http });
  /** Makes the keys too old to be sent again. */
  const age = (...ids: string[]) =>
    query('update payment_operation set created_at = created_at - interval 2 minute where payment_id in (?)', [ids]);
  const metadata = { acquirer_code: 'key_too_old' };
  const waits = refusal({ code: 'ABORTED', reason: 'OPERATION_NEEDS_OPERATOR', metadata });
  await age(paymentId, retried.paymentId, voided.paymentId);

  const refunded = { refunded: eur(400n), moved: eur(400n) };
  t.match(await bed.orders.refundPayment(refund), refunded, 'one that acted is found on its charge');
  t.equal((await logOf(orderId)).filter((one) => one.kind === 'refund').length, 1, 'once');
  await t.rejects(bed.orders.authorizePayment(retried), waits, 'an authorization that acted waits');
  const { PAYMENT_STATE_PENDING, PAYMENT_STATE_AUTHORIZED, PAYMENT_STATE_VOIDED } = PaymentState;
  const voids = { paymentId: voided.paymentId, orderId: voided.orderId, requestId: randomUUID() };
  await t.rejects(bed.orders.voidPayment(voids), waits, 'a void does not cancel it');
  const both = () =>
    Promise.all(
      [retried, voided].map((authorization) => bed.orders.getPayment({ paymentId: authorization.paymentId })),
    );
  t.match(await both(), [{ state: PAYMENT_STATE_PENDING }, { state: PAYMENT_STATE_PENDING }]);
  await compareBooks(admin, { apply: true, graceSeconds: 0 });
  t.match(await both(), [{ state: PAYMENT_STATE_AUTHORIZED }, { state: PAYMENT_STATE_AUTHORIZED }], 'found in the log');
  t.match(await bed.orders.voidPayment(voids), { state: PAYMENT_STATE_VOIDED });

  t.test('an authorization that did not act is given up by an operator', async (t) => {
    const authorization = bed.newAuthorization();
    const { paymentId } = authorization;
    await loseRequest(() => bed.orders.authorizePayment(authorization));
    const olga = await token('olga');
    const options = { addresses: [service.grpc], tls: bedOptions.developerTls, token: () => olga };
    const operator = paymentOperationsClient(options);
    t.teardown(() => operator.close());
    const [{ operation_id: operationId }] = await query(
      'select operation_id from payment_operation where payment_id = ?',
      [paymentId],
    );
    const giveUp = { operationId, resolution: PaymentResolution.PAYMENT_RESOLUTION_GIVE_UP, reason: 'ticket 4711' };
    const refused = refusal({ reason: 'RESOLUTION_NOT_APPLICABLE' });
    await t.rejects(operator.resolvePaymentOperation(giveUp), refused, 'while its caller may end it');
    await age(paymentId);
    await t.rejects(bed.orders.authorizePayment(authorization), refusal({ reason: 'OPERATION_NEEDS_OPERATOR' }));
    await operator.resolvePaymentOperation({ ...giveUp, requestId: randomUUID() });
    t.match(await bed.orders.getPayment({ paymentId }), { state: PaymentState.PAYMENT_STATE_VOIDED });
  });

  t.test('a capture that did not act before its hold expired is refused', async (t) => {
    const { paymentId, chargeId } = await authorized();
    const capture = { paymentId, requestId: randomUUID() };
    await loseRequest(() => bed.orders.capturePayment(capture));
    await post(`/v1/charges/${chargeId}/expire`);
    await age(paymentId);
    const metadata = { acquirer_code: 'charge_expired' };
    await t.rejects(bed.orders.capturePayment(capture), refusal({ reason: 'PAYMENT_STATE', metadata }));
    t.match(await bed.orders.getPayment({ paymentId }), { state: PAYMENT_STATE_HOLD_EXPIRED });
  });

  t.test('one that did not act needs an operator', async (t) => {
    const { paymentId, orderId } = await captured();
    const refund = { paymentId, requestId: randomUUID(), amount: eur(400n) };
    await loseRequest(() => bed.orders.refundPayment(refund));
    await age(paymentId);
    await t.rejects(bed.orders.refundPayment(refund), waits);
    await t.rejects(bed.orders.refundPayment(refund), waits);
    await t.rejects(
      bed.orders.refundPayment({ paymentId }),
      refusal({ reason: 'CONTENTION' }),
      'the rest is not known',
    );
    t.equal((await logOf(orderId)).filter((one) => one.kind === 'refund').length, 0);
  });
});
