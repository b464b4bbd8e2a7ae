// The operator's calls, on real services: dead letters are listed, redriven once, or dropped; sagas are resumed.
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { opsClient } from '@armature/clients';
import { DeadLetterState, RedriveOutcome, SagaState } from '@armature/proto/ops/v1/ops.ts';
import { OrderConfirmedEvent } from '@armature/proto/orders/v1/contract.ts';
import t from 'tap';
import { withConnection } from '../../../scripts/devmesh/provision.ts';
import { connectBroker, createVhost } from '../../../test/support/infra.ts';
import { refusal } from '../../../test/support/refusal.ts';
import { type RunningService, startService, token, workloadCertificate } from '../../../test/support/service.ts';
import { newId } from '../id/id.ts';
import { retryExchange, retryRoutingKey } from '../messaging/topology.ts';
import type { StateOfFormat1 } from '../saga/state-format.ts';

t.setTimeout(120_000);
// No server listens there: the saga's calls fail and it waits, which is all that these tests need.
const away = '127.0.0.1:1';
const peers = { catalog: away, inventory: away, payments: away };
const queue = 'notifications.orders.order';
const tls = await workloadCertificate('developer');

async function as(service: RunningService, subject: string) {
  const bearer = await token(subject);
  const name = service.name as 'orders';
  return opsClient(name, { addresses: [service.grpc], tls, token: () => bearer });
}

/** Sends an event as if all of its attempts but the last had failed. */
async function sendLastAttempt(service: RunningService, orderId: string, body: Buffer): Promise<void> {
  const connection = await connectBroker(service.vhost!.url('notifications'));
  const channel = await connection.createConfirmChannel();
  const headers = {
    ...{ aggregate: 'order', 'aggregate-id': orderId, sequence: '1' },
    ...{ 'armature-attempt': 6, 'armature-publisher': 'orders' },
  };
  const properties = { messageId: newId(), type: OrderConfirmedEvent.type, userId: 'notifications', headers };
  channel.publish(retryExchange('notifications'), retryRoutingKey(1_000, queue), body, properties);
  await channel.waitForConfirms();
  await connection.close();
}

const canary = `canary-${randomUUID()}@example.org`;
const confirmed = (orderId: string): Buffer =>
  Buffer.from(
    OrderConfirmedEvent.message
      .encode(
        OrderConfirmedEvent.message.fromPartial({
          ...{ orderId, customerId: 'ada', contactEmail: canary },
          lines: [{ sku: 'A-1', title: 'Tea', quantity: 2n, unitPrice: { currencyCode: 'EUR', amountMinor: 450n } }],
          total: { currencyCode: 'EUR', amountMinor: 900n },
        }),
      )
      .finish(),
  );

async function until(what: string, met: () => Promise<boolean>): Promise<void> {
  const deadline = Date.now() + 40_000;
  while (!(await met())) {
    if (Date.now() > deadline) throw new Error(`not within 40 s: ${what}`);
    await sleep(50);
  }
}

