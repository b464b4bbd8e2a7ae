// Races of requests for the same money, in every interleaving of their statements and their requests to the acquirer.
import { randomUUID } from 'node:crypto';
import { paymentsClient } from '@armature/clients';
import { derivedId } from '@armature/runtime/id';
import type { RowDataPacket } from 'mysql2/promise';
import t from 'tap';
import { certificateFiles } from '../../../scripts/devmesh/certificates.ts';
import { webhookSecret } from '../../../scripts/devmesh/environment.ts';
import { connectMysql } from '../../../scripts/devmesh/servers/mysql.ts';
import { webhookPoster } from '../../../services/acquirer/webhook-request.ts';
import { testServers } from '../../support/infra.ts';
import { startService, workloadCertificate } from '../../support/service.ts';
import { ledgerViolations } from '../invariants/ledger-checks.ts';
import { ledgerInvariants } from '../invariants/ledger-invariants.ts';
import { chosen, comeBack, exploreCase, full, judge, type RaceCase, responseOf, under } from './case.ts';
import { type Actor, type BackgroundActor, type Points, startRaces } from './race.ts';
import { openSyncPointServer } from './sync-point-server.ts';

t.setTimeout(300_000);
const syncPoints = await openSyncPointServer(t);
const acquirer = await startService(t, 'acquirer');
const acquirerUrl = `http://${acquirer.http}`;
const service = await startService(t, 'payments', {
  acquirerUrl,
  env: {
    ...syncPoints.env,
    ARMATURE_PENDING_RESOLVE_MS: '100',
    ARMATURE_PENDING_ABANDON_MS: '86400000',
    ARMATURE_PENDING_SWEEP_MS: '10',
    ARMATURE_RECONCILE_MS: '86400000',
    ARMATURE_ACQUIRER_TIMEOUT_MS: '10000',
    ARMATURE_LOG_LEVEL: 'warn',
  },
});
t.teardown(() => syncPoints.open());
const orders = paymentsClient({ addresses: [service.grpc], tls: await workloadCertificate('orders') });
const database = await connectMysql(service.database!.adminUrl);
const monitor = await connectMysql(service.database!.adminUrl);
const { state } = await testServers();
/**
 * Sender of the acquirer's webhooks. The acquirer itself sends none here, so that each webhook is sent once, as a step.
 */
const poster = webhookPoster({
  ...{ url: `https://${service.http}/v1/acquirer/events`, secrets: [webhookSecret(state)] },
  ...{ caFile: certificateFiles(state, 'ca').cert, initialBackoffMs: 0, maxBackoffMs: 0, maxAttempts: 1 },
  ...{ lateMs: 0, noticeMs: 0 },
});
t.teardown(async () => {
  orders.close();
  poster.close();
  await Promise.all([database.end(), monitor.end()]);
});

// biome-ignore lint/suspicious/noExplicitAny: rows of any shape, as the driver returns them
async function query<Row = any>(sql: string, params: readonly unknown[] = []): Promise<Row[]> {
  const [rows] = await database.query<RowDataPacket[]>({ sql, values: [...params], dateStrings: true });
  return rows as Row[];
}

const recoveryJob: BackgroundActor = {
  ...{ name: 'recovery', root: 'periodic job operations without an outcome', service: 'payments', pid: service.pid },
  calls: /^resolve /,
  /** Ages the operations until all that are pending are due. */
  async before() {
    const end = Date.now() + 10_000;
    const young = "select 1 from payment_operation where state = 'PENDING' and resolve_at >= utc_timestamp(6) limit 1";
    while ((await query(young)).length > 0)
      if (Date.now() > end) throw new Error('an operation is not due within the limit');
  },
};
const { race } = startRaces({ syncPoints, monitor, background: [recoveryJob] });

/**
 * Other actors read what is written under the lock of the payment only under that lock. So only locks, ends of
 * transactions and requests to the acquirer are steps. `full` makes the writes steps as well.
 */
