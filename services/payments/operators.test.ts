// The RPCs by which operators resolve operations, over gRPC.
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { ledgerClient, paymentOperationsClient } from '@armature/clients';
import { PaymentOperationState, PaymentResolution } from '@armature/proto/payments/v1/operations.ts';
import { PaymentState } from '@armature/proto/payments/v1/payments.ts';
import t from 'tap';
import { compareBooks } from '../../scripts/cli/reconcile/pages.ts';
import { connectMysql } from '../../scripts/devmesh/servers/mysql.ts';
import { refusal } from '../../test/support/refusal.ts';
import { developerCredentials, startService, token, workloadCertificate } from '../../test/support/service.ts';
import { acquirerLog } from '../../test/verification/invariants/ledger-checks.ts';
import { booksInOrder, openBed, queryOf } from './testbed.ts';

t.setTimeout(180_000);
const slowMs = 1_500;
const acquirer = await startService(t, 'acquirer', { env: { ARMATURE_ACQUIRER_SLOW_MS: String(slowMs) } });
const acquirerUrl = `http://${acquirer.http}`;
const service = await startService(t, 'payments', {
  acquirerUrl,
  env: { ARMATURE_ACQUIRER_TIMEOUT_MS: '1000', ARMATURE_PENDING_SWEEP_MS: '50', ARMATURE_PENDING_RESOLVE_MS: '600000' },
});
const connection = await connectMysql(service.database!.adminUrl);
const query = queryOf(connection);
const tokens = { bo: await token('bo'), ada: await token('ada'), admin: await token('admin') };
const developerTls = await developerCredentials();
const bed = openBed({
  grpc: service.grpc,
  acquirer: acquirerUrl,
  ordersTls: await workloadCertificate('orders'),
  developerTls,
  tokens,
});
const as = (who: string) => ({ addresses: [service.grpc], tls: developerTls, token: () => who });
const operator = paymentOperationsClient(as(await token('olga')));
const staff = paymentOperationsClient(as(tokens.bo));
const admin = ledgerClient(as(tokens.admin));
t.teardown(async () => {
  for (const client of [bed, operator, staff, admin]) client.close();
  await connection.end();
});
t.afterEach(async () => {
  await booksInOrder(query, acquirerUrl, await bed.ledger.getTrialBalance({}));
  t.strictSame((await compareBooks(admin, { apply: false, graceSeconds: 0 })).differences, [], 'nothing differs');
});

const eur = (amountMinor: bigint) => ({ currencyCode: 'EUR', amountMinor });
const post = async (path: string, body: object = {}) => {
  const headers = { 'idempotency-key': randomUUID() };
  const response = await fetch(acquirerUrl + path, { method: 'POST', headers, body: JSON.stringify(body) });
  // biome-ignore lint/suspicious/noExplicitAny: JSON of the acquirer, of any shape
  return (await response.json()) as any;
};
const { PAYMENT_RESOLUTION_ASK_AGAIN, PAYMENT_RESOLUTION_DONE_AT_ACQUIRER } = PaymentResolution;
const { PAYMENT_RESOLUTION_REFUNDED_OUTSIDE, PAYMENT_RESOLUTION_NOTHING_HELD } = PaymentResolution;
const { PAYMENT_RESOLUTION_TRY_AGAIN, PAYMENT_RESOLUTION_GIVE_UP } = PaymentResolution;
const { PAYMENT_OPERATION_STATE_DONE, PAYMENT_OPERATION_STATE_PENDING } = PaymentOperationState;
const { PAYMENT_OPERATION_STATE_REFUSED } = PaymentOperationState;
const reason = 'ticket 4711';
const listed = async (paymentId: string) =>
  (await operator.listPaymentOperations({ pageSize: 200 })).operations.filter((one) => one.paymentId === paymentId);

/** A refund that the acquirer refuses permanently: the card is closed. */
async function refusedRefund(amountMinor?: bigint) {
  const authorization = bed.newAuthorization({ card: 'card_refund_declined' });
  const { paymentId, orderId } = authorization;
  const { acquirerChargeId: chargeId } = await bed.orders.authorizePayment(authorization);
  await bed.orders.capturePayment({ paymentId });
  const amount = amountMinor === undefined ? undefined : eur(amountMinor);
  await t.rejects(bed.orders.refundPayment({ paymentId, amount }), refusal({ reason: 'PAYMENT_STATE' }));
  const [operation] = await listed(paymentId);
  return { paymentId, orderId, chargeId, operationId: operation!.operationId };
}

