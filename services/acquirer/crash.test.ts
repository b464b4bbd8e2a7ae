import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { appendFile, readFile, stat } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import t from 'tap';
import { amount, inLongTier } from '../../test/support/tier.ts';
import {
  type AcquirerProcess,
  type AcquirerResponse,
  ask,
  authorizeWith,
  listAll,
  startAcquirer,
  statusOf,
} from './acquirer-process.ts';

/** Sends authorizations, 200 at a time, until the process is gone; returns the responses by key. */
async function flood(
  acquirer: AcquirerProcess,
  round: number,
  killAfter: number,
): Promise<Map<string, AcquirerResponse>> {
  const responded = new Map<string, AcquirerResponse>();
  let gone: Promise<unknown> | undefined;
  const client = async (number: number) => {
    for (let request = 0; gone === undefined || request === 0; request++) {
      const key = `${round}/${number}/${request}`;
      try {
        responded.set(key, await authorizeWith(acquirer.url, key, 'card_ok'));
      } catch (error) {
        if (gone === undefined) throw error;
        return;
      }
      if (responded.size >= killAfter) gone ??= acquirer.kill('SIGKILL');
    }
  };
  await Promise.all(Array.from({ length: 200 }, (_, number) => client(number)));
  await gone;
  return responded;
}

t.test('kill -9 among 200 requests loses no operation that had a response', async (t) => {
  const seed = Number(process.pid);
  t.comment(`seed ${seed}`);
  const responded = new Map<string, AcquirerResponse>();
  let acquirer = await startAcquirer(t);
  for (let round = 0; round < amount(2, 5); round++) {
    const killAfter = 1 + ((seed * (round + 1) * 7919) % 500);
    for (const [key, response] of await flood(acquirer, round, killAfter)) responded.set(key, response);
    acquirer = await startAcquirer(t, acquirer);
  }
  const recorded = (await listAll(acquirer.url)).map(({ idempotency_key }) => idempotency_key);
  t.equal(new Set(recorded).size, recorded.length, 'no key acted twice');
  t.comment(`${responded.size} responses, ${recorded.length} recorded`);
  const keys = new Set(recorded);
  t.same(
    [...responded.keys()].filter((key) => !keys.has(key)),
    [],
    'every operation with a response is recorded',
  );
  let different = 0;
  for (const [key, { text, status }] of responded) {
    const again = await authorizeWith(acquirer.url, key, 'card_ok');
    if (again.text !== text || again.status !== status || !again.replayed) different += 1;
  }
  t.equal(different, 0, 'replays give identical bytes');
  t.equal((await listAll(acquirer.url)).length, recorded.length, 'replays record nothing');
});

t.test('a torn tail is cut at start and reported', async (t) => {
  const first = await startAcquirer(t);
  const { text } = await authorizeWith(first.url, 'a', 'card_ok');
  await first.kill('SIGKILL');
  const path = join(first.dataDirectory, 'operations.jsonl');
  const { size } = await stat(path);
  await appendFile(path, (await readFile(path)).subarray(0, 300));
  const second = await startAcquirer(t, first);
  t.match(second.output(), /"cut_bytes":300/);
  t.equal((await stat(path)).size, size);
  t.equal((await authorizeWith(second.url, 'a', 'card_ok')).text, text);
});

t.test('a second process on the same directory cannot start until the first has ended', async (t) => {
  const first = await startAcquirer(t);
  await t.rejects(startAcquirer(t, first), { message: /ended with 1: .*another process is using it/ });
  t.equal((await ask(first.url, 'GET', '/readyz')).status, 200);
  await first.kill('SIGKILL');
  t.equal((await ask((await startAcquirer(t, first)).url, 'GET', '/readyz')).status, 200);
});