const points: Points = [
  ['find due', /^sql select p\..* where o\.state = 'PENDING' and o\.resolve_at </],
  ['schedule retry', /^sql update payment_operation set resolve_at/],
  ['read payment', /^sql select p\..* from payment p left join/],
  ...(full ? ([['write', /^sql (update payment|insert into (payment|ledger|account))/]] as const) : []),
  ['keep response', /^sql insert into idempotency/],
  ['ask acquirer', /^call acquirer/],
  ['rollback', /^rollback$/],
  ['commit', /^commit$/],
];
/** If every request has its own id, no other request reads its stored response. */
const ownIds = points.filter(([label]) => label !== 'keep response');

/** A webhook reads before it locks. */
const withWebhook: Points = [['find operation', /^sql select o\..* from payment_operation o where/], ...ownIds];

/** A webhook about the end of a hold finds the payment by its charge, and locks it without an operation. */
const withEnd: Points = [
  ['find payment', /^sql select p\..* from payment p where p\.charge_id = /],
  ['lock payment', /^sql select p\..* from payment p where p\.payment_id = \? for update/],
  ...withWebhook,
];

/** Equal requests store their response under the lock of the payment, which no other request can pass. */
const underOneLock = full ? points : ownIds;

interface Till {
  paymentId: string;
  orderId: string;
  requestId: string;
}

const eur = (amountMinor: bigint) => ({ currencyCode: 'EUR', amountMinor });
const wish = (till: Till) => ({ ...till, customerId: 'ada', amount: eur(1_000n), paymentMethod: 'card_ok' });
const fresh = (): Till => ({ paymentId: randomUUID(), orderId: randomUUID(), requestId: randomUUID() });

async function authorized(): Promise<Till> {
  const till = fresh();
  await orders.authorizePayment({ ...wish(till), requestId: randomUUID() });
  return till;
}

async function captured(): Promise<Till> {
  const till = await authorized();
  await orders.capturePayment({ paymentId: till.paymentId });
  return till;
}

type End = 'expire' | 'void';
interface EndedTill extends Till {
  chargeId: string;
}

/** A payment whose hold has ended at the acquirer: it expired, or another party voided it. */
async function ended(how: End): Promise<EndedTill> {
  const till = fresh();
  const { acquirerChargeId: chargeId } = await orders.authorizePayment({ ...wish(till), requestId: randomUUID() });
  const key = how === 'void' ? { 'idempotency-key': `back-office-${randomUUID()}` } : {};
  const response = await fetch(`${acquirerUrl}/v1/charges/${chargeId}/${how}`, {
    ...{ method: 'POST', headers: { 'content-type': 'application/json', ...key }, body: '{}' },
  });
  if (!response.ok) throw new Error(`the acquirer returned ${response.status} ${await response.text()}`);
  return { ...till, chargeId };
}

type Ask = (options: object) => Promise<unknown>;
const replies: string[] = [];
const shown = (_: string, value: unknown) => (typeof value === 'bigint' ? String(value) : value);

const asker = (name: string, ask: Ask): Actor => {
  const keep = (reply: unknown) => replies.push(JSON.stringify(reply, shown));
  return {
    name,
    send: (traceparent) => responseOf(ask({ parent: under(traceparent), timeoutMs: 10_000 }).then(keep)),
    again: () => responseOf(ask({}).then(keep)),
  };
};

const capture = (name: string, { paymentId }: Till, requestId: string = randomUUID()) =>
  asker(name, (options) => orders.capturePayment({ paymentId, requestId }, options));
const voids = (name: string, { paymentId, orderId }: Till, requestId: string = randomUUID()) =>
  asker(name, (options) => orders.voidPayment({ paymentId, orderId, requestId }, options));
const refund = (name: string, { paymentId }: Till, amountMinor: bigint, requestId: string = randomUUID()) =>
  asker(name, (options) => orders.refundPayment({ paymentId, requestId, amount: eur(amountMinor) }, options));
const refundRest = (name: string, { paymentId }: Till, requestId: string = randomUUID()) =>
  asker(name, (options) => orders.refundPayment({ paymentId, requestId }, options));