/** A void that the acquirer refuses each time. */
async function refusedVoid() {
  const authorization = bed.newAuthorization({ card: 'card_void_declined' });
  const { paymentId, orderId } = authorization;
  const { acquirerChargeId: chargeId } = await bed.orders.authorizePayment(authorization);
  const request = { paymentId, orderId, requestId: randomUUID() };
  await t.rejects(bed.orders.voidPayment(request), refusal({ reason: 'OPERATION_NEEDS_OPERATOR' }));
  const [operation] = await listed(paymentId);
  return { paymentId, orderId, chargeId, request, operationId: operation!.operationId };
}

t.test('lists what needs an operator, page by page, and nothing else', async (t) => {
  const refunds = [await refusedRefund(), await refusedRefund(100n), await refusedVoid()];
  const authorization = bed.newAuthorization();
  await bed.orders.authorizePayment(authorization);
  // All within one millisecond: a cursor without microseconds would skip some.
  for (const [index, { operationId }] of refunds.entries()) {
    const at = `2026-01-01 00:00:00.00000${index}`;
    await query('update payment_operation set needs_operator_at = ? where operation_id = ?', [at, operationId]);
  }
  const seen: string[] = [];
  for (let pageToken = ''; ; ) {
    const page = await operator.listPaymentOperations({ pageSize: 1, pageToken });
    t.ok(page.operations.length <= 1);
    seen.push(...page.operations.map((one) => one.operationId));
    pageToken = page.nextPageToken;
    if (pageToken === '') break;
  }
  t.strictSame(
    seen,
    refunds.map((one) => one.operationId),
    'oldest first',
  );
  t.match((await operator.listPaymentOperations({ paymentId: refunds[0]!.paymentId })).operations.length, 3);
  t.match((await operator.listPaymentOperations({ pending: true })).operations, [
    { operationId: refunds[2]!.operationId, failureCode: 'void_declined', state: PAYMENT_OPERATION_STATE_PENDING },
  ]);
  const metrics = await (await fetch(`http://${service.admin}/metrics`)).text();
  t.match(metrics, /^armature_payment_operations_operator(\{.*\})? 3$/m);
  await t.rejects(staff.listPaymentOperations({}), refusal({ code: 'PERMISSION_DENIED' }));
  const resolve = { operationId: seen[0]!, resolution: PAYMENT_RESOLUTION_GIVE_UP, reason };
  await t.rejects(staff.resolvePaymentOperation(resolve), refusal({ code: 'PERMISSION_DENIED' }));
});

t.test('a refused refund that was paid by bank transfer', async (t) => {
  const { paymentId, operationId } = await refusedRefund();
  const request = {
    ...{ requestId: randomUUID(), operationId, resolution: PAYMENT_RESOLUTION_REFUNDED_OUTSIDE },
    reason: 'bank transfer 815',
  };
  const resolved = await operator.resolvePaymentOperation(request);
  t.match(resolved, { state: PAYMENT_OPERATION_STATE_DONE, externalId: /^resolution:/, needsOperatorTime: undefined });
  t.strictSame(await operator.resolvePaymentOperation(request), resolved, 'a repeat gets the same response');
  t.match(await bed.orders.getPayment({ paymentId }), { state: PaymentState.PAYMENT_STATE_REFUNDED });
  t.match(await bed.orders.refundPayment({ paymentId }), { moved: eur(0n), refunded: eur(1_000n) }, 'nothing is left');
  t.match(await operator.getPaymentOperation({ operationId }), {
    resolutions: [{ reason: 'bank transfer 815', resolvedBy: 'user:olga', stateBefore: 3, stateAfter: 2 }],
  });
  const account = await bed.ledger.getAccount({ account: 'external_refunds', currencyCode: 'EUR' });
  t.match(account, { postedMinor: -1_000n });
  const [event] = await query('select payload from outbox where aggregate_id = ? order by sequence desc limit 1', [
    paymentId,
  ]);
  const { PaymentRefunded } = await import('@armature/proto/payments/v1/events.ts');
  t.match(PaymentRefunded.decode(event.payload), { outsideAcquirer: true, amount: eur(1_000n) });
  t.strictSame(await listed(paymentId), []);
  const again = { operationId, resolution: PAYMENT_RESOLUTION_REFUNDED_OUTSIDE, reason };
  await t.rejects(operator.resolvePaymentOperation(again), refusal({ reason: 'RESOLUTION_NOT_APPLICABLE' }));
});

