// Webhooks over HTTPS: those that the acquirer sends, and forged ones.
import { createHmac, randomUUID } from 'node:crypto';
import { request } from 'node:https';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect } from 'node:tls';
import { PaymentState } from '@armature/proto/payments/v1/payments.ts';
import t from 'tap';
import { webhookSecret } from '../../scripts/devmesh/environment.ts';
import { reservePorts } from '../../scripts/devmesh/ports.ts';
import { connectMysql } from '../../scripts/devmesh/servers/mysql.ts';
import { testServers } from '../../test/support/infra.ts';
import { developerCredentials, startService, token, workloadCertificate } from '../../test/support/service.ts';
import { acquirerLog } from '../../test/verification/invariants/ledger-checks.ts';
import { booksInOrder, openBed, queryOf } from './testbed.ts';

t.setTimeout(120_000);
const { state } = await testServers();
const secret = webhookSecret(state);
const [webhookPort, acquirerPort] = await reservePorts(state, 2);
const webhookAddress = `127.0.0.1:${webhookPort}`;
const acquirerUrl = `http://127.0.0.1:${acquirerPort}`;
const acquirerDir = t.testdir();
const startAcquirer = (env: Record<string, string> = {}) =>
  startService(t, 'acquirer', {
    http: `127.0.0.1:${acquirerPort}`,
    webhookAddress,
    env: {
      ARMATURE_ACQUIRER_DATA_DIR: acquirerDir,
      ARMATURE_ACQUIRER_SLOW_MS: '500',
      ARMATURE_ACQUIRER_WEBHOOK_RETRY_FIRST_MS: '50',
      ARMATURE_ACQUIRER_WEBHOOK_RETRY_MOST_MS: '200',
      ARMATURE_ACQUIRER_WEBHOOK_NOTICE_MS: '100',
      ARMATURE_ACQUIRER_WEBHOOK_LATE_MS: '200',
      ...env,
    },
  });
/** The periodic job does not run, so only webhooks complete an operation that its caller has left. */
const withoutJob = { ARMATURE_ACQUIRER_TIMEOUT_MS: '10000', ARMATURE_PENDING_RESOLVE_MS: '600000' };
const withJob = { ...withoutJob, ARMATURE_PENDING_RESOLVE_MS: '100', ARMATURE_PENDING_SWEEP_MS: '10' };
let [acquirer, service] = await Promise.all([
  startAcquirer(),
  startService(t, 'payments', { acquirerUrl, http: webhookAddress, env: withoutJob }),
]);
const { database, vhost } = service;
const connection = await connectMysql(database!.adminUrl);
const query = queryOf(connection);
const { ca } = await workloadCertificate('orders');
const bedOptions = {
  acquirer: acquirerUrl,
  ordersTls: await workloadCertificate('orders'),
  developerTls: await developerCredentials(),
  tokens: { bo: await token('bo'), ada: await token('ada'), admin: await token('admin') },
};
let bed = openBed({ grpc: service.grpc, ...bedOptions });
t.teardown(async () => {
  bed.close();
  await connection.end();
});
t.afterEach(async () => booksInOrder(query, acquirerUrl, await bed.ledger.getTrialBalance({})));

async function restart(env: Record<string, string>): Promise<void> {
  bed.close();
  await service.stop();
  service = await startService(t, 'payments', { acquirerUrl, http: webhookAddress, env, database, vhost });
  bed = openBed({ grpc: service.grpc, ...bedOptions });
}

const signature = (body: string, { by = secret, ageS = 0 } = {}) => {
  const timestampS = Math.floor(Date.now() / 1_000) - ageS;
  return `t=${timestampS},v1=${createHmac('sha256', by).update(`${timestampS}.${body}`).digest('hex')}`;
};

interface Delivery {
  body: string;
  method?: string;
  path?: string;
  headers?: Record<string, string | undefined>;
}

