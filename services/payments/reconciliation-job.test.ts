// The periodic reconciliation on real servers, without webhooks and the job for pending operations.
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { DifferenceKind } from '@armature/proto/payments/v1/ledger.ts';
import { PaymentState } from '@armature/proto/payments/v1/payments.ts';
import t from 'tap';
import { connectMysql } from '../../scripts/devmesh/servers/mysql.ts';
import { developerCredentials, startService, token, workloadCertificate } from '../../test/support/service.ts';
import { ledgerViolations } from '../../test/verification/invariants/ledger-checks.ts';
import { openBed, queryOf } from './testbed.ts';

t.setTimeout(180_000);
/** Without webhooks, and with a job for pending operations that starts after this test. */
const acquirer = await startService(t, 'acquirer', { env: { ARMATURE_ACQUIRER_SLOW_MS: '500' } });
const acquirerUrl = `http://${acquirer.http}`;
const env = {
  ARMATURE_PENDING_RESOLVE_MS: '600000',
  ARMATURE_ACQUIRER_TIMEOUT_MS: '1000',
  ARMATURE_RECONCILE_MS: '50',
  ARMATURE_RECONCILE_FULL_MS: '200',
  ARMATURE_RECONCILE_GRACE_MS: '0',
};
const service = await startService(t, 'payments', { acquirerUrl, env });
const { database, vhost } = service;
const connection = await connectMysql(database!.adminUrl);
const query = queryOf(connection);
const bed = openBed({
  grpc: service.grpc,
  acquirer: acquirerUrl,
  ordersTls: await workloadCertificate('orders'),
  developerTls: await developerCredentials(),
  tokens: { bo: await token('bo'), ada: await token('ada'), admin: await token('admin') },
});
t.teardown(async () => {
  bed.close();
  await connection.end();
});

async function until<T>(what: string, poll: () => Promise<T | undefined>): Promise<T> {
  const deadline = Date.now() + 30_000;
  for (;;) {
    const found = await poll();
    if (found !== undefined) return found;
    if (Date.now() > deadline) throw new Error(`not within 30 s: ${what}: ${service.logs().slice(-2_000)}`);
    await sleep(20);
  }
}
const becomes = (paymentId: string, state: PaymentState) =>
  until(`${paymentId} is ${state}`, async () => {
    const payment = await bed.orders.getPayment({ paymentId });
    return payment.state === state ? payment : undefined;
  });
const differing = (kind: DifferenceKind) =>
  until(`a difference ${kind}`, async () => {
    const { differences } = await bed.ledger.listDifferences({});
    return differences.find((one) => one.kind === kind);
  });
const noneDiffer = () =>
  until('no difference', async () =>
    (await bed.ledger.listDifferences({})).differences.length === 0 ? true : undefined,
  );
const authorized = async (card: string) => {
  const authorization = bed.newAuthorization({ card });
  return { ...authorization, chargeId: (await bed.orders.authorizePayment(authorization)).acquirerChargeId };
};
const post = async (path: string, key: string, body: object = {}) => {
  const headers = { 'idempotency-key': key };
  await fetch(acquirerUrl + path, { method: 'POST', headers, body: JSON.stringify(body) });
};

t.test('records a hold that has expired, and one that was voided under a foreign key', async (t) => {
  const expired = await authorized('card_hold_expires');
  const voided = await authorized('card_ok');
  await post(`/v1/charges/${voided.chargeId}/void`, 'support/1');
  await becomes(expired.paymentId, PaymentState.PAYMENT_STATE_HOLD_EXPIRED);
  await becomes(voided.paymentId, PaymentState.PAYMENT_STATE_VOIDED_EXTERNALLY);
  t.match(await query('select * from reconciliation order by state_after'), [
    { resolved_by: 'service:payments', state_before: 'AUTHORIZED', state_after: 'HOLD_EXPIRED' },
    { resolved_by: 'service:payments', state_before: 'AUTHORIZED', state_after: 'VOIDED_EXTERNALLY' },
  ]);
  await noneDiffer();
  t.strictSame(await ledgerViolations(query, acquirerUrl), []);
});

t.test('records the authorization of a caller that has left', async (t) => {
  const authorization = bed.newAuthorization({ card: 'card_webhook' });
  await t.rejects(bed.orders.authorizePayment(authorization, { timeoutMs: 200 }));
  await becomes(authorization.paymentId, PaymentState.PAYMENT_STATE_AUTHORIZED);
  t.strictSame(await ledgerViolations(query, acquirerUrl), []);
});

t.test('lists a difference that it cannot resolve until it no longer exists', async (t) => {
  const captured = await authorized('card_ok');
  await bed.orders.capturePayment({ paymentId: captured.paymentId });
  const [entry] = await query("select * from ledger_entry where payment_id = ? and kind = 'capture'", [
    captured.paymentId,
  ]);
  const rename = (externalId: string) =>
    query('update ledger_entry set external_id = ? where position = ?', [externalId, entry.position]);
  const forged = `op_${'0'.repeat(32)}`;
  await rename(forged);
  t.match(await differing(DifferenceKind.DIFFERENCE_KIND_NOT_AT_ACQUIRER), {
    externalId: forged,
    paymentId: captured.paymentId,
    firstSeenTime: Date,
  });
  t.match(await differing(DifferenceKind.DIFFERENCE_KIND_NOT_IN_LEDGER), { externalId: entry.external_id });
  const metrics = await (await fetch(`http://${service.admin}/metrics`)).text();
  t.match(metrics, /^armature_reconciliation_differences\{.*kind="NOT_AT_ACQUIRER".*\} 1$/m);
  t.match(metrics, /^armature_reconciliation_caught_up_age_seconds/m);
  // Both within one millisecond: a cursor without microseconds would skip one.
  for (const [index, externalId] of [forged, entry.external_id].entries()) {
    const at = `2026-01-01 00:00:00.00000${index}`;
    await query('update reconciliation_difference set first_seen_at = ? where external_id = ?', [at, externalId]);
  }
  const first = await bed.ledger.listDifferences({ pageSize: 1 });
  const second = await bed.ledger.listDifferences({ pageSize: 1, pageToken: first.nextPageToken });
  t.equal(new Set([...first.differences, ...second.differences].map((one) => one.externalId)).size, 2);
  t.equal(second.nextPageToken, '');
  await rename(entry.external_id);
  await noneDiffer();
});

t.test('one process runs the job at a time', async (t) => {
  const second = await startService(t, 'payments', { acquirerUrl, env, database, vhost });
  await sleep(500);
  const holders = await query("select holder from lease where name = 'reconciliation'");
  t.equal(holders.length, 1);
  const moved = async (running: typeof service) =>
    /^armature_reconciliation_records_total\{/m.test(await (await fetch(`http://${running.admin}/metrics`)).text());
  t.notOk(await moved(second), 'the second one has compared nothing');
  t.ok(await moved(service));
  const authorization = await authorized('card_ok');
  await service.stop();
  await post(`/v1/charges/${authorization.chargeId}/void`, randomUUID());
  await until('the second one continues', async () => ((await moved(second)) ? true : undefined));
});