t.test('dead letters', async (t) => {
  const vhost = await createVhost(t);
  const crashing = { ARMATURE_CRASH_POINTS: 'redrive.committed:2' };
  let service = await startService(t, 'notifications', { peers: { orders: '127.0.0.1:1' }, vhost, env: crashing });
  const own = service.database!;
  // biome-ignore lint/suspicious/noExplicitAny: rows of any shape, as the driver returns them
  const sql = <Row = any>(text: string): Promise<Row[]> =>
    withConnection(own.adminUrl, async (connection) => (await connection.query(text))[0] as Row[]);
  const operator = await as(service, 'olga');
  await until('the queue is there', async () => {
    const found = await vhost.api.request('GET', `/queues/${vhost.name}`);
    return JSON.stringify(found).includes(`"${queue}"`);
  });
  const orderIds = [newId(), newId(), newId(), newId()];
  await sql('rename table delivery to delivery_away');
  for (const orderId of orderIds) await sendLastAttempt(service, orderId, confirmed(orderId));
  const brokenId = newId();
  await sendLastAttempt(service, brokenId, Buffer.from(`\xff${canary}`, 'latin1'));
  await until('five dead letters', async () => (await operator.listDeadLetters({})).deadLetters.length === 5);

  await t.test('are listed by page and by filter', async (t) => {
    const all = (await operator.listDeadLetters({})).deadLetters;
    const first = await operator.listDeadLetters({ pageSize: 3 });
    const second = await operator.listDeadLetters({ pageSize: 3, pageToken: first.nextPageToken });
    t.strictSame([...first.deadLetters, ...second.deadLetters], all);
    t.equal(second.nextPageToken, '');
    for (const { filter, count } of [
      { filter: { eventType: 'OrderConfirmed' }, count: 5 },
      { filter: { eventType: OrderConfirmedEvent.type }, count: 5 },
      { filter: { eventType: 'OrderCancelled' }, count: 0 },
      { filter: { reason: 'MESSAGE_MALFORMED' }, count: 1 },
      { filter: { consumer: queue }, count: 5 },
      { filter: { olderThanSeconds: 3_600n }, count: 0 },
    ]) {
      const found = await operator.listDeadLetters({ filter });
      t.equal(found.deadLetters.length, count, Object.entries(filter).join());
    }
    await t.rejects(
      operator.listDeadLetters({ pageSize: 3, pageToken: first.nextPageToken, filter: { reason: 'x' } }),
      refusal({ code: 'INVALID_ARGUMENT', reason: 'PAGE_TOKEN_INVALID' }),
    );
  });

  await t.test('are shown without personal data', async (t) => {
    for (const { deadLetterId, aggregateId } of (await operator.listDeadLetters({})).deadLetters) {
      const shown = await operator.getDeadLetter({ deadLetterId });
      t.notOk(JSON.stringify(shown, (_, value) => String(value)).includes(canary), 'in what is shown');
      t.match(shown.bodySha256, /^[0-9a-f]{64}$/);
      if (aggregateId === brokenId) {
        t.match(shown, { bodyJson: '', undecodable: `the body is not a ${OrderConfirmedEvent.type}` });
      } else {
        t.match(JSON.parse(shown.bodyJson), { orderId: aggregateId, contactEmail: '[redacted]' });
        t.match(JSON.parse(shown.bodyJson), { lines: [{ sku: 'A-1', unitPrice: { amountMinor: '450' } }] });
      }
    }
    await t.rejects(
      operator.getDeadLetter({ deadLetterId: newId() }),
      refusal({ code: 'NOT_FOUND', reason: 'DEAD_LETTER_NOT_FOUND' }),
    );
  });

  await t.test('are of their caller only', async (t) => {
    for (const who of ['ada', 'bo', 'admin']) {
      const other = await as(service, who);
      t.teardown(() => other.close());
      await t.rejects(
        other.listDeadLetters({}),
        refusal({ code: 'PERMISSION_DENIED', reason: 'PERMISSION_DENIED' }),
        who,
      );
      const redrive = other.redriveDeadLetters({ filter: { all: true } });
      await t.rejects(redrive, refusal({ code: 'PERMISSION_DENIED', reason: 'PERMISSION_DENIED' }), who);
    }
  });

  await t.test('stay as long as their fault does', async (t) => {
    await t.rejects(operator.redriveDeadLetters({}), refusal({ code: 'INVALID_ARGUMENT', reason: 'FILTER_MISSING' }));
    const dry = await operator.redriveDeadLetters({ filter: { all: true }, dryRun: true, limit: 3 });
    t.match(dry, { more: true, results: Array(3).fill({ outcome: RedriveOutcome.REDRIVE_OUTCOME_WOULD_REDRIVE }) });
    const real = await operator.redriveDeadLetters({ filter: { all: true } });
    t.ok(real.results.every(({ outcome, reason }) => outcome === RedriveOutcome.REDRIVE_OUTCOME_FAILED && reason));
    t.equal((await operator.listDeadLetters({})).deadLetters.length, 5);
  });

  await t.test('a crash in the middle of a redrive loses and doubles nothing', async (t) => {
    await sql('rename table delivery_away to delivery');
    // The inbox deletes rows after a week, the dead-letter store does not: this dead letter is older than that.
    await sql(`delete from inbox where message_id =
      (select message_id from dead_letter where aggregate_id = '${orderIds[2]}')`);
    const request = { requestId: randomUUID(), filter: { eventType: 'OrderConfirmed' } };
    const killed = new Promise((resolve) => service.process.once('exit', (_, signal) => resolve(signal)));
    await t.rejects(operator.redriveDeadLetters(request));
    t.equal(await killed, 'SIGKILL');
    operator.close();
    service = await startService(t, 'notifications', { peers: { orders: '127.0.0.1:1' }, vhost, database: own });
    const again = await as(service, 'olga');
    t.teardown(() => again.close());
    const [one, other, third] = await Promise.all([
      again.redriveDeadLetters(request),
      again.redriveDeadLetters(request),
      again.redriveDeadLetters({ filter: { all: true } }),
    ]);
    t.strictSame(one, other, 'the same response to the same request');
    const done = [RedriveOutcome.REDRIVE_OUTCOME_REDRIVEN, RedriveOutcome.REDRIVE_OUTCOME_ALREADY] as number[];
    t.equal(one.results.filter(({ outcome }) => done.includes(outcome)).length, 4);
    t.ok(third.results.every(({ reason }) => reason === '' || reason.includes('MESSAGE_MALFORMED')));
    const deliveries = await sql<{ order_id: string }>('select order_id from delivery order by order_id');
    t.strictSame(
      deliveries.map(({ order_id }) => order_id),
      [...orderIds].sort(),
      'one mail for each order',
    );
    const reused = again.redriveDeadLetters({ ...request, limit: 1 });
    await t.rejects(reused, refusal({ code: 'INVALID_ARGUMENT', reason: 'REQUEST_ID_REUSED' }));

    const { deadLetters } = await again.listDeadLetters({});
    t.match(deadLetters, [{ aggregateId: brokenId }]);
    const { deadLetterId } = deadLetters[0]!;
    const dropped = await again.dropDeadLetter({ deadLetterId, why: 'a broken test' });
    t.match(dropped, {
      state: DeadLetterState.DEAD_LETTER_STATE_DROPPED,
      droppedBy: 'user:olga',
      dropWhy: 'a broken test',
    });
    await t.rejects(
      again.dropDeadLetter({ deadLetterId, why: 'x' }),
      refusal({ code: 'FAILED_PRECONDITION', reason: 'DEAD_LETTER_DROPPED' }),
    );
    const late = await again.redriveDeadLetters({ deadLetterIds: [deadLetterId] });
    t.match(late.results, [{ outcome: RedriveOutcome.REDRIVE_OUTCOME_FAILED, reason: /DROPPED/ }]);
    const kept = await again.listDeadLetters({ state: DeadLetterState.DEAD_LETTER_STATE_REDRIVEN });
    t.equal(kept.deadLetters.length, 4);
    const redriven = again.dropDeadLetter({ deadLetterId: kept.deadLetters[0]!.deadLetterId, why: 'x' });
    await t.rejects(redriven, refusal({ code: 'FAILED_PRECONDITION', reason: 'DEAD_LETTER_REDRIVEN' }));
    const metrics = await (await fetch(`http://${service.admin}/metrics`)).text();
    t.match(metrics, /^armature_dead_letters\{[^}]*\} 0$/m);
    t.match(metrics, /^armature_dead_letters_oldest_age_seconds\{[^}]*\} 0$/m);
    const actions = await sql<{ principal: string }>('select principal from operator_action');
    t.ok(actions.length >= 4 && actions.every(({ principal }) => principal === 'user:olga'), 'who did it');
    t.strictSame((await again.listSagas({})).sagas, [], 'a service without sagas has an empty list');
  });
});