t.test('a log that cannot be written acknowledges nothing', async (t) => {
  const first = await startAcquirer(t, { fileLimitBlocks: 40 });
  const responses: AcquirerResponse[] = [];
  for (let request = 0; responses.at(-1)?.status !== 503; request++) {
    responses.push(await authorizeWith(first.url, `k${request}`, 'card_ok'));
    if (request > 1000) throw new Error('the limit on the file size did not work');
  }
  const refused = `k${responses.length - 1}`;
  t.equal(responses.at(-1)!.json.error.code, 'log_unavailable');
  t.equal((await ask(first.url, 'GET', '/readyz')).status, 503);
  t.equal((await ask(first.url, 'GET', '/healthz')).status, 200);
  t.equal(
    (await statusOf(first.url, refused)).status,
    503,
    'an unknown outcome is not reported as an unknown operation',
  );
  t.equal((await statusOf(first.url, 'k0')).status, 200, 'what is durable can be read');
  t.equal((await authorizeWith(first.url, 'k0', 'card_ok')).text, responses[0]!.text);
  t.equal((await authorizeWith(first.url, 'new', 'card_ok')).status, 503);
  t.equal((await listAll(first.url)).length, responses.length - 1);
  await first.kill('SIGTERM');
  const { url } = await startAcquirer(t, { dataDirectory: first.dataDirectory });
  for (const [request, { status, text }] of responses.entries()) {
    const again = await authorizeWith(url, `k${request}`, 'card_ok');
    t.equal(again.status, 201);
    if (status === 201) t.equal(again.text, text);
  }
  t.equal((await listAll(url)).length, responses.length);
});

t.test('SIGTERM finishes requests under way, closes connections without a response, and exits 0', async (t) => {
  const first = await startAcquirer(t, { slowMs: 500 });
  const slow = authorizeWith(first.url, 'slow', 'card_slow');
  const silent = authorizeWith(first.url, 'silent', 'card_timeout_after_auth').then(
    () => 'responded',
    () => 'hung up',
  );
  // Both are under way once the second has been recorded: requests are taken in order of arrival.
  while ((await statusOf(first.url, 'silent')).status === 404);
  t.equal(await first.kill('SIGTERM'), 0);
  t.equal((await slow).status, 201);
  t.equal(await silent, 'hung up');
  const { url } = await startAcquirer(t, first);
  t.equal((await listAll(url)).length, 2);
});

t.test('the state file tells where it serves', async (t) => {
  const { url, dataDirectory } = await startAcquirer(t);
  const state = JSON.parse(await readFile(join(dataDirectory, 'state.json'), 'utf8'));
  t.match(state, { name: 'acquirer', pid: Number, http: new URL(url).host });
});

t.test('migrate does nothing and needs nothing', async (t) => {
  const child = spawn(process.execPath, [join(import.meta.dirname, 'main.ts'), 'migrate'], {
    env: {},
    stdio: 'ignore',
  });
  t.same(await once(child, 'exit'), [0, null]);
});

t.test('a request that is not HTTP gets an error in the usual format', async (t) => {
  const { url } = await startAcquirer(t);
  const socket = connect(Number(new URL(url).port), '127.0.0.1');
  socket.end('\0\x01 nonsense\r\n\r\n');
  let response = '';
  for await (const chunk of socket) response += chunk;
  t.match(response, /^HTTP\/1\.1 400 .*\r\n\r\n\{"error":\{"code":"request_invalid"/s);
  t.equal((await ask(url, 'GET', '/healthz')).status, 200);
});

t.test('authorizations a second, with every response on disk', inLongTier, async (t) => {
  const { url } = await startAcquirer(t);
  const LEAST_PER_SECOND = 250;
  const COUNT = 4000;
  const started = performance.now();
  let next = 0;
  const client = async () => {
    while (next < COUNT) {
      const { status } = await authorizeWith(url, `load/${next++}`, 'card_ok');
      if (status !== 201) throw new Error(`the response was ${status}`);
    }
  };
  await Promise.all(Array.from({ length: 64 }, client));
  const rate = COUNT / ((performance.now() - started) / 1000);
  t.comment(`${Math.round(rate)} authorizations/s`);
  t.ok(rate > LEAST_PER_SECOND, 'the floor is low because tests share their machine; the target is 1,000');
});
