// Webhooks over the wire: what the acquirer sends by itself, and what anybody might send in its name.
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
import { acquirerLog } from './books.ts';
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
/** Nobody but webhooks brings an operation to its end here that its caller has left. */
const patient = { ARMATURE_ACQUIRER_TIMEOUT_MS: '10000', ARMATURE_PENDING_RESOLVE_MS: '600000' };
const impatient = { ...patient, ARMATURE_PENDING_RESOLVE_MS: '100', ARMATURE_PENDING_SWEEP_MS: '10' };
let [acquirer, service] = await Promise.all([
  startAcquirer(),
  startService(t, 'payments', { acquirerUrl, http: webhookAddress, env: patient }),
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

/** Sends one request and answers `<status> <outcome>`. */
function deliver({ body, method = 'POST', path = '/v1/acquirer/events', headers = {} }: Delivery): Promise<string> {
  const all = { 'content-type': 'application/json', 'acquirer-signature': signature(body), ...headers };
  const sent = Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined));
  return new Promise((resolve, reject) => {
    const asked = request(
      { host: '127.0.0.1', port: webhookPort, ca, method, path, headers: sent, agent: false },
      async (response) => {
        let text = '';
        for await (const chunk of response) text += chunk;
        resolve(`${response.statusCode} ${text === '' ? '' : JSON.parse(text).outcome}`);
      },
    );
    asked.once('error', reject);
    asked.end(body);
  });
}

const event = (key: string | null, id: string = randomUUID()) =>
  JSON.stringify({ event_id: `evt_${id}`, type: 'settlement.authorized', idempotency_key: key });