const authorize = (name: string, till: Till) => asker(name, (options) => orders.authorizePayment(wish(till), options));

/**
 * The webhook about a request of orders, sent at any time: before its operation exists, while its outcome is unknown,
 * after its end. Unless the response is 2xx it is sent again after the other actors are done, as the acquirer does.
 */
function webhook(method: string, requestId: string): Actor {
  const key = derivedId(`service:orders\n/armature.payments.v1.PaymentService/${method}\n${requestId}`);
  return delivery({ idempotency_key: key });
}

/** The webhook about the end of a hold by a request that payments did not make. */
const webhookOfEnd = (how: End, { chargeId }: EndedTill): Actor =>
  delivery({
    idempotency_key: `back-office-${randomUUID()}`,
    type: how === 'void' ? 'void.voided' : 'expiration.expired',
    operation: { charge_id: chargeId },
  });

function delivery(event: object): Actor {
  const body = JSON.stringify({ event_id: `evt_${randomUUID()}`, ...event });
  const post = async () => {
    const status = await poster.post(body);
    if (status === 200) return 'taken';
    if (status === 404 || status === 503) return comeBack;
    throw new Error(`the response to a webhook was ${status}`);
  };
  const work = { service: 'payments', pid: service.pid, calls: /^acquirer webhook$/ };
  return { name: 'webhook', work, send: post, again: post };
}

let logged = 0;

/** The acquirer's operations for an order. Reads only new log entries, because each order is asked about once. */
async function asked(orderId: string): Promise<string[]> {
  const kinds: string[] = [];
  for (;;) {
    const response = await fetch(`${acquirerUrl}/v1/operations?after=${logged}&limit=1000`);
    const page = (await response.json()) as {
      operations: { kind: string; order_reference: string | null }[];
      next_after: number;
      has_more: boolean;
    };
    logged = page.next_after;
    kinds.push(...page.operations.filter((one) => one.order_reference === orderId).map(({ kind }) => kind));
    if (!page.has_more) return kinds.sort();
  }
}

/** Payment, ledger, published events and the acquirer's log as text. */
async function snapshot({ paymentId, orderId }: Till): Promise<string> {
  const [payment] = await query('select state, captured_minor, refunded_minor from payment where payment_id = ?', [
    paymentId,
  ]);
  const entries = await query('select kind from ledger_entry where payment_id = ? order by sequence', [paymentId]);
  const told = await query('select type from outbox where aggregate_id = ? order by sequence', [paymentId]);
  const kinds = await asked(orderId);
  return [
    payment ? `${payment.state} ${payment.captured_minor}-${payment.refunded_minor}` : 'no payment',
    `ledger ${entries.map(({ kind }) => kind).join('+')}`,
    `told ${told.map(({ type }) => type.split('.').at(-1).replace('Payment', '')).join('+')}`,
    `acquirer ${kinds.join('+')}`,
  ].join('; ');
}

/** Broken invariants of the schema; with `sameId` also different responses to one request. */
async function wrong(sameId = false): Promise<string[]> {
  const different = new Set(replies.splice(0));
  const found = sameId && different.size > 1 ? [`${different.size} responses to one request`] : [];
  for (const [name, sql] of Object.entries(ledgerInvariants)) if ((await query(sql)).length > 0) found.push(name);
  return found;
}

const judgedBy = { effect: snapshot, wrong: () => wrong() };
const sameResponses = { effect: snapshot, wrong: () => wrong(true) };
const endCases = (['expire', 'void'] as const).flatMap((how): RaceCase<EndedTill>[] => [
  {
    name: `a webhook of a hold that ended (${how}) against the capture that finds it gone`,
    long: true,
    points: withEnd,
    prepare: () => ended(how),
    actors: (till) => [capture('capture', till), webhookOfEnd(how, till)],
    ...judgedBy,
  },
  {
    name: `a webhook of a hold that ended (${how}) against the void that finds it gone`,
    ...(how === 'expire' ? { long: true } : {}),
    points: withEnd,
    prepare: () => ended(how),
    actors: (till) => [voids('void', till), webhookOfEnd(how, till)],
    ...judgedBy,
  },
]);