t.test('two operators who resolve one operation at once move its amount once', async (t) => {
  const { paymentId, operationId } = await refusedRefund(300n);
  const resolve = () =>
    operator.resolvePaymentOperation({ operationId, resolution: PAYMENT_RESOLUTION_REFUNDED_OUTSIDE, reason });
  const ends = await Promise.allSettled([resolve(), resolve(), resolve()]);
  t.equal(ends.filter((end) => end.status === 'fulfilled').length, 1);
  t.match(await bed.orders.getPayment({ paymentId }), { refunded: eur(300n) });
});

t.test('a refused refund that is tried again under a new key', async (t) => {
  const { paymentId, orderId, operationId } = await refusedRefund(300n);
  const before = (await acquirerLog(acquirerUrl)).filter((one) => one.order_reference === orderId).length;
  const resolve = { operationId, resolution: PAYMENT_RESOLUTION_TRY_AGAIN, reason };
  t.match(await operator.resolvePaymentOperation(resolve), { state: PAYMENT_OPERATION_STATE_PENDING });
  for (const deadline = Date.now() + 10_000; (await listed(paymentId)).length === 0; await sleep(20))
    if (Date.now() > deadline) throw new Error('the periodic job did not send it');
  const log = (await acquirerLog(acquirerUrl)).filter((one) => one.order_reference === orderId);
  t.equal(log.length, before + 1, 'the acquirer got a request under another key, and refused again');
  t.match(await bed.orders.getPayment({ paymentId }), { refunded: eur(0n) });
});

t.test('a refused refund that is given up', async (t) => {
  const { paymentId, operationId } = await refusedRefund(300n);
  const resolve = { operationId, resolution: PAYMENT_RESOLUTION_GIVE_UP, reason };
  t.match(await operator.resolvePaymentOperation(resolve), { state: PAYMENT_OPERATION_STATE_REFUSED });
  t.strictSame(await listed(paymentId), []);
});

t.test('a refund of the rest that is refused again replaces the one before', async (t) => {
  const { paymentId } = await refusedRefund();
  await t.rejects(bed.orders.refundPayment({ paymentId }), refusal({ reason: 'PAYMENT_STATE' }));
  t.equal((await listed(paymentId)).length, 1);
});

t.test('a refused void', async (t) => {
  t.test('while the acquirer still holds the amount', async (t) => {
    const { operationId } = await refusedVoid();
    const resolve = { operationId, resolution: PAYMENT_RESOLUTION_NOTHING_HELD, reason };
    const holds = refusal({
      code: 'FAILED_PRECONDITION',
      reason: 'RESOLUTION_NOT_APPLICABLE',
      metadata: { acquirer: 'authorized' },
    });
    await t.rejects(operator.resolvePaymentOperation(resolve), holds);
    const giveUp = { operationId, resolution: PAYMENT_RESOLUTION_GIVE_UP, reason };
    await t.rejects(operator.resolvePaymentOperation(giveUp), refusal({ reason: 'RESOLUTION_NOT_APPLICABLE' }));
  });

  for (const resolution of [PAYMENT_RESOLUTION_NOTHING_HELD, PAYMENT_RESOLUTION_ASK_AGAIN] as const) {
    t.test(`${resolution}: after its hold has expired, releases the ledger's hold`, async (t) => {
      const { paymentId, chargeId, operationId, request } = await refusedVoid();
      await post(`/v1/charges/${chargeId}/expire`);
      const done = await operator.resolvePaymentOperation({ operationId, resolution, reason });
      t.match(done, { state: PAYMENT_OPERATION_STATE_DONE });
      t.match(await bed.orders.getPayment({ paymentId }), { state: PaymentState.PAYMENT_STATE_HOLD_EXPIRED });
      t.match(await bed.orders.voidPayment(request), { moved: eur(0n) }, 'the caller gets its response at last');
    });
  }
});

