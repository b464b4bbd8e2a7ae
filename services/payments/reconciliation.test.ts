// Every kind of difference between ledger and acquirer, made on real servers, and its resolution.
import { randomUUID } from 'node:crypto';
import { ledgerClient } from '@armature/clients';
import { DifferenceKind } from '@armature/proto/payments/v1/ledger.ts';
import { PaymentState } from '@armature/proto/payments/v1/payments.ts';
import t from 'tap';
import { compareBooks, tableOf } from '../../scripts/cli/reconcile/pages.ts';
import { connectMysql } from '../../scripts/devmesh/servers/mysql.ts';
import { refusal } from '../../test/support/refusal.ts';
import { developerCredentials, startService, token, workloadCertificate } from '../../test/support/service.ts';
import { acquirerLog, ledgerViolations } from '../../test/verification/invariants/ledger-checks.ts';
import { openBed, queryOf } from './testbed.ts';

t.setTimeout(120_000);
/**
 * Without webhooks, and with a periodic job that starts after this test: only the reconciliation resolves differences.
 */
const acquirer = await startService(t, 'acquirer');
const acquirerUrl = `http://${acquirer.http}`;
const env = { ARMATURE_PENDING_RESOLVE_MS: '600000', ARMATURE_ACQUIRER_TIMEOUT_MS: '1000' };
const crash = { ...env, ARMATURE_CRASH_POINTS: 'payments.after-acquirer:2' };
let service = await startService(t, 'payments', { acquirerUrl, env: crash });
const { database, vhost } = service;
const connection = await connectMysql(database!.adminUrl);
const query = queryOf(connection);
const tokens = { bo: await token('bo'), ada: await token('ada'), admin: await token('admin') };
const developerTls = await developerCredentials();
const ordersTls = await workloadCertificate('orders');
const open = () => openBed({ grpc: service.grpc, acquirer: acquirerUrl, ordersTls, developerTls, tokens });
const asAdmin = () => ledgerClient({ addresses: [service.grpc], tls: developerTls, token: () => tokens.admin });
let bed = open();
let admin = asAdmin();
t.teardown(async () => {
  bed.close();
  admin.close();
  await connection.end();
});

async function restart(): Promise<void> {
  bed.close();
  admin.close();
  service = await startService(t, 'payments', { acquirerUrl, env, database, vhost });
  bed = open();
  admin = asAdmin();
}

const compare = (apply: boolean, graceSeconds = 0) => compareBooks(admin, { apply, graceSeconds });
const kinds = (all: Awaited<ReturnType<typeof compare>>) =>
  all.differences.map(({ kind, resolved }) => [kind, resolved]);
const { DIFFERENCE_KIND_OUTCOME_MISSING, DIFFERENCE_KIND_NOT_IN_LEDGER } = DifferenceKind;
const { DIFFERENCE_KIND_NOT_AT_ACQUIRER, DIFFERENCE_KIND_DISAGREEMENT } = DifferenceKind;

const authorization = bed.newAuthorization();

t.test('payments killed between acquirer and commit', async (t) => {
  await bed.orders.authorizePayment(authorization);
  t.strictSame(kinds(await compare(false)), [], 'books that agree');
  await t.rejects(bed.orders.capturePayment({ paymentId: authorization.paymentId }, { timeoutMs: 5_000 }));
  t.equal(await service.stop(), 'SIGKILL');
  await restart();
  const before = await query('select * from payment_operation order by operation_id');
  t.strictSame(kinds(await compare(true, 3_600)), [], 'within the grace period');
  const dry = await compare(false);
  t.strictSame(kinds(dry), [[DIFFERENCE_KIND_OUTCOME_MISSING, false]]);
  t.match(
    tableOf(dry.differences)[1],
    /^outcome missing {2}op_\w+ +[0-9a-f-]{36} +capture without an outcome +capture of/,
  );
  t.strictSame(await query('select * from payment_operation order by operation_id'), before, 'nothing was changed');
  const applied = await compare(true);
  t.strictSame(kinds(applied), [[DIFFERENCE_KIND_OUTCOME_MISSING, true]]);
  t.match(await bed.orders.getPayment({ paymentId: authorization.paymentId }), {
    state: PaymentState.PAYMENT_STATE_CAPTURED,
  });
  t.match(await query('select * from reconciliation'), [
    { resolved_by: 'user:admin', state_before: 'PENDING', state_after: 'DONE', external_id: /^op_/ },
  ]);
  t.strictSame(kinds(await compare(true)), [], 'a second time there is nothing to do');
  t.equal((await query('select * from reconciliation')).length, 1);
  t.strictSame(await ledgerViolations(query, acquirerUrl), []);
});

t.test('a foreign operation at the acquirer is reported and not resolved', async (t) => {
  const body = { order_reference: 'forged', amount_minor: 7, currency_code: 'EUR', payment_method: 'card_ok' };
  for (const key of [randomUUID(), 'foreign-key']) {
    const headers = { 'idempotency-key': key };
    await fetch(`${acquirerUrl}/v1/charges`, { method: 'POST', headers, body: JSON.stringify(body) });
  }
  const forged = [
    [DIFFERENCE_KIND_NOT_IN_LEDGER, false],
    [DIFFERENCE_KIND_NOT_IN_LEDGER, false],
  ];
  t.strictSame(kinds(await compare(true)), forged);
  t.strictSame(kinds(await compare(true)), forged, 'it stays until a person has dealt with it');
});

t.test('different and missing records are reported and not resolved', async (t) => {
  const [capture] = await query("select * from ledger_entry where kind = 'capture'");
  await connection.query('update ledger_posting set amount_minor = amount_minor * 2 where position = ?', [
    capture.position,
  ]);
  t.ok(kinds(await compare(true)).some(([kind]) => kind === DIFFERENCE_KIND_DISAGREEMENT));
  await connection.query('update ledger_posting set amount_minor = amount_minor / 2 where position = ?', [
    capture.position,
  ]);
  await connection.query("update ledger_entry set external_id = 'op_invented' where position = ?", [capture.position]);
  const found = kinds(await compare(true)).map(([kind]) => kind);
  t.ok(found.includes(DIFFERENCE_KIND_NOT_AT_ACQUIRER));
  t.equal(found.filter((kind) => kind === DIFFERENCE_KIND_NOT_IN_LEDGER).length, 3, 'and the real one is missing');
  await connection.query('update ledger_entry set external_id = ? where position = ?', [
    capture.external_id,
    capture.position,
  ]);
});

t.test('reads all pages, and refuses staff', async (t) => {
  await Promise.all(Array.from({ length: 60 }, () => bed.orders.authorizePayment(bed.newAuthorization())));
  const log = await acquirerLog(acquirerUrl);
  const { compared, differences } = await compare(true);
  t.equal(compared, 2 * log.length - 2, 'every operation, and every entry');
  t.equal(differences.length, 2);
  await t.rejects(bed.ledger.reconcileLedger({ apply: true }), refusal({ code: 'PERMISSION_DENIED' }), 'staff may not');
  await t.rejects(admin.reconcileLedger({ pageToken: 'x' }), refusal({ code: 'INVALID_ARGUMENT' }));
});