/** Sends one request and returns `<status> <outcome>`. */
function deliver({ body, method = 'POST', path = '/v1/acquirer/events', headers = {} }: Delivery): Promise<string> {
  const all = { 'content-type': 'application/json', 'acquirer-signature': signature(body), ...headers };
  const present = Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined));
  return new Promise((resolve, reject) => {
    const sent = request(
      { host: '127.0.0.1', port: webhookPort, ca, method, path, headers: present, agent: false },
      async (response) => {
        let text = '';
        for await (const chunk of response) text += chunk;
        resolve(`${response.statusCode} ${text === '' ? '' : JSON.parse(text).outcome}`);
      },
    );
    sent.once('error', reject);
    sent.end(body);
  });
}

const event = (key: string | null, id: string = randomUUID()) =>
  JSON.stringify({ event_id: `evt_${id}`, type: 'settlement.authorized', idempotency_key: key });

async function until<T>(what: string, poll: () => Promise<T | undefined>): Promise<T> {
  const deadline = Date.now() + 60_000;
  for (;;) {
    const found = await poll();
    if (found !== undefined) return found;
    if (Date.now() > deadline) throw new Error(`not within 60 s: ${what}: ${service.logs().slice(-2_000)}`);
    await sleep(20);
  }
}

const operationOf = (paymentId: string) =>
  until('the operation', async () => {
    const [row] = await query("select * from payment_operation where payment_id = ? and kind = 'authorize'", [
      paymentId,
    ]);
    return row as { operation_id: string; state: string } | undefined;
  });
const untilDone = (paymentId: string) =>
  until('the outcome', async () => ((await operationOf(paymentId)).state === 'DONE' ? true : undefined));
const eventsOf = async (operationId: string): Promise<number> =>
  Number((await query('select count(*) as n from webhook_event where operation_id = ?', [operationId]))[0].n);
const counted = async (outcome: string): Promise<number> => {
  const text = await (await fetch(`http://${service.admin}/metrics`)).text();
  const line = new RegExp(`^armature_webhooks_received_total\\{.*outcome="${outcome}".*\\} (\\d+)`, 'm').exec(text);
  return Number(line?.[1] ?? 0);
};

/** An authorization whose caller leaves once the acquirer has recorded it, so that only a webhook can complete it. */
async function abandoned(card: string) {
  const authorization = bed.newAuthorization({ card });
  const left = new AbortController();
  const response = bed.orders.authorizePayment(authorization, { signal: left.signal }).catch((error) => error.code);
  await until('a record of the acquirer', async () => {
    const log = await acquirerLog(acquirerUrl);
    return log.some((operation) => operation.order_reference === authorization.orderId) ? true : undefined;
  });
  left.abort();
  await response;
  return authorization;
}

t.test('an event is delivered again after payments is killed between receipt and commit', async (t) => {
  await restart({ ...withoutJob, ARMATURE_CRASH_POINTS: 'payments.webhook-received' });
  const { paymentId } = await abandoned('card_timeout_after_auth');
  for (const next of ['payments.webhook-before-commit', '']) {
    await until('the crash', async () => (service.process.signalCode === 'SIGKILL' ? true : undefined));
    t.equal((await operationOf(paymentId)).state, 'PENDING', `before the next process, armed '${next}'`);
    await restart({ ...withoutJob, ARMATURE_CRASH_POINTS: next });
  }
  await untilDone(paymentId);
  t.equal(await eventsOf((await operationOf(paymentId)).operation_id), 1);
});

/** Sends half a body and returns the response, which takes some seconds. */
async function halfABody(): Promise<string> {
  const socket = connect({ host: '127.0.0.1', port: webhookPort!, ca, servername: 'localhost' });
  t.teardown(() => socket.destroy());
  socket.write('POST /v1/acquirer/events HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n');
  socket.write('content-length: 100\r\n\r\n{');
  let response = '';
  for await (const chunk of socket) response += chunk;
  return response;
}
let responseToHalf: Promise<string> | undefined;
t.test('sends half a body, whose response a later test checks', async () => {
  responseToHalf = halfABody();
  // The later test awaits it. In a run of selected tests without that one, the end of the service rejects it.
  responseToHalf.catch(() => {});
});