t.test('baselines', async (t) => {
  const vhost = await createVhost(t);
  const orders = await startService(t, 'orders', { vhost, peers });
  const operator = await as(orders, 'olga');
  t.teardown(() => operator.close());
  // biome-ignore lint/suspicious/noExplicitAny: rows of any shape, as the driver returns them
  const sql = <Row = any>(text: string): Promise<Row[]> =>
    withConnection(orders.database!.adminUrl, async (connection) => (await connection.query(text))[0] as Row[]);
  // Events that were published before their consumer had a queue, or lost with the broker.
  const ids = Array.from({ length: 5 }, () => newId());
  for (const orderId of ids) {
    await withConnection(orders.database!.adminUrl, (connection) =>
      connection.query(
        `insert into outbox (message_id, type, routing_key, aggregate, aggregate_id, sequence, payload, traceparent,
           policy_version, created_by, created_at, pending, published_at)
         values (?, ?, ?, 'order', ?, 1, ?, '00-00000000000000000000000000000001-0000000000000001-01', 'v', 'test',
           utc_timestamp(6), null, utc_timestamp(6))`,
        [newId(), OrderConfirmedEvent.type, OrderConfirmedEvent.routingKey, orderId, confirmed(orderId)],
      ),
    );
  }
  const request = { aggregate: 'order', consumer: 'notifications' };
  await t.rejects(
    operator.publishBaseline({ ...request, consumer: 'access' }),
    refusal({ code: 'NOT_FOUND', reason: 'SUBSCRIPTION_NOT_FOUND' }),
  );
  await t.rejects(
    operator.publishBaseline(request),
    refusal({ code: 'FAILED_PRECONDITION', reason: 'BASELINE_UNROUTED' }),
    'no queue is bound yet',
  );
  const failed = await sql<{ targets: string; why: string }>('select * from operator_action');
  t.match(failed, [{ why: 'baseline of order for notifications' }], 'one that fails is recorded');
  t.strictSame(JSON.parse(failed[0]!.targets).sort(), [...ids].sort(), 'with all that it would have published');
  const notifications = await startService(t, 'notifications', { peers: { orders: '127.0.0.1:1' }, vhost });
  await until('its queue is consumed', async () => (await fetch(`http://${notifications.admin}/readyz`)).ok);
  t.match(await operator.publishBaseline({ ...request, dryRun: true }), { aggregates: 5, baselines: 0, events: 5n });
  t.equal((await sql('select * from operator_action')).length, 1, 'a dry run is no action');

  const first = await operator.publishBaseline({ ...request, pageSize: 3, requestId: randomUUID() });
  t.match(first, { aggregates: 3, events: 3n });
  const second = await operator.publishBaseline({ ...request, pageSize: 3, pageToken: first.nextPageToken });
  t.match(second, { aggregates: 2, events: 2n, nextPageToken: '' });
  await operator.publishBaseline(request);
  const mails = () =>
    withConnection(notifications.database!.adminUrl, async (connection) => {
      const [rows] = await connection.query('select order_id from delivery order by order_id');
      return (rows as { order_id: string }[]).map(({ order_id }) => order_id);
    });
  await until('every mail', async () => (await mails()).length >= 5);
  t.strictSame(await mails(), [...ids].sort(), 'one for each order, although it was published twice');
  const actions = await sql<{ principal: string; targets: string; why: string }>('select * from operator_action');
  t.equal(actions.length, 4, 'each page is recorded');
  t.match(actions[0], { principal: 'user:olga', why: 'baseline of order for notifications' });
  const staff = await as(orders, 'bo');
  t.teardown(() => staff.close());
  await t.rejects(staff.publishBaseline(request), refusal({ code: 'PERMISSION_DENIED', reason: 'PERMISSION_DENIED' }));
});

