// Holds that expire, tokens of customers, closed cards, and keys that count as new after a time.
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { ask, authorizeWith, chargeWith, listAll, startAcquirer, statusOf } from './acquirer-process.ts';

const chargeOf = (url: string, id: string) => ask(url, 'GET', `/v1/charges/${id}`);
const capture = (url: string, id: string, key: string) =>
  ask(url, 'POST', `/v1/charges/${id}/capture`, { key, body: { amount_minor: 1_000 } });

async function until(what: string, holds: () => Promise<boolean>): Promise<void> {
  for (const deadline = Date.now() + 10_000; !(await holds()); await sleep(10)) {
    if (Date.now() > deadline) throw new Error(`not within 10 s: ${what}`);
  }
}

t.test('an expired hold can be neither captured nor voided', async (t) => {
  const { url } = await startAcquirer(t, { slowMs: 200 });
  const { json } = await authorizeWith(url, 'a', 'card_hold_expires');
  const id = json.charge_id;
  t.equal(json.charge.status, 'authorized');
  await until('the hold ends', async () => (await chargeOf(url, id)).json.status === 'expired');
  t.match(await capture(url, id, 'c'), { status: 409, json: { error: { code: 'charge_expired' } } });
  t.match(await ask(url, 'POST', `/v1/charges/${id}/void`, { key: 'v' }), {
    json: { error: { code: 'charge_expired' } },
  });
  const { json: listed } = await ask(url, 'GET', `/v1/charges/${id}/operations`);
  t.match(
    listed.operations.map((one: { kind: string; status: string }) => `${one.kind} ${one.status}`),
    ['authorization authorized', 'expiration expired', 'capture refused', 'void refused'],
  );
  t.match(listed.operations[1], { idempotency_key: null, authorization_key: 'a', charge_id: id });
});

t.test('a hold that ends while the process is down is ended at the next start, once', async (t) => {
  const first = await startAcquirer(t, { slowMs: 400 });
  const { json } = await authorizeWith(first.url, 'a', 'card_hold_expires');
  await first.kill('SIGKILL');
  await sleep(500);
  for (const _ of [1, 2]) {
    const next = await startAcquirer(t, { dataDirectory: first.dataDirectory, slowMs: 400 });
    await until('the hold ends', async () => (await chargeOf(next.url, json.charge_id)).json.status === 'expired');
    t.equal((await listAll(next.url)).filter((one) => one.kind === 'expiration').length, 1);
    await next.kill('SIGKILL');
  }
});

t.test('a captured hold does not expire, and a request expires a hold', async (t) => {
  const { url } = await startAcquirer(t, { slowMs: 200 });
  const taken = (await authorizeWith(url, 'a', 'card_hold_expires')).json.charge_id;
  await capture(url, taken, 'c');
  const other = (await authorizeWith(url, 'b', 'card_ok')).json.charge_id;
  t.match(await ask(url, 'POST', `/v1/charges/${other}/expire`), { status: 201, json: { status: 'expired' } });
  t.match(await ask(url, 'POST', `/v1/charges/${other}/expire`), { status: 409 });
  t.match(await ask(url, 'POST', `/v1/charges/${taken}/expire`), {
    json: { error: { code: 'charge_already_captured' } },
  });
  await sleep(300);
  t.match(await chargeOf(url, taken), { json: { status: 'captured' } });
});

t.test('holds end after the configured time', async (t) => {
  const { url } = await startAcquirer(t, { env: { ARMATURE_ACQUIRER_HOLD_MS: '150' } });
  const { json } = await authorizeWith(url, 'a', 'card_ok');
  await until('the hold ends', async () => (await chargeOf(url, json.charge_id)).json.status === 'expired');
});

t.test('a closed card takes no refund', async (t) => {
  const { url } = await startAcquirer(t);
  const { json } = await authorizeWith(url, 'a', 'card_refund_declined');
  await capture(url, json.charge_id, 'c');
  const refund = (key: string) =>
    ask(url, 'POST', `/v1/charges/${json.charge_id}/refund`, { key, body: { amount_minor: 10 } });
  for (const key of ['r', 'r', 's']) {
    t.match(await refund(key), { status: 402, json: { error: { code: 'refund_declined' } } });
  }
  t.match(await chargeOf(url, json.charge_id), { json: { status: 'captured', refunded_minor: 0 } });
});

t.test('a token that was issued to a customer is refused for any other', async (t) => {
  const first = await startAcquirer(t);
  const issued = await ask(first.url, 'POST', '/v1/payment_methods', {
    body: { customer_reference: 'ada', card: 'card_ok' },
  });
  t.match(issued, { status: 201, json: { payment_method: /^pm_[0-9a-f]{32}$/, customer_reference: 'ada' } });
  await first.kill('SIGKILL');
  const { url } = await startAcquirer(t, { dataDirectory: first.dataDirectory });
  const charge = (key: string, customer_reference?: string, method = issued.json.payment_method) =>
    ask(url, 'POST', '/v1/charges', { key, body: { ...chargeWith(method), customer_reference } });
  const foreign = { status: 422, json: { error: { code: 'payment_method_not_owned' } } };
  t.match(await charge('a', 'eve'), foreign);
  t.match(await charge('b'), foreign, 'nor without a customer');
  t.match(await statusOf(url, 'a'), { status: 404 }, 'nothing is recorded');
  const own = await charge('c', 'ada');
  t.match(own, { status: 201, json: { status: 'authorized' } });
  t.equal((await charge('c', 'eve')).text, own.text, 'a repeat gets its recorded operation whatever the customer');
  t.match(await charge('d', 'eve', 'card_ok'), { status: 201 }, 'a test card is bound to no customer');
  t.match(await ask(url, 'POST', '/v1/payment_methods', { body: { customer_reference: 'ada', card: 'gold' } }), {
    status: 422,
  });
});

t.test('a key counts as new after the configured time', async (t) => {
  const { url } = await startAcquirer(t, { env: { ARMATURE_ACQUIRER_KEY_RETENTION_MS: '300' } });
  const first = await authorizeWith(url, 'a', 'card_ok');
  t.strictSame((await authorizeWith(url, 'a', 'card_ok')).text, first.text, 'a repeat, while it is known');
  await sleep(350);
  t.match(await statusOf(url, 'a'), { status: 404, json: { error: { code: 'operation_unknown' } } });
  const second = await authorizeWith(url, 'a', 'card_ok');
  t.not(second.json.operation_id, first.json.operation_id, 'the same key acts again');
});

t.test('operations by their ids', async (t) => {
  const { url } = await startAcquirer(t);
  const [one, two] = [await authorizeWith(url, 'a', 'card_ok'), await authorizeWith(url, 'b', 'card_ok')];
  const ids = [two.json.operation_id, `op_${'0'.repeat(32)}`, one.json.operation_id];
  const { json } = await ask(url, 'GET', `/v1/operations?operation_ids=${ids.join(',')}`);
  t.strictSame(
    json.operations.map((found: { operation_id: string }) => found.operation_id),
    [one.json.operation_id, two.json.operation_id],
  );
  for (const wrong of ['', 'op_1', Array(101).fill(ids[1]).join(',')]) {
    t.match(await ask(url, 'GET', `/v1/operations?operation_ids=${wrong}`), { status: 422 });
  }
});