t.test('a pending refund that the acquirer has done is recorded, not done again', async (t) => {
  const authorization = bed.newAuthorization();
  const { paymentId } = authorization;
  const { acquirerChargeId: chargeId } = await bed.orders.authorizePayment(authorization);
  await bed.orders.capturePayment({ paymentId });
  // As if the process had died after the acquirer acted: the operation is there, and the acquirer knows its key.
  const operationId = randomUUID();
  await query(
    `insert into payment_operation (operation_id, payment_id, kind, state, amount_minor, request_hash, created_at,
       attempted_at, resolve_at) values (?, ?, 'refund', 'PENDING', 400, ?, utc_timestamp(6), utc_timestamp(6),
       utc_timestamp(6) + interval 1 hour)`,
    [operationId, paymentId, Buffer.alloc(32)],
  );
  await query('update payment set refunding_minor = 400 where payment_id = ?', [paymentId]);
  const headers = { 'idempotency-key': operationId };
  const body = JSON.stringify({ amount_minor: 400 });
  await fetch(`${acquirerUrl}/v1/charges/${chargeId}/refund`, { method: 'POST', headers, body });
  for (const resolution of [
    PAYMENT_RESOLUTION_REFUNDED_OUTSIDE,
    PAYMENT_RESOLUTION_TRY_AGAIN,
    PAYMENT_RESOLUTION_GIVE_UP,
  ] as const) {
    await t.rejects(
      operator.resolvePaymentOperation({ operationId, resolution, reason }),
      refusal({ reason: 'RESOLUTION_NOT_APPLICABLE', metadata: { acquirer: 'acted' } }),
      String(resolution),
    );
  }
  const resolve = { operationId, resolution: PAYMENT_RESOLUTION_ASK_AGAIN, reason };
  t.match(await operator.resolvePaymentOperation(resolve), { state: PAYMENT_OPERATION_STATE_DONE, externalId: /^op_/ });
  t.match(await bed.orders.getPayment({ paymentId }), { refunded: eur(400n) });
});

t.test('a refund that the acquirer did under a foreign key', async (t) => {
  const authorization = bed.newAuthorization();
  const { paymentId } = authorization;
  const { acquirerChargeId: chargeId } = await bed.orders.authorizePayment(authorization);
  await bed.orders.capturePayment({ paymentId });
  const byHand = await post(`/v1/charges/${chargeId}/refund`, { amount_minor: 1_000 });
  await t.rejects(bed.orders.refundPayment({ paymentId }), refusal({ reason: 'PAYMENT_STATE' }));
  const [operation] = await listed(paymentId);
  t.match(operation, { failureCode: 'refund_exceeds_capture' });
  const { operationId } = operation!;
  const done = (externalId: string) =>
    operator.resolvePaymentOperation({
      ...{ operationId, resolution: PAYMENT_RESOLUTION_DONE_AT_ACQUIRER },
      ...{ reason, externalId },
    });
  const log = await acquirerLog(acquirerUrl);
  const capture = log.find((one) => one.kind === 'capture' && one.charge_id === chargeId)!;
  const foreign = log.find((one) => one.charge_id !== chargeId)!;
  for (const wrong of ['', 'op_1', `op_${'0'.repeat(32)}`, capture.operation_id, foreign.operation_id]) {
    await t.rejects(done(wrong), refusal({ reason: 'EXTERNAL_OPERATION_INVALID' }), wrong);
  }
  t.match(await done(byHand.operation_id), { state: PAYMENT_OPERATION_STATE_DONE, externalId: byHand.operation_id });
  t.match(await bed.orders.getPayment({ paymentId }), { state: PaymentState.PAYMENT_STATE_REFUNDED });
});

