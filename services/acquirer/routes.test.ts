import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import t from 'tap';
import { blocksOf, commandsOf } from '../../test/support/readme.ts';
import {
  type AcquirerProcess,
  ask,
  authorizeWith,
  chargeWith,
  listAll,
  startAcquirer,
  statusOf,
} from './acquirer-process.ts';

const acquirer: AcquirerProcess = await startAcquirer(t);
const { url } = acquirer;
const charges = '/v1/charges';
let keys = 0;
const newKey = () => `test/${++keys}`;

async function authorized(card = 'card_ok'): Promise<string> {
  const { status, json } = await authorizeWith(url, newKey(), card);
  t.equal(status, 201);
  return json.charge_id;
}

const operate = (id: string, kind: string, amount_minor?: number, key = newKey()) =>
  ask(url, 'POST', `${charges}/${id}/${kind}`, { key, body: amount_minor === undefined ? {} : { amount_minor } });

t.test('invalid requests are rejected and not recorded', async (t) => {
  const ok = chargeWith('card_ok');
  const before = (await listAll(url)).length;
  const post = (body: unknown) => ({ method: 'POST', path: charges, key: newKey(), body });
  for (const row of [
    { name: 'an unknown route', method: 'GET', path: '/v2/charges', status: 404, code: 'route_unknown' },
    { name: 'an unknown operation', method: 'POST', path: `${charges}/ch_1/burn`, status: 404, code: 'route_unknown' },
    { name: 'a wrong method', method: 'DELETE', path: charges, status: 405, code: 'method_not_allowed' },
    { name: 'an unknown charge', method: 'GET', path: `${charges}/ch_1`, status: 404, code: 'charge_unknown' },
    {
      name: 'capture of an unknown charge',
      method: 'POST',
      path: `${charges}/ch_1/capture`,
      key: newKey(),
      body: { amount_minor: 1 },
      status: 404,
      code: 'charge_unknown',
    },
    {
      name: 'an unknown operation key',
      method: 'GET',
      path: '/v1/operations?idempotency_key=nobody',
      status: 404,
      code: 'operation_unknown',
    },
    {
      name: 'an empty operation key',
      method: 'GET',
      path: '/v1/operations?idempotency_key=',
      status: 422,
      field: 'idempotency_key',
    },
    { name: 'a page limit of 0', method: 'GET', path: '/v1/operations?limit=0', status: 422, field: 'limit' },
    { name: 'a page limit of 1001', method: 'GET', path: '/v1/operations?limit=1001', status: 422, field: 'limit' },
    { name: 'a negative position', method: 'GET', path: '/v1/operations?after=-1', status: 422, field: 'after' },
    { name: 'bad JSON', method: 'POST', path: charges, key: newKey(), raw: '{"a":', status: 400, code: 'body_invalid' },
    { name: 'a JSON list', method: 'POST', path: charges, key: newKey(), raw: '[]', status: 400, code: 'body_invalid' },
    {
      name: 'deep JSON',
      method: 'POST',
      path: charges,
      key: newKey(),
      raw: '['.repeat(16_000),
      status: 400,
      code: 'body_invalid',
    },
    {
      name: 'a body over 16 KiB',
      method: 'POST',
      path: charges,
      key: newKey(),
      raw: ' '.repeat(16 * 1024 + 1),
      status: 413,
      code: 'body_too_large',
    },
    {
      name: 'a body of 900 KB',
      method: 'POST',
      path: charges,
      key: newKey(),
      raw: ' '.repeat(900_000),
      status: 413,
      code: 'body_too_large',
    },
    { name: 'no key', method: 'POST', path: charges, body: ok, status: 400, code: 'idempotency_key_invalid' },
    {
      name: 'a key with a space',
      method: 'POST',
      path: charges,
      key: 'a b',
      body: ok,
      status: 400,
      code: 'idempotency_key_invalid',
    },
    {
      name: 'a key of 201 characters',
      method: 'POST',
      path: charges,
      key: 'a'.repeat(201),
      body: ok,
      status: 400,
      code: 'idempotency_key_invalid',
    },
    { name: 'an empty body', method: 'POST', path: charges, key: newKey(), status: 422, field: 'order_reference' },
    { name: 'an empty reference', ...post({ ...ok, order_reference: '' }), status: 422, field: 'order_reference' },
    { name: 'a lone surrogate', ...post({ ...ok, order_reference: '\ud800' }), status: 422, field: 'order_reference' },
    { name: 'an amount of 0', ...post({ ...ok, amount_minor: 0 }), status: 422, field: 'amount_minor' },
    { name: 'a negative amount', ...post({ ...ok, amount_minor: -5 }), status: 422, field: 'amount_minor' },
    { name: 'a fraction', ...post({ ...ok, amount_minor: 1.5 }), status: 422, field: 'amount_minor' },
    { name: 'an amount as text', ...post({ ...ok, amount_minor: '5' }), status: 422, field: 'amount_minor' },
    {
      name: 'an amount over the limit',
      ...post({ ...ok, amount_minor: 1e14 + 1 }),
      status: 422,
      field: 'amount_minor',
    },
    { name: 'a small currency', ...post({ ...ok, currency_code: 'eur' }), status: 422, field: 'currency_code' },
    { name: 'a malformed card', ...post({ ...ok, payment_method: 'Card!' }), status: 422, field: 'payment_method' },
    {
      name: 'an unknown card',
      ...post({ ...ok, payment_method: 'card_gold' }),
      status: 422,
      code: 'payment_method_unknown',
    },
    { name: 'an unknown field', ...post({ ...ok, tip: 1 }), status: 422, code: 'field_unknown', field: 'tip' },
    {
      name: 'a cancellation of nothing',
      method: 'POST',
      path: '/v1/cancellations',
      body: {},
      status: 422,
      field: 'idempotency_key',
    },
  ]) {
    const { method, path, status, code, field, ...sent } = row as typeof row & { code?: string; field?: string };
    const response = await ask(url, method, path, sent);
    t.equal(response.status, status, row.name);
    t.match(response.json.error, { code: code ?? 'field_invalid', message: String, ...(field && { field }) }, row.name);
  }
  t.equal((await listAll(url)).length, before, 'nothing was recorded');
});