t.test('sagas', async (t) => {
  const service = await startService(t, 'orders', { peers });
  const operator = await as(service, 'olga');
  t.teardown(() => operator.close());
  const card = `card_${randomUUID()}`;
  const stuck = { refused: true, reason: 'PERMANENT' };
  const failure = { cause: 'rejected', step: 'authorize-payment', reason: 'PAYMENT_DECLINED', detail: '' } as const;
  // As processes of an earlier release wrote them: such rows outlive a deployment.
  const first: StateOfFormat1 = {
    ...{ format: 1, phase: 'run', step: 0, epoch: 1, attempt: 0, round: 0 },
    ...{ failure: null, absent: false, cancelTooLate: false, stuck: null },
  };
  const insert = async (state: StateOfFormat1): Promise<string> => {
    const sagaId = newId();
    const data = JSON.stringify({ paymentMethod: card, customerId: 'ada', totalMinor: '900' });
    const values = [sagaId, newId(), state.phase === 'stuck' ? 'STUCK' : 'RUNNING', JSON.stringify(state), data];
    await withConnection(service.database!.adminUrl, (connection) =>
      connection.query(
        `insert into saga (saga_id, name, subject_id, status, state, results, data, lease_token, deadline_at, created_at,
           updated_at) values (?, 'checkout', ?, ?, ?, '{}', ?, 0, utc_timestamp(6), utc_timestamp(6), utc_timestamp(6))`,
        values,
      ),
    );
    return sagaId;
  };
  const compensating = await insert({ ...first, phase: 'stuck', failure, stuck: { phase: 'compensate', ...stuck } });
  const beyond = await insert({ ...first, phase: 'stuck', step: 4, stuck: { phase: 'run', ...stuck } });
  const back = await insert({ ...first, phase: 'compensate', failure });

  const listed = await operator.listSagas({ state: SagaState.SAGA_STATE_STUCK });
  t.strictSame(listed.sagas.map(({ sagaId }) => sagaId).sort(), [compensating, beyond].sort());
  t.equal((await operator.listSagas({})).sagas.length, 3);
  t.equal((await operator.listSagas({ olderThanSeconds: 3_600n })).sagas.length, 0);
  const shown = await operator.getSaga({ sagaId: beyond });
  t.match(shown.saga, { step: 'capture-payment', action: 'run', stuckReason: 'PERMANENT', pastPivot: true });
  t.match(shown.saga, { version: 1, known: true, branches: [{ step: 'capture-payment', stuckReason: 'PERMANENT' }] });
  t.strictSame(JSON.parse(shown.inputJson), {
    paymentMethod: '[redacted]',
    customerId: '[redacted]',
    totalMinor: '900',
  });

  const force = (sagaId: string) => operator.forceCompensateSaga({ sagaId, why: 'told to' });
  await t.rejects(force(beyond), refusal({ code: 'FAILED_PRECONDITION', reason: 'SAGA_PAST_PIVOT' }));
  await t.rejects(force(back), refusal({ code: 'FAILED_PRECONDITION', reason: 'SAGA_GOING_BACK' }));
  await t.rejects(force(newId()), refusal({ code: 'NOT_FOUND', reason: 'SAGA_NOT_FOUND' }));
  await t.rejects(
    operator.resumeSaga({ sagaId: back }),
    refusal({ code: 'FAILED_PRECONDITION', reason: 'SAGA_NOT_STUCK' }),
  );
  t.match(await force(compensating), { state: SagaState.SAGA_STATE_RUNNING, action: 'compensate', stuckReason: '' });
  const request = { requestId: randomUUID(), sagaId: beyond };
  const [one, other] = await Promise.all([operator.resumeSaga(request), operator.resumeSaga(request)]);
  t.strictSame(one, other);
  t.match(one, { state: SagaState.SAGA_STATE_RUNNING, action: 'run', step: 'capture-payment' });
  const { log } = await operator.getSaga({ sagaId: beyond });
  t.equal(log.filter(({ outcome }) => outcome === 'resume').length, 1);
  const staff = await as(service, 'bo');
  t.teardown(() => staff.close());
  await t.rejects(
    staff.resumeSaga({ sagaId: beyond }),
    refusal({ code: 'PERMISSION_DENIED', reason: 'PERMISSION_DENIED' }),
  );
});