t.test('a hold that ends at the acquirer', async (t) => {
  const hold = async (card: string) => {
    const request = bed.newAuthorization({ card });
    return { ...request, chargeId: (await bed.orders.authorizePayment(request)).acquirerChargeId };
  };
  const ended = (paymentId: string, state: PaymentState) =>
    until(`the end of ${paymentId}`, async () => {
      const payment = await bed.orders.getPayment({ paymentId });
      return payment.state === state ? payment : undefined;
    });
  const voidAt = (chargeId: string, key: string) =>
    fetch(`${acquirerUrl}/v1/charges/${chargeId}/void`, { method: 'POST', headers: { 'idempotency-key': key } });

  t.test('by its time is recorded by a webhook', async (t) => {
    const { paymentId } = await hold('card_hold_expires');
    t.match(await ended(paymentId, PaymentState.PAYMENT_STATE_HOLD_EXPIRED), { version: 3n });
  });
  for (const [name, key] of [
    ['by a key that cannot be ours', 'support/1'],
    ['by a key that could be ours', randomUUID()],
  ] as const) {
    t.test(`${name} is recorded by a webhook, once`, async (t) => {
      const { paymentId, chargeId } = await hold('card_ok');
      await voidAt(chargeId, key);
      await ended(paymentId, PaymentState.PAYMENT_STATE_VOIDED_EXTERNALLY);
      const operation = { charge_id: chargeId };
      const again = JSON.stringify({ event_id: 'evt_again', type: 'void.voided', idempotency_key: key, operation });
      t.equal(await deliver({ body: again }), '200 known');
      t.match(await bed.orders.getPayment({ paymentId }), { version: 3n });
    });
  }
  t.test('is not believed when the acquirer still holds it', async (t) => {
    const { paymentId, chargeId } = await hold('card_ok');
    const operation = { charge_id: chargeId };
    const claimed = { event_id: `evt_${randomUUID()}`, type: 'expiration.expired', idempotency_key: 'x', operation };
    t.equal(await deliver({ body: JSON.stringify(claimed) }), '503 unconfirmed');
    t.match(await bed.orders.getPayment({ paymentId }), { state: PaymentState.PAYMENT_STATE_AUTHORIZED });
  });
  t.test('by a void of ours stays a void of ours', async (t) => {
    const { paymentId, orderId } = await hold('card_ok');
    t.match(await bed.orders.voidPayment({ paymentId, orderId }), { state: PaymentState.PAYMENT_STATE_VOIDED });
  });
});

t.test('what is not a webhook of the acquirer has no effect', async (t) => {
  const operationId = randomUUID();
  const body = event(operationId);
  const other = event(randomUUID());
  const rows: [string, Delivery, string][] = [
    ['no signature', { body, headers: { 'acquirer-signature': undefined } }, '401 unsigned'],
    ['half a signature', { body, headers: { 'acquirer-signature': 't=1' } }, '401 unsigned'],
    ['a wrong secret', { body, headers: { 'acquirer-signature': signature(body, { by: 'x' }) } }, '401 forged'],
    ['an altered body', { body, headers: { 'acquirer-signature': signature(other) } }, '401 forged'],
    ['too old', { body, headers: { 'acquirer-signature': signature(body, { ageS: 320 }) } }, '401 untimely'],
    ['too early', { body, headers: { 'acquirer-signature': signature(body, { ageS: -320 }) } }, '401 untimely'],
    ['too large', { body: 'x'.repeat(17_000) }, '413 '],
    [
      'too large, and not said',
      { body: 'x'.repeat(17_000), headers: { 'transfer-encoding': 'chunked' } },
      '413 too_large',
    ],
    ['not an event', { body: '{}' }, '400 malformed'],
    ['a wrong path', { body, path: '/v1/acquirer' }, '404 lost'],
    ['a wrong method', { body, method: 'PUT' }, '405 wrong_method'],
    ['a wrong type', { body, headers: { 'content-type': 'text/plain' } }, '415 wrong_type'],
    ['about a foreign key', { body: event('order-7/authorize') }, '200 foreign'],
    ['about an unknown operation', { body }, '404 unknown'],
  ];
  for (const [name, delivery, expected] of rows) t.equal(await deliver(delivery), expected, name);
  t.ok((await counted('forged')) >= 2);
  t.notMatch(service.logs(), operationId, 'nothing of a body is logged');
  t.notMatch(service.logs(), secret);
});

