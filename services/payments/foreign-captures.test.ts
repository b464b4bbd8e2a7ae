// Charges that the acquirer captured without a request of payments.
import { randomUUID } from 'node:crypto';
import { paymentOperationsClient } from '@armature/clients';
import { PaymentOperationState, PaymentResolution } from '@armature/proto/payments/v1/operations.ts';
import { PaymentState } from '@armature/proto/payments/v1/payments.ts';
import t from 'tap';
import { connectMysql } from '../../scripts/devmesh/servers/mysql.ts';
import { refusal } from '../../test/support/refusal.ts';
import { developerCredentials, startService, token, workloadCertificate } from '../../test/support/service.ts';
import { eventually } from '../../test/verification/faults/shoppers.ts';
import { ledgerViolations } from '../../test/verification/invariants/ledger-checks.ts';
import { openBed, queryOf } from './testbed.ts';

t.setTimeout(180_000);
const acquirer = await startService(t, 'acquirer');
const acquirerUrl = `http://${acquirer.http}`;
const service = await startService(t, 'payments', { acquirerUrl, env: { ARMATURE_PENDING_RESOLVE_MS: '600000' } });
const connection = await connectMysql(service.database!.adminUrl);
const query = queryOf(connection);
const tokens = { bo: await token('bo'), ada: await token('ada'), admin: await token('admin') };
const developerTls = await developerCredentials();
const ordersTls = await workloadCertificate('orders');
const bed = openBed({ grpc: service.grpc, acquirer: acquirerUrl, ordersTls, developerTls, tokens });
const olga = await token('olga');
const operator = paymentOperationsClient({ addresses: [service.grpc], tls: developerTls, token: () => olga });
t.teardown(async () => {
  bed.close();
  operator.close();
  await connection.end();
});

const eur = (amountMinor: bigint) => ({ currencyCode: 'EUR', amountMinor });
const post = async (path: string, body: object) => {
  const headers = { 'idempotency-key': randomUUID() };
  const response = await fetch(acquirerUrl + path, { method: 'POST', headers, body: JSON.stringify(body) });
  if (response.status !== 201) throw new Error(`${path} returned ${response.status}`);
  return (await response.json()) as { operation_id: string };
};
const reason = 'ticket 4711';
const resolve = (operationId: string, name: 'ASK_AGAIN' | 'NOTHING_HELD' | 'TRY_AGAIN' | 'GIVE_UP') =>
  operator.resolvePaymentOperation({
    operationId,
    resolution: PaymentResolution[`PAYMENT_RESOLUTION_${name}`],
    reason,
  });
const record = (externalId: string) => operator.recordAcquirerOperation({ externalId, reason });
const invalid = refusal({ reason: 'EXTERNAL_OPERATION_INVALID' });
const needsOperator = refusal({ reason: 'OPERATION_NEEDS_OPERATOR' });
const { PAYMENT_OPERATION_STATE_PENDING, PAYMENT_OPERATION_STATE_DONE } = PaymentOperationState;
const listed = async (paymentId: string) =>
  (await operator.listPaymentOperations({ pageSize: 200 })).operations.filter((one) => one.paymentId === paymentId)[0]!;

/** Waits until the periodic job has looked at an operation that waits for an operator. */
async function swept(operationId: string): Promise<void> {
  const where = 'where operation_id = ?';
  await query(`update payment_operation set failure_code = '', resolve_at = created_at ${where}`, [operationId]);
  const seen = `select 1 from payment_operation ${where} and (failure_code <> '' or state <> 'PENDING')`;
  await eventually('the periodic job', 20_000, async () => (await query(seen, [operationId])).length > 0);
}

/** A payment whose charge was captured under a key that is none of ours. */
async function capturedByOther(amountMinor: number) {
  const authorization = bed.newAuthorization();
  const { paymentId, orderId } = authorization;
  const { acquirerChargeId: chargeId } = await bed.orders.authorizePayment(authorization);
  const { operation_id: externalId } = await post(`/v1/charges/${chargeId}/capture`, { amount_minor: amountMinor });
  return { paymentId, orderId, chargeId, externalId };
}

t.test('a foreign capture of the full amount is recorded as the capture', async (t) => {
  const { paymentId, externalId } = await capturedByOther(1_000);
  const request = { paymentId, requestId: randomUUID() };
  const captured = { state: PaymentState.PAYMENT_STATE_CAPTURED, captured: eur(1_000n) };
  t.match(await bed.orders.capturePayment(request), captured);
  t.match(await bed.orders.capturePayment(request), captured, 'a repeat gets the same response');
  t.match((await bed.ledger.listEntries({ paymentId })).entries[1], { kind: 'capture', externalId });
  t.match(await bed.orders.refundPayment({ paymentId }), { refunded: eur(1_000n) }, 'a cancellation refunds it');
  t.strictSame(await ledgerViolations(query, acquirerUrl), []);
});