t.test('a part that the acquirer refunded under a foreign key', async (t) => {
  const authorization = bed.newAuthorization();
  const { paymentId } = authorization;
  const { acquirerChargeId: chargeId } = await bed.orders.authorizePayment(authorization);
  await bed.orders.capturePayment({ paymentId });
  const { operation_id: externalId } = await post(`/v1/charges/${chargeId}/refund`, { amount_minor: 300 });
  await t.rejects(bed.orders.refundPayment({ paymentId }), refusal({ reason: 'PAYMENT_STATE' }), 'more than is left');
  const record = { requestId: randomUUID(), externalId, reason };
  await t.rejects(staff.recordAcquirerOperation(record), refusal({ code: 'PERMISSION_DENIED' }));
  const recorded = await operator.recordAcquirerOperation(record);
  t.match(recorded, { state: PAYMENT_OPERATION_STATE_DONE, amount: eur(300n), externalId, paymentId });
  t.strictSame(await operator.recordAcquirerOperation(record), recorded, 'a repeat gets the same response');
  const again = { ...record, requestId: randomUUID() };
  t.match(await operator.recordAcquirerOperation(again), recorded, 'another request about it changes nothing');
  const { resolutions } = await operator.getPaymentOperation({ operationId: recorded.operationId });
  t.match(resolutions, [
    { resolution: PaymentResolution.PAYMENT_RESOLUTION_RECORDED, reason, resolvedBy: 'user:olga' },
  ]);
  t.equal(resolutions.length, 1);
  const rest = { moved: eur(700n), refunded: eur(1_000n), refundedByCaller: eur(700n) };
  t.match(await bed.orders.refundPayment({ paymentId }), rest, 'what is left is refunded');
  t.strictSame(await listed(paymentId), []);
});

t.test('what cannot be recorded', async (t) => {
  const authorization = bed.newAuthorization();
  const { paymentId } = authorization;
  const { acquirerChargeId: chargeId } = await bed.orders.authorizePayment(authorization);
  await bed.orders.capturePayment({ paymentId });
  await bed.orders.refundPayment({ paymentId, amount: eur(400n) });
  const log = (await acquirerLog(acquirerUrl)).filter((one) => one.charge_id === chargeId);
  for (const [name, externalId] of [
    ['what the acquirer does not have', `op_${'0'.repeat(32)}`],
    ['an authorization', log[0]!.operation_id],
    ['the capture that payments asked for', log[1]!.operation_id],
    ['the refund that payments asked for', log[2]!.operation_id],
  ] as const) {
    const record = { externalId, reason };
    await t.rejects(operator.recordAcquirerOperation(record), refusal({ reason: 'EXTERNAL_OPERATION_INVALID' }), name);
  }
});

t.test('the refund of the rest that an operator brought to its end counts as its caller’s', async (t) => {
  const { paymentId, operationId } = await refusedRefund();
  const resolve = { operationId, resolution: PAYMENT_RESOLUTION_REFUNDED_OUTSIDE, reason };
  await operator.resolvePaymentOperation(resolve);
  const resumed = await bed.orders.refundPayment({ paymentId });
  t.match(resumed, { moved: eur(0n), refundedByCaller: eur(1_000n) });
  const byAdmin = await bed.people.admin.refundPayment({ paymentId });
  t.match(byAdmin, { moved: eur(0n), refundedByCaller: eur(0n) }, 'and of no other caller');
});

t.test('a refund of the rest that is given up is still due', async (t) => {
  const { paymentId, operationId } = await refusedRefund();
  const resolve = { operationId, resolution: PAYMENT_RESOLUTION_GIVE_UP, reason };
  t.match(await operator.resolvePaymentOperation(resolve), { state: PAYMENT_OPERATION_STATE_REFUSED });
  t.strictSame(await listed(paymentId), [], 'no operation waits for an operator');
  t.match(await bed.orders.getPayment({ paymentId }), { refunded: eur(0n) }, 'nothing moved');
  await t.rejects(
    bed.orders.refundPayment({ paymentId }),
    refusal({ reason: 'PAYMENT_STATE' }),
    'it is asked for again',
  );
  t.equal((await listed(paymentId)).length, 1, 'and needs an operator again');
});

t.test('what does not exist or is not said', async (t) => {
  const operationId = randomUUID();
  await t.rejects(operator.getPaymentOperation({ operationId }), refusal({ reason: 'OPERATION_NOT_FOUND' }));
  const resolve = { operationId, resolution: PAYMENT_RESOLUTION_GIVE_UP, reason };
  await t.rejects(operator.resolvePaymentOperation(resolve), refusal({ reason: 'OPERATION_NOT_FOUND' }));
  for (const wrong of [
    { ...resolve, reason: '' },
    { ...resolve, resolution: 0 as const },
    { ...resolve, resolution: 99 as 1 },
  ])
    await t.rejects(operator.resolvePaymentOperation(wrong), refusal({ code: 'INVALID_ARGUMENT' }));
});