async function until<T>(what: string, ask: () => Promise<T | undefined>): Promise<T> {
  const deadline = Date.now() + 60_000;
  for (;;) {
    const answer = await ask();
    if (answer !== undefined) return answer;
    if (Date.now() > deadline) throw new Error(`waited in vain for ${what}: ${service.logs().slice(-2_000)}`);
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
const settled = (paymentId: string) =>
  until('the outcome', async () => ((await operationOf(paymentId)).state === 'DONE' ? true : undefined));
const eventsOf = async (operationId: string): Promise<number> =>
  Number((await query('select count(*) as n from webhook_event where operation_id = ?', [operationId]))[0].n);
const counted = async (outcome: string): Promise<number> => {
  const text = await (await fetch(`http://${service.admin}/metrics`)).text();
  const line = new RegExp(`^armature_webhooks_received_total\\{.*outcome="${outcome}".*\\} (\\d+)`, 'm').exec(text);
  return Number(line?.[1] ?? 0);
};

/** An authorization that its caller leaves once the acquirer has it, so that only a webhook can bring it to its end. */
async function abandoned(card: string) {
  const wish = bed.wish({ card });
  const left = new AbortController();
  const answer = bed.orders.authorizePayment(wish, { signal: left.signal }).catch((error) => error.code);
  await until('the acquirer to have heard of it', async () => {
    const log = await acquirerLog(acquirerUrl);
    return log.some((operation) => operation.order_reference === wish.orderId) ? true : undefined;
  });
  left.abort();
  await answer;
  return wish;
}

t.test('payments killed between receipt and commit hears of it again', async (t) => {
  await restart({ ...patient, ARMATURE_CRASH_POINTS: 'payments.webhook-received' });
  const { paymentId } = await abandoned('card_timeout_after_auth');
  for (const next of ['payments.webhook-before-commit', '']) {
    await until('the crash', async () => (service.process.signalCode === 'SIGKILL' ? true : undefined));
    t.equal((await operationOf(paymentId)).state, 'PENDING', `before the next process, armed '${next}'`);
    await restart({ ...patient, ARMATURE_CRASH_POINTS: next });
  }
  await settled(paymentId);
  t.equal(await eventsOf((await operationOf(paymentId)).operation_id), 1);
});

/** Sends half a body and answers what the server says to that, which takes it some seconds. */
async function halfABody(): Promise<string> {
  const socket = connect({ host: '127.0.0.1', port: webhookPort!, ca, servername: 'localhost' });
  t.teardown(() => socket.destroy());
  socket.write('POST /v1/acquirer/events HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n');
  socket.write('content-length: 100\r\n\r\n{');
  let answer = '';
  for await (const chunk of socket) answer += chunk;
  return answer;
}
let answerToHalf: Promise<string> | undefined;
t.test('half a body is sent, and its end awaited below', async () => {
  answerToHalf = halfABody();
  // Its test hears of what is wrong with it; without that test, in a run of some, the end of the service ends it.
  answerToHalf.catch(() => {});
});

t.test('a hold that ends at the acquirer', async (t) => {
  const hold = async (card: string) => {
    const request = bed.wish({ card });
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
    const told = { event_id: `evt_${randomUUID()}`, type: 'expiration.expired', idempotency_key: 'x', operation };
    t.equal(await deliver({ body: JSON.stringify(told) }), '503 unconfirmed');
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
    ['about a key of somebody else', { body: event('order-7/authorize') }, '200 foreign'],
    ['about an operation that we do not know', { body }, '404 unknown'],
  ];
  for (const [name, delivery, expected] of rows) t.equal(await deliver(delivery), expected, name);
  t.ok((await counted('forged')) >= 2);
  t.notMatch(service.logs(), operationId, 'nothing of a body is logged');
  t.notMatch(service.logs(), secret);
});

t.test('a webhook settles what nobody asks about any more', async (t) => {
  const all = [
    'card_webhook',
    'card_webhook_twice',
    'card_webhook_late',
    'card_webhook_before_answer',
    'card_timeout_after_auth',
  ];
  const settle = async (card: string) => {
    const { paymentId } = await abandoned(card);
    await settled(paymentId);
    const { operation_id } = await operationOf(paymentId);
    t.equal(await eventsOf(operation_id), 1, `${card}: one event had the effect`);
    t.match(await bed.orders.getPayment({ paymentId }), { state: PaymentState.PAYMENT_STATE_AUTHORIZED, version: 2n });
  };
  await Promise.all(all.map(settle));
});

t.test('a caller who waits is told at once', async (t) => {
  // The second is told before the 202.
  const cards = ['card_webhook', 'card_webhook_before_answer'];
  const told = await Promise.all(cards.map((card) => bed.orders.authorizePayment(bed.wish({ card }))));
  for (const payment of told) t.match(payment, { state: PaymentState.PAYMENT_STATE_AUTHORIZED });
});

t.test('a webhook is not believed: the acquirer is asked', async (t) => {
  await acquirer.kill();
  const wish = bed.wish();
  await t.rejects(bed.orders.authorizePayment(wish, { timeoutMs: 300 }));
  const { operation_id } = await operationOf(wish.paymentId);
  const body = event(operation_id);
  t.equal(await deliver({ body }), '503 unconfirmed', 'the acquirer is away');
  acquirer = await startAcquirer();
  t.equal(await deliver({ body }), '503 unconfirmed', 'the acquirer has not heard of it');
  t.equal((await operationOf(wish.paymentId)).state, 'PENDING');
  await bed.orders.authorizePayment(wish);
  t.equal(await deliver({ body }), '200 known');
  t.equal(await deliver({ body }), '200 known', 'a replay has no effect');
});

t.test('fifty deliveries at once are one effect', async (t) => {
  const { paymentId } = await abandoned('card_timeout_after_auth');
  const { operation_id } = await operationOf(paymentId);
  const id = randomUUID();
  const one = Array.from({ length: 25 }, () => deliver({ body: event(operation_id, id) }));
  const others = Array.from({ length: 25 }, () => deliver({ body: event(operation_id) }));
  const answers = new Set(await Promise.all([...one, ...others]));
  t.ok(
    [...answers].every((said) => ['200 settled', '200 repeated', '200 known', '503 unconfirmed'].includes(said)),
    [...answers].join(),
  );
  await settled(paymentId);
  t.equal((await query('select count(*) as n from ledger_entry where payment_id = ?', [paymentId]))[0].n, 1);
});

t.test('an acquirer that is killed sends what was not acknowledged', async (t) => {
  await acquirer.kill();
  acquirer = await startAcquirer({ ARMATURE_ACQUIRER_WEBHOOK_URL: '' });
  const { paymentId } = await abandoned('card_timeout_after_auth');
  t.equal((await operationOf(paymentId)).state, 'PENDING', 'nobody was told');
  await acquirer.kill();
  acquirer = await startAcquirer();
  await settled(paymentId);
});

t.test('a body that does not come is not waited for', async (t) => {
  t.match(await answerToHalf, /^HTTP\/1\.1 408 /);
});

t.test('webhook, sweeper and caller meet on one operation', async (t) => {
  await restart(impatient);
  const meet = async (card: string) => {
    const wish = bed.wish({ card });
    await bed.orders.authorizePayment(wish);
    await settled(wish.paymentId);
    const entries = await query('select kind from ledger_entry where payment_id = ?', [wish.paymentId]);
    t.equal(entries.length, 1);
  };
  const cards = ['card_webhook_twice', 'card_webhook_before_answer'];
  await Promise.all(Array.from({ length: 8 }, (_, round) => meet(cards[round % 2]!)));
});