t.test('headers over the limit are refused', async (t) => {
  const response = await ask(url, 'GET', '/healthz', { headers: { 'x-long': 'x'.repeat(9_000) } });
  t.equal(response.status, 431);
  t.equal(response.json.error.code, 'headers_too_large');
});

t.test('health', async (t) => {
  t.same((await ask(url, 'GET', '/healthz')).json, { status: 'ok' });
  t.same((await ask(url, 'GET', '/readyz')).json, { status: 'ready' });
});

t.test('an authorization', async (t) => {
  const key = newKey();
  const first = await authorizeWith(url, key, 'card_ok');
  t.equal(first.status, 201);
  t.match(first.json, {
    operation_id: /^op_[0-9a-f]{32}$/,
    charge_id: /^ch_[0-9a-f]{32}$/,
    idempotency_key: key,
    kind: 'authorization',
    status: 'authorized',
    decline_code: null,
    order_reference: 'order-1',
    amount_minor: 1000,
    currency_code: 'EUR',
    charge: { status: 'authorized', amount_minor: 1000, captured_minor: 0, refunded_minor: 0 },
  });
  t.same((await ask(url, 'GET', `${charges}/${first.json.charge_id}`)).json, first.json.charge);
  const { position, ...found } = (await statusOf(url, key)).json;
  t.same(found, first.json);
  t.match(
    (await listAll(url)).find((operation) => operation.position === position),
    first.json,
  );
  const again = await authorizeWith(url, key, 'card_ok');
  t.equal(again.text, first.text);
  t.equal(again.status, first.status);
  t.ok(again.replayed);
  const other = await authorizeWith(url, key, 'card_declined');
  t.equal(other.status, 422);
  t.equal(other.json.error.code, 'idempotency_key_reused');
});

t.test('declined cards', async (t) => {
  for (const [card, decline_code] of [
    ['card_declined', 'card_declined'],
    ['card_insufficient_funds', 'insufficient_funds'],
  ] as const) {
    const key = newKey();
    const first = await authorizeWith(url, key, card);
    t.equal(first.status, 201, card);
    t.match(first.json, { status: 'declined', decline_code, charge: { status: 'declined' } }, card);
    t.equal((await authorizeWith(url, key, card)).text, first.text, card);
  }
});

t.test('sequences of operations on one charge', async (t) => {
  for (const { name, card = 'card_ok', steps } of [
    {
      name: 'capture, then refunds up to it',
      steps: [
        'capture 800 201',
        'refund 300 201',
        'refund 501 409 refund_exceeds_capture',
        'refund 500 201',
        'refund 1 409 refund_exceeds_capture',
      ],
    },
    { name: 'capture once', steps: ['capture 1 201', 'capture 1 409 charge_already_captured'] },
    {
      name: 'capture too much, then right',
      steps: ['capture 1001 409 capture_exceeds_authorization', 'capture 1000 201'],
    },
    {
      name: 'void, then nothing',
      steps: [
        'void - 201',
        'void - 409 charge_voided',
        'capture 1 409 charge_voided',
        'refund 1 409 charge_not_captured',
      ],
    },
    { name: 'no void after a capture', steps: ['capture 1 201', 'void - 409 charge_already_captured'] },
    {
      name: 'nothing on a declined charge',
      card: 'card_declined',
      steps: ['capture 1 409 charge_declined', 'void - 409 charge_declined', 'refund 1 409 charge_not_captured'],
    },
    {
      name: 'a declined capture can be voided',
      card: 'card_capture_declined',
      steps: ['capture 1 402 capture_declined', 'capture 1 402 capture_declined', 'void - 201'],
    },
  ]) {
    const id = await authorized(card);
    for (const step of steps) {
      const [kind, amount, status, code] = step.split(' ') as [string, string, string, string?];
      const key = newKey();
      const amount_minor = amount === '-' ? undefined : Number(amount);
      const first = await operate(id, kind, amount_minor, key);
      t.equal(first.status, Number(status), `${name}: ${step}`);
      t.equal(first.json.error?.code, code, `${name}: ${step}`);
      const again = await operate(id, kind, amount_minor, key);
      t.same([again.status, again.text], [first.status, first.text], `${name}: ${step}, again`);
      t.equal(
        (await statusOf(url, key)).json.status,
        code ? 'refused' : { capture: 'captured', void: 'voided', refund: 'refunded' }[kind],
      );
    }
  }
});