t.test(
  'a capture of the full amount that the acquirer has refunded in part is resolved by its external id',
  async (t) => {
    const { paymentId, chargeId, externalId } = await capturedByOther(1_000);
    const { operation_id: refundId } = await post(`/v1/charges/${chargeId}/refund`, { amount_minor: 300 });
    await t.rejects(bed.orders.capturePayment({ paymentId, requestId: randomUUID() }), needsOperator);
    await t.rejects(record(externalId), /DONE_AT_ACQUIRER and this external_id/, 'the refusal names the way out');
    const { operationId } = await listed(paymentId);
    const resolution = PaymentResolution.PAYMENT_RESOLUTION_DONE_AT_ACQUIRER;
    const resolved = await operator.resolvePaymentOperation({ operationId, resolution, externalId, reason });
    t.equal(resolved.state, PAYMENT_OPERATION_STATE_DONE);
    t.match(await record(refundId), { amount: eur(300n) });
    t.match(await bed.orders.refundPayment({ paymentId }), { moved: eur(700n), refunded: eur(1_000n) });
    t.strictSame(await ledgerViolations(query, acquirerUrl), []);
  },
);

t.test('a foreign capture of a part needs an operator and is no refusal', async (t) => {
  const { paymentId, orderId, externalId } = await capturedByOther(600);
  const request = { paymentId, requestId: randomUUID() };
  await t.rejects(bed.orders.capturePayment(request), needsOperator);
  await t.rejects(bed.orders.capturePayment(request), needsOperator, 'a repeat finds it pending');
  const { operationId, failureCode } = await listed(paymentId);
  t.equal(failureCode, 'charge_already_captured');
  t.match(await resolve(operationId, 'ASK_AGAIN'), { state: PAYMENT_OPERATION_STATE_PENDING }, 'it stays pending');
  await t.rejects(record(externalId.replace(/.$/, (last) => (last === '0' ? '1' : '0'))), invalid);
  t.match(await record(externalId), { amount: eur(600n), externalId });
  t.match(await bed.orders.getPayment({ paymentId }), { captured: eur(600n) }, 'the part is recorded');
  t.match(await bed.people.admin.refundPayment({ paymentId }), { moved: eur(600n) });
  t.match(await resolve(operationId, 'GIVE_UP'), { failureCode: 'given_up' });
  t.match(await bed.orders.voidPayment({ paymentId, orderId }), { moved: eur(0n) }, 'nothing is held any more');
  t.strictSame(await ledgerViolations(query, acquirerUrl), []);
});

t.test('a capture that is the outcome of the capture under way is not recorded beside it', async (t) => {
  const { paymentId, externalId } = await capturedByOther(1_000);
  await t.rejects(record(externalId), invalid, 'its order asks for it');
  await bed.orders.capturePayment({ paymentId });
  await t.rejects(record(externalId), invalid, 'the ledger has it');
});

t.test('a void of a charge that another request captured', async (t) => {
  const { paymentId, orderId, chargeId, externalId } = await capturedByOther(1_000);
  const request = { paymentId, orderId, requestId: randomUUID() };
  await t.rejects(bed.orders.voidPayment(request), needsOperator);
  const { operationId } = await listed(paymentId);
  const waiting = { operationId, state: PAYMENT_OPERATION_STATE_PENDING, failureCode: 'charge_already_captured' };
  await t.rejects(
    resolve(operationId, 'NOTHING_HELD'),
    refusal({ reason: 'RESOLUTION_NOT_APPLICABLE', metadata: { acquirer: 'captured' } }),
    'while the customer is charged',
  );
  t.match(await bed.orders.getPayment({ paymentId }), { state: PaymentState.PAYMENT_STATE_AUTHORIZED });
  const refund = await post(`/v1/charges/${chargeId}/refund`, { amount_minor: 400 });
  await t.rejects(record(refund.operation_id), refusal({ reason: 'PAYMENT_STATE' }), 'the capture comes first');
  await record(externalId);
  await swept(operationId);
  t.match(await listed(paymentId), waiting, 'the periodic job leaves it to the operator');
  await resolve(operationId, 'TRY_AGAIN');
  await t.rejects(bed.orders.voidPayment(request), needsOperator);
  t.match(await listed(paymentId), waiting, 'as does another try');
  await record(refund.operation_id);
  t.match(await bed.people.admin.refundPayment({ paymentId }), { moved: eur(600n), refunded: eur(1_000n) });
  t.match(await resolve(operationId, 'NOTHING_HELD'), { state: PAYMENT_OPERATION_STATE_DONE }, 'after it was refunded');
  t.match(await bed.orders.voidPayment(request), { moved: eur(0n) });
  t.strictSame(await ledgerViolations(query, acquirerUrl), []);
});

t.test('a void that an earlier release ended on a charged payment is an error to its caller', async (t) => {
  const { paymentId, orderId, externalId } = await capturedByOther(1_000);
  const request = { paymentId, orderId, requestId: randomUUID() };
  await t.rejects(bed.orders.voidPayment(request), needsOperator);
  const { operationId } = await listed(paymentId);
  await record(externalId);
  await query("update payment_operation set state = 'DONE', needs_operator_at = null where operation_id = ?", [
    operationId,
  ]);
  await query('update payment set exclusive_operation_id = null where payment_id = ?', [paymentId]);
  await t.rejects(bed.orders.voidPayment(request), refusal({ reason: 'PAYMENT_STATE' }), 'the customer is charged');
  await bed.people.admin.refundPayment({ paymentId });
  t.match(await bed.orders.voidPayment({ paymentId, orderId }), { moved: eur(0n), refunded: eur(1_000n) });
});
