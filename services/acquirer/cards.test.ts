import t from 'tap';
import { ask, authorizeWith, listAll, startAcquirer, statusOf } from './acquirer-process.ts';

const charges = '/v1/charges';
const SILENCE_MS = 2_500;
const silent = { name: 'TimeoutError' };

t.test(
  'card_timeout_after_auth acts without a response; repeats and status queries get one, also after a restart',
  async (t) => {
    const first = await startAcquirer(t);
    await t.rejects(authorizeWith(first.url, 'a', 'card_timeout_after_auth', SILENCE_MS), silent);
    const found = await statusOf(first.url, 'a');
    t.match(found, { status: 200, json: { status: 'authorized', charge: { status: 'authorized' } } });
    const retry = await authorizeWith(first.url, 'a', 'card_timeout_after_auth');
    t.match(retry, { status: 201, json: { charge_id: found.json.charge_id } });
    await t.rejects(
      authorizeWith(first.url, 'b', 'card_timeout_after_auth', SILENCE_MS),
      silent,
      'each key is silent once',
    );
    await first.kill('SIGKILL');
    const { url } = await startAcquirer(t, first);
    t.equal((await authorizeWith(url, 'a', 'card_timeout_after_auth')).text, retry.text);
    t.equal((await authorizeWith(url, 'b', 'card_timeout_after_auth')).status, 201);
    t.equal((await listAll(url)).length, 2);
  },
);

t.test('card_timeout_before_auth does nothing the first time, also when a restart follows', async (t) => {
  const first = await startAcquirer(t);
  await t.rejects(authorizeWith(first.url, 'a', 'card_timeout_before_auth', SILENCE_MS), silent);
  t.equal((await statusOf(first.url, 'a')).status, 404);
  t.same(await listAll(first.url), []);
  await first.kill('SIGKILL');
  const { url } = await startAcquirer(t, first);
  const other = await authorizeWith(url, 'a', 'card_ok');
  t.equal(other.json.error.code, 'idempotency_key_reused', 'the key belongs to its first request already');
  const retry = await authorizeWith(url, 'a', 'card_timeout_before_auth');
  t.match(retry, { status: 201, json: { status: 'authorized' } });
  t.equal((await authorizeWith(url, 'a', 'card_timeout_before_auth')).text, retry.text);
  t.equal((await listAll(url)).length, 1);
});

t.test('card_error_once fails without acting, once, also across a restart', async (t) => {
  const first = await startAcquirer(t);
  const error = await authorizeWith(first.url, 'a', 'card_error_once');
  t.match(error, { status: 500, json: { error: { code: 'processor_error' } } });
  t.equal((await statusOf(first.url, 'a')).status, 404);
  await first.kill('SIGKILL');
  const { url } = await startAcquirer(t, first);
  t.match(await authorizeWith(url, 'a', 'card_error_once'), { status: 201, json: { status: 'authorized' } });
  t.equal((await listAll(url)).length, 1);
});

t.test('card_timeout_after_capture captures and says nothing', async (t) => {
  const { url } = await startAcquirer(t);
  const { json } = await authorizeWith(url, 'a', 'card_timeout_after_capture');
  const capture = (timeout_ms?: number) =>
    ask(url, 'POST', `${charges}/${json.charge_id}/capture`, { key: 'c', body: { amount_minor: 900 }, timeout_ms });
  await t.rejects(capture(SILENCE_MS), silent);
  t.match((await statusOf(url, 'c')).json, { status: 'captured', charge: { status: 'captured', captured_minor: 900 } });
  t.match(await capture(), { status: 201, json: { status: 'captured', amount_minor: 900 } });
  t.equal((await listAll(url)).length, 2);
});

t.test('card_slow responds late, and retries get the same response', async (t) => {
  const { url } = await startAcquirer(t, { slowMs: 300 });
  const started = performance.now();
  const first = await authorizeWith(url, 'a', 'card_slow');
  t.ok(performance.now() - started >= 295);
  t.match(first, { status: 201, json: { status: 'authorized' } });
  const again = performance.now();
  t.equal((await authorizeWith(url, 'a', 'card_slow')).text, first.text);
  t.ok(performance.now() - again < 250, 'a replay is not late');
});