t.test('a capture in another currency is refused', async (t) => {
  const id = await authorized();
  const body = { amount_minor: 1, currency_code: 'USD' };
  const { status, json } = await ask(url, 'POST', `${charges}/${id}/capture`, { key: newKey(), body });
  t.equal(status, 422);
  t.equal(json.error.field, 'currency_code');
});

t.test('a key belongs to one operation on one charge', async (t) => {
  const [first, second, key] = [await authorized(), await authorized(), newKey()];
  t.equal((await operate(first, 'capture', 5, key)).status, 201);
  for (const [id, kind, amount] of [
    [first, 'capture', 6],
    [second, 'capture', 5],
    [first, 'refund', 5],
    [first, 'void', undefined],
  ] as const) {
    const { status, json } = await operate(id, kind, amount, key);
    t.equal(status, 422);
    t.equal(json.error.code, 'idempotency_key_reused');
  }
});

t.test('concurrent refunds never exceed the capture', async (t) => {
  const id = await authorized();
  await operate(id, 'capture', 1000);
  const responses = await Promise.all(Array.from({ length: 40 }, () => operate(id, 'refund', 100)));
  t.equal(responses.filter(({ status }) => status === 201).length, 10);
  t.equal(responses.filter(({ json }) => json.error?.code === 'refund_exceeds_capture').length, 30);
  t.match((await ask(url, 'GET', `${charges}/${id}`)).json, { status: 'refunded', refunded_minor: 1000 });
});

t.test('of a concurrent capture and void one succeeds', async (t) => {
  for (let round = 0; round < 10; round++) {
    const id = await authorized();
    const responses = await Promise.all([operate(id, 'capture', 1000), operate(id, 'void')]);
    t.same(responses.map(({ status }) => status).sort(), [201, 409]);
  }
});

t.test('fifty identical requests at once have one effect and one response', async (t) => {
  const key = newKey();
  const responses = await Promise.all(Array.from({ length: 50 }, () => authorizeWith(url, key, 'card_ok')));
  t.equal(new Set(responses.map(({ text }) => text)).size, 1);
  t.ok(responses.every(({ status }) => status === 201));
  t.equal(responses.filter(({ replayed }) => !replayed).length, 1);
  t.equal((await listAll(url)).filter(({ idempotency_key }) => idempotency_key === key).length, 1);
});

t.test('pages hold the whole log in order, whatever their size', async (t) => {
  const whole = await listAll(url);
  t.same(
    whole.map(({ position }) => position),
    whole.map((_, index) => index + 1),
  );
  t.same(await listAll(url, 7), whole);
  const { json } = await ask(url, 'GET', `/v1/operations?after=${whole.length + 5}`);
  t.same(json, { operations: [], next_after: whole.length + 5, has_more: false });
});

t.test('no payment method is logged or returned', async (t) => {
  t.match(acquirer.output(), /"path":"\/v1\/charges"/, 'requests are logged');
  t.notMatch(acquirer.output(), /card_/);
  const { text } = await ask(url, 'GET', '/v1/operations?limit=1000');
  t.notMatch(text.replaceAll(/"decline_code":"card_declined"/g, ''), /card_/);
});

t.test('the requests of README.md', async (t) => {
  const transcript = blocksOf('services/acquirer/README.md', '').find((text) =>
    text.includes('$ curl $URL/v1/charges '),
  )!;
  const [first, ...others] = commandsOf(transcript);
  const run = async (command: string, charge = '') => {
    const env = { ...process.env, URL: url, CHARGE: charge };
    const { stdout } = await promisify(execFile)('bash', ['-c', command.replace('curl ', 'curl -sS ')], { env });
    return JSON.parse(stdout);
  };
  const made = await run(first!);
  t.match(made, { status: 'authorized', charge: { status: 'authorized', amount_minor: 1999 } });
  const codes: Record<string, string> = {};
  for (const command of others) {
    const json = await run(command.replace(/op_14f7….*?(?=")/, made.operation_id), made.charge_id);
    const kind = /v1\/([^ "]+)/.exec(command)![1]!.replace('$CHARGE', '<id>');
    if (json.error) codes[kind] = json.error.code;
  }
  const ended = 'charge_already_captured';
  t.strictSame(codes, { 'charges/<id>/void': ended, 'charges/<id>/expire': ended });
});