t.test('a webhook completes an operation whose caller has left', async (t) => {
  const all = [
    'card_webhook',
    'card_webhook_twice',
    'card_webhook_late',
    'card_webhook_before_answer',
    'card_timeout_after_auth',
  ];
  const complete = async (card: string) => {
    const { paymentId } = await abandoned(card);
    await untilDone(paymentId);
    const { operation_id } = await operationOf(paymentId);
    t.equal(await eventsOf(operation_id), 1, `${card}: one event had the effect`);
    t.match(await bed.orders.getPayment({ paymentId }), { state: PaymentState.PAYMENT_STATE_AUTHORIZED, version: 2n });
  };
  await Promise.all(all.map(complete));
});

t.test('a caller that waits gets the outcome at once', async (t) => {
  // The webhook of the second one arrives before the response 202.
  const cards = ['card_webhook', 'card_webhook_before_answer'];
  const authorized = await Promise.all(
    cards.map((card) => bed.orders.authorizePayment(bed.newAuthorization({ card }))),
  );
  for (const payment of authorized) t.match(payment, { state: PaymentState.PAYMENT_STATE_AUTHORIZED });
});

t.test('the outcome comes from the acquirer, not from the webhook', async (t) => {
  await acquirer.kill();
  const authorization = bed.newAuthorization();
  await t.rejects(bed.orders.authorizePayment(authorization, { timeoutMs: 300 }));
  const { operation_id } = await operationOf(authorization.paymentId);
  const body = event(operation_id);
  t.equal(await deliver({ body }), '503 unconfirmed', 'the acquirer is down');
  acquirer = await startAcquirer();
  t.equal(await deliver({ body }), '503 unconfirmed', 'the acquirer has no record of it');
  t.equal((await operationOf(authorization.paymentId)).state, 'PENDING');
  await bed.orders.authorizePayment(authorization);
  t.equal(await deliver({ body }), '200 known');
  t.equal(await deliver({ body }), '200 known', 'a replay has no effect');
});

t.test('fifty concurrent deliveries have one effect', async (t) => {
  const { paymentId } = await abandoned('card_timeout_after_auth');
  const { operation_id } = await operationOf(paymentId);
  const id = randomUUID();
  const one = Array.from({ length: 25 }, () => deliver({ body: event(operation_id, id) }));
  const others = Array.from({ length: 25 }, () => deliver({ body: event(operation_id) }));
  const outcomes = new Set(await Promise.all([...one, ...others]));
  t.ok(
    [...outcomes].every((outcome) => ['200 settled', '200 repeated', '200 known', '503 unconfirmed'].includes(outcome)),
    [...outcomes].join(),
  );
  await untilDone(paymentId);
  t.equal((await query('select count(*) as n from ledger_entry where payment_id = ?', [paymentId]))[0].n, 1);
});

t.test('an acquirer sends unacknowledged events after it was killed', async (t) => {
  await acquirer.kill();
  acquirer = await startAcquirer({ ARMATURE_ACQUIRER_WEBHOOK_URL: '' });
  const { paymentId } = await abandoned('card_timeout_after_auth');
  t.equal((await operationOf(paymentId)).state, 'PENDING', 'no webhook was sent');
  await acquirer.kill();
  acquirer = await startAcquirer();
  await untilDone(paymentId);
});

t.test('an incomplete body gets 408', async (t) => {
  t.match(await responseToHalf, /^HTTP\/1\.1 408 /);
});

t.test('a webhook, the periodic job and a caller complete one operation', async (t) => {
  await restart(withJob);
  const meet = async (card: string) => {
    const authorization = bed.newAuthorization({ card });
    await bed.orders.authorizePayment(authorization);
    await untilDone(authorization.paymentId);
    const entries = await query('select kind from ledger_entry where payment_id = ?', [authorization.paymentId]);
    t.equal(entries.length, 1);
  };
  const cards = ['card_webhook_twice', 'card_webhook_before_answer'];
  await Promise.all(Array.from({ length: 8 }, (_, round) => meet(cards[round % 2]!)));
});