t.test('card_slow acts even when its caller has gone', async (t) => {
  const { url } = await startAcquirer(t, { slowMs: 400 });
  await t.rejects(authorizeWith(url, 'a', 'card_slow', 100), silent);
  t.equal((await statusOf(url, 'a')).status, 404, 'not yet');
  const retry = await authorizeWith(url, 'a', 'card_slow');
  t.equal(retry.status, 201);
  t.equal((await listAll(url)).length, 1);
});

t.test('card_webhook is pending first and authorized later, also across a restart', async (t) => {
  const first = await startAcquirer(t, { slowMs: 20_000 });
  const pending = await authorizeWith(first.url, 'a', 'card_webhook');
  t.match(pending, { status: 202, json: { status: 'pending', charge: { status: 'pending' } } });
  const path = `${charges}/${pending.json.charge_id}/capture`;
  const early = await ask(first.url, 'POST', path, { key: 'c1', body: { amount_minor: 1 } });
  t.match(early, { status: 409, json: { error: { code: 'charge_pending' } } });
  await first.kill('SIGKILL');
  const { url } = await startAcquirer(t, { dataDirectory: first.dataDirectory, slowMs: 50 });
  // Settling has no caller to wait for; each look is a request, and the test's own time limit bounds them.
  while ((await statusOf(url, 'a')).json.status === 'pending');
  t.match((await statusOf(url, 'a')).json, { status: 'authorized', charge: { status: 'authorized' } });
  t.equal((await authorizeWith(url, 'a', 'card_webhook')).text, pending.text, 'a repeat gets the first response');
  t.match(await ask(url, 'POST', path, { key: 'c2', body: { amount_minor: 1 } }), { status: 201 });
  const kinds = (await listAll(url)).map(({ kind, status }) => `${kind} ${status}`);
  t.same(kinds, ['authorization pending', 'capture refused', 'settlement authorized', 'capture captured']);
});

t.test('cancellations', async (t) => {
  const { url } = await startAcquirer(t, { slowMs: 300 });
  const cancel = (key: string) => ask(url, 'POST', '/v1/cancellations', { body: { idempotency_key: key } });

  await t.test('a cancelled key never acts', async (t) => {
    const first = await cancel('new');
    t.match(first, { status: 201, json: { kind: 'cancellation', status: 'cancelled', idempotency_key: 'new' } });
    t.same([(await cancel('new')).text, (await cancel('new')).status], [first.text, 201]);
    const late = await authorizeWith(url, 'new', 'card_ok');
    t.match(late, { status: 409, json: { error: { code: 'operation_cancelled' } } });
    t.match((await statusOf(url, 'new')).json, { kind: 'cancellation', status: 'cancelled' });
  });

  await t.test('cancelling a key with an operation returns that operation', async (t) => {
    const { json } = await authorizeWith(url, 'acted', 'card_ok');
    const response = await cancel('acted');
    t.match(response, { status: 200, json: { ...json, status: 'authorized' } });
  });

  await t.test('a cancellation overtakes an authorization under way', async (t) => {
    const slow = authorizeWith(url, 'slow', 'card_slow');
    t.equal((await cancel('slow')).status, 201);
    t.match(await slow, { status: 409, json: { error: { code: 'operation_cancelled' } } });
  });

  await t.test('a failed first attempt can be cancelled', async (t) => {
    await t.rejects(authorizeWith(url, 'before', 'card_timeout_before_auth', 200), silent);
    t.equal((await cancel('before')).status, 201);
    t.equal((await authorizeWith(url, 'before', 'card_timeout_before_auth')).status, 409);
  });

  await t.test('of a concurrent cancellation and authorization one succeeds', async (t) => {
    for (let round = 0; round < 20; round++) {
      const key = `race/${round}`;
      const [authorization, cancellation] = await Promise.all([authorizeWith(url, key, 'card_ok'), cancel(key)]);
      const outcome = `${authorization.status} ${cancellation.status} ${cancellation.json.status}`;
      t.ok(['201 200 authorized', '409 201 cancelled'].includes(outcome), outcome);
    }
  });
});
