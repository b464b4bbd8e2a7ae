// Operators' decisions with late outcomes, repeats, and refunds that acted although they were refused.
import { randomUUID } from 'node:crypto';
import { paymentOperationsClient } from '@armature/clients';
import { PaymentOperationState, PaymentResolution } from '@armature/proto/payments/v1/operations.ts';
import type { Tx } from '@armature/runtime';
import t from 'tap';
import { connectMysql } from '../../scripts/devmesh/servers/mysql.ts';
import { refusal } from '../../test/support/refusal.ts';
import { developerCredentials, startService, token, workloadCertificate } from '../../test/support/service.ts';
import { acquirerLog } from '../../test/verification/invariants/ledger-checks.ts';
import { paymentStore } from './store.ts';
import { booksInOrder, openBed, queryOf } from './testbed.ts';

t.setTimeout(180_000);
const acquirer = await startService(t, 'acquirer');
const acquirerUrl = `http://${acquirer.http}`;
const service = await startService(t, 'payments', { acquirerUrl, env: { ARMATURE_PENDING_SWEEP_MS: '60000' } });
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

t.afterEach(async () => booksInOrder(query, acquirerUrl, await bed.ledger.getTrialBalance({})));

const eur = (amountMinor: bigint) => ({ currencyCode: 'EUR', amountMinor });
const post = async (path: string, body: object, key: string) => {
  const headers = { 'idempotency-key': key };
  const response = await fetch(acquirerUrl + path, { method: 'POST', headers, body: JSON.stringify(body) });
  return (await response.json()) as { operation_id: string };
};
const reason = 'ticket 4711';
const { PAYMENT_RESOLUTION_TRY_AGAIN, PAYMENT_RESOLUTION_GIVE_UP } = PaymentResolution;
const { PAYMENT_RESOLUTION_DONE_AT_ACQUIRER, PAYMENT_RESOLUTION_REFUNDED_OUTSIDE } = PaymentResolution;
const { PAYMENT_OPERATION_STATE_PENDING, PAYMENT_OPERATION_STATE_DONE, PAYMENT_OPERATION_STATE_REFUSED } =
  PaymentOperationState;

/**
 * A refund of 400 that has no outcome here, as if the process had been killed after its request under `operationId`.
 */
async function pendingRefund({ key = null, state = 'PENDING' }: { key?: string | null; state?: string } = {}) {
  const authorization = bed.newAuthorization();
  const { paymentId } = authorization;
  const { acquirerChargeId: chargeId } = await bed.orders.authorizePayment(authorization);
  await bed.orders.capturePayment({ paymentId });
  const operationId = randomUUID();
  await query(
    `insert into payment_operation (operation_id, payment_id, kind, state, amount_minor, request_hash, created_at,
       attempted_at, resolve_at, acquirer_key, acquirer_key_at, needs_operator_at)
     values (?, ?, 'refund', ?, 400, ?, utc_timestamp(6), utc_timestamp(6), utc_timestamp(6) + interval 1 hour, ?,
       if(? is null, null, utc_timestamp(6)), if(? = 'REFUSED', utc_timestamp(6), null))`,
    [operationId, paymentId, state, Buffer.alloc(32), key, key, state],
  );
  if (state === 'PENDING') await query('update payment set refunding_minor = 400 where payment_id = ?', [paymentId]);
  return { paymentId, chargeId, operationId };
}

t.test('an outcome of an earlier key changes nothing', async (t) => {
  const key = randomUUID();
  const { paymentId, operationId } = await pendingRefund({ key });
  const store = paymentStore({ pendingResolveMs: 600_000 });
  const tx = { query, execute: query } as unknown as Tx;
  const intent = { operationId, paymentId, key: operationId };
  const { operation } = await store.completeOperation(tx, intent, { kind: 'refused', code: 'refund_declined' });
  t.match(operation, { state: 'PENDING', key, failureCode: '' });
  await store.markTooOld(tx, intent);
  t.match(await operator.getPaymentOperation({ operationId }), {
    operation: { state: PAYMENT_OPERATION_STATE_PENDING, failureCode: '', needsOperatorTime: undefined },
  });
  const resolve = { operationId, resolution: PAYMENT_RESOLUTION_GIVE_UP, reason };
  t.match(await operator.resolvePaymentOperation(resolve), { state: PAYMENT_OPERATION_STATE_REFUSED });
});

t.test('a refused refund that the acquirer has done under its key is not paid twice', async (t) => {
  const { paymentId, chargeId, operationId } = await pendingRefund({ state: 'REFUSED' });
  const { operation_id: externalId } = await post(`/v1/charges/${chargeId}/refund`, { amount_minor: 400 }, operationId);
  for (const resolution of [PAYMENT_RESOLUTION_TRY_AGAIN, PAYMENT_RESOLUTION_REFUNDED_OUTSIDE] as const) {
    await t.rejects(
      operator.resolvePaymentOperation({ operationId, resolution, reason }),
      refusal({ reason: 'RESOLUTION_NOT_APPLICABLE', metadata: { acquirer: 'acted', external_id: externalId } }),
    );
  }
  const done = { operationId, resolution: PAYMENT_RESOLUTION_DONE_AT_ACQUIRER, reason, externalId };
  t.match(await operator.resolvePaymentOperation(done), { state: PAYMENT_OPERATION_STATE_DONE, externalId });
  t.match(await bed.orders.getPayment({ paymentId }), { refunded: eur(400n) });
});

t.test('a repeat of TRY_AGAIN gets the same response and leaves the new key alone', async (t) => {
  const { operationId } = await pendingRefund();
  const requestId = randomUUID();
  const request = { requestId, operationId, resolution: PAYMENT_RESOLUTION_TRY_AGAIN, reason };
  const before = await operator.resolvePaymentOperation(request);
  t.match(before, { state: PAYMENT_OPERATION_STATE_PENDING });
  const [{ acquirer_key: key }] = await query('select acquirer_key from payment_operation where operation_id = ?', [
    operationId,
  ]);
  t.strictSame(await operator.resolvePaymentOperation(request), before);
  const log = await acquirerLog(acquirerUrl);
  // biome-ignore lint/suspicious/noExplicitAny: JSON of the acquirer, of any shape
  const cancelled = log.filter((one) => one.kind === 'cancellation').map((one: any) => one.idempotency_key);
  t.ok(cancelled.includes(operationId), 'the first key never acts');
  t.notOk(cancelled.includes(key), 'the new key may');
  await operator.resolvePaymentOperation({ operationId, resolution: PAYMENT_RESOLUTION_GIVE_UP, reason });
});