const cases: RaceCase<Till>[] = [
  {
    name: 'a partial refund against the refund of the rest',
    points: ownIds,
    prepare: captured,
    actors: (till) => [refund('part', till, 400n), refundRest('rest', till)],
    ...judgedBy,
  },
  {
    name: 'the refund of the rest sent twice at once',
    long: true,
    alike: true,
    points: underOneLock,
    prepare: captured,
    actors: (till) => [refundRest('a', till, till.requestId), refundRest('b', till, till.requestId)],
    ...sameResponses,
  },
  ...(full
    ? [
        {
          name: 'two partial refunds against the refund of the rest',
          points: ownIds,
          prepare: captured,
          actors: (till: Till) => [refund('a', till, 300n), refund('b', till, 400n), refundRest('rest', till)],
          ...judgedBy,
        },
      ]
    : []),
  {
    name: 'two captures of one payment',
    long: true,
    alike: true,
    points: ownIds,
    prepare: authorized,
    actors: (till) => [capture('a', till), capture('b', till)],
    ...judgedBy,
  },
  {
    name: 'one capture sent twice at once',
    long: true,
    alike: true,
    points: underOneLock,
    prepare: authorized,
    actors: (till) => [capture('a', till, till.requestId), capture('b', till, till.requestId)],
    ...sameResponses,
  },
  {
    name: 'capture against void',
    points: ownIds,
    prepare: authorized,
    actors: (till) => [capture('capture', till), voids('void', till)],
    ...judgedBy,
  },
  {
    name: 'two refunds that exceed the capture together',
    long: true,
    points: ownIds,
    prepare: captured,
    actors: (till) => [refund('a', till, 600n), refund('b', till, 700n)],
    ...judgedBy,
  },
  {
    name: 'one refund sent twice at once',
    alike: true,
    points: underOneLock,
    prepare: captured,
    actors: (till) => [refund('a', till, 600n, till.requestId), refund('b', till, 600n, till.requestId)],
    ...sameResponses,
  },
  {
    name: 'one request id with two amounts at once',
    long: true,
    points,
    prepare: captured,
    actors: (till) => [refund('a', till, 600n, till.requestId), refund('b', till, 400n, till.requestId)],
    ...judgedBy,
  },
  {
    name: 'recovery by the periodic job against the request that finishes its capture',
    long: true,
    points: ownIds,
    prepare: authorized,
    actors: (till) => [capture('capture', till), recoveryJob],
    ...judgedBy,
  },
  {
    name: 'recovery by the periodic job against the request that finishes its authorization',
    points: ownIds,
    prepare: async () => fresh(),
    actors: (till) => [authorize('authorize', till), recoveryJob],
    ...judgedBy,
  },
  {
    name: 'a webhook against the request that finishes its capture',
    points: withWebhook,
    prepare: authorized,
    actors: (till) => [capture('capture', till, till.requestId), webhook('CapturePayment', till.requestId)],
    ...judgedBy,
  },
  {
    name: 'a webhook against the request that finishes its authorization',
    long: true,
    points: withWebhook,
    prepare: async () => fresh(),
    actors: (till) => [authorize('authorize', till), webhook('AuthorizePayment', till.requestId)],
    ...judgedBy,
  },
];

t.test('every interleaving', async (t) => {
  for (const one of chosen(cases)) await t.test(one.name, async (t) => judge(t, await exploreCase(race, one)));
  for (const one of chosen(endCases)) await t.test(one.name, async (t) => judge(t, await exploreCase(race, one)));
  syncPoints.open();
  // Each case prepares one payment more than it races, to find the actors.
  for (const { payment_id, order_id } of await query(
    "select payment_id, order_id from payment where state = 'AUTHORIZED'",
  ))
    await orders.voidPayment({ paymentId: payment_id, orderId: order_id });
  t.strictSame(
    await ledgerViolations(query, acquirerUrl),
    [],
    'the ledger is consistent and equals the log of the acquirer',
  );
});
