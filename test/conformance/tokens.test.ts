// Tests over the wire which tokens a service accepts, and what it says about those that it refuses.
import { setTimeout as sleep } from 'node:timers/promises';
import { InventoryServiceContract } from '@armature/proto/inventory/v1/contract.ts';
import t, { type Test } from 'tap';
import { testServers } from '../support/infra.ts';
import { startService, workloadCertificate } from '../support/service.ts';
import { acceptedTokens, bearer, openForge, refusedTokens, vanishingTokens } from './forged-tokens.ts';
import { leaksOf } from './leaks.ts';
import { openWire, type RawResponse } from './wire.ts';

t.setTimeout(120_000);
const service = await startService(t, 'inventory');
const wire = await openWire(service.grpc, await workloadCertificate('developer'));
t.teardown(() => wire.close());
const { state } = await testServers();
const forge = openForge(state);
const { batchGetStock } = InventoryServiceContract.methods;
const message = batchGetStock.request.encode({ skus: ['NOT-THERE'] }).finish();

/** Every token that was sent; none may appear in a log. */
const sent = new Set<string>();

async function present(authorization: string | string[]): Promise<RawResponse> {
  for (const value of [authorization].flat()) for (const part of value.split(/[ ,.]+/)) sent.add(part);
  // Node's types allow this header only once.
  return wire.call(batchGetStock.path, { message, headers: { authorization: authorization as string } });
}

/** All of a response byte for byte, without times. */
function said({ headers, replies }: RawResponse): string {
  const { date: _date, ...others } = headers;
  return JSON.stringify([Object.entries(others).sort(), replies.map((reply) => reply.toString('base64'))]);
}

const unknownCaller = await present('Bearer unknown');

t.test('the response to an unknown caller', async (t) => {
  t.match(unknownCaller, { http: 200, code: 'UNAUTHENTICATED', replies: [] });
  t.match(unknownCaller.error, {
    reason: 'CREDENTIALS_INVALID',
    domain: 'runtime.armature.local',
    metadata: {},
    details: {},
  });
  t.strictSame(leaksOf(unknownCaller), []);
  t.notMatch(
    unknownCaller.message,
    /token|signature|expire|audience|issuer|key|alg|certificate/i,
    'says nothing of the cause',
  );
  const known = Object.keys(unknownCaller.headers).sort();
  t.strictSame(known, [':status', 'content-type', 'date', 'grpc-message', 'grpc-status', 'grpc-status-details-bin']);
});

t.test('refused, with the same response byte for byte', async (t) => {
  for (const { name, authorization } of refusedTokens(forge)) {
    const first = await present(authorization());
    t.equal(said(first), said(unknownCaller), name);
    t.equal(said(await present(authorization())), said(unknownCaller), `${name}, again`);
  }
});

t.test('tokens that never arrive grant no more than a call without a token', async (t) => {
  const bare = await wire.call(batchGetStock.path, { message });
  t.match(bare, { code: 'UNAUTHENTICATED', error: { reason: 'TOKEN_MISSING' } });
  for (const { name, authorization } of vanishingTokens(forge)) {
    t.equal(said(await present(authorization())), said(bare), name);
  }
});

t.test('a caller without a certificate is refused in the handshake, with or without a token', async (t) => {
  const { ca } = await workloadCertificate('developer');
  const bare = await openWire(service.grpc, { ca });
  const headers = { authorization: bearer(forge.token()) };
  t.ok((await bare.call(batchGetStock.path, { message, headers })).refused);
  t.ok((await bare.call(batchGetStock.path, { message })).refused);
  bare.close();
});

t.test('accepted', async (t) => {
  for (const { name, authorization } of acceptedTokens(forge)) {
    await t.test(name, async (t) => {
      // Times are whole seconds, so what is 4 s old at the beginning of a second is so until its end.
      for (let tries = 0; ; tries += 1) {
        await beginningOfSecond();
        const second = Math.floor(Date.now() / 1000);
        const response = await present(authorization());
        if (response.code !== 'OK' && Math.floor(Date.now() / 1000) !== second && tries < 20) continue;
        t.equal(response.code, 'OK', response.message);
        return;
      }
    });
  }
});

async function beginningOfSecond(): Promise<void> {
  const past = Date.now() % 1000;
  if (past > 300) await sleep(1000 - past);
}

t.test('a program with its own token is not a customer', async (t) => {
  for (const name of ['reports', 'ada', 'bo', 'admin']) {
    const response = await present(bearer(forge.token({ sub: name, client_id: name })));
    t.match(response, { code: 'PERMISSION_DENIED', message: 'inventory.read is not allowed' }, `client ${name}`);
  }
});

t.test('too much', async (t) => {
  const tooMuch = (response: RawResponse) => {
    t.not(response.code, 'OK');
    t.strictSame(leaksOf(response), []);
  };
  const rows: { name: string; authorization: string; code: string | RegExp }[] = [
    { name: 'a signed token of some 7 KiB', authorization: bearer(forge.token({ x: 'x'.repeat(5_000) })), code: 'OK' },
    { name: 'headers of more than 8 KiB', authorization: bearer('x'.repeat(8_300)), code: 'RESOURCE_EXHAUSTED' },
    {
      name: 'a signed token of more than 8 KiB',
      authorization: bearer(forge.token({ x: 'x'.repeat(8_192) })),
      code: 'RESOURCE_EXHAUSTED',
    },
    { name: 'a token of 64 KiB', authorization: bearer('x'.repeat(65_536)), code: /^(RESOURCE_EXHAUSTED)?$/ },
  ];
  for (const { name, authorization, code } of rows) {
    const brief = await openWire(service.grpc, await workloadCertificate('developer'));
    for (const part of authorization.split(/[ .]/)) sent.add(part);
    const response = await brief.call(batchGetStock.path, { message, headers: { authorization } });
    t.match(response.code, code, name);
    if (code !== 'OK') tooMuch(response);
    brief.close();
  }
});

t.test('unknown keys, a thousand times', async (t) => {
  const started = performance.now();
  const responses = await Promise.all(
    Array.from({ length: 1_000 }, (_, index) => present(bearer(forge.token({}, { kid: `unknown-${index}` })))),
  );
  t.equal(
    responses.filter((response) => said(response) !== said(unknownCaller)).length,
    0,
    'all get the same response',
  );
  t.equal((await present(bearer(forge.token()))).code, 'OK', 'and who has a good one is served');
  t.comment(`${(performance.now() - started).toFixed(0)} ms`);
});

t.test('no part of a token is logged', async (t) => {
  t.equal(await service.stop(), 0);
  const logs = service.logs();
  t.match(logs, /call refused/, 'the log does say that calls were refused');
  tokensIn(t, logs);
});

/** Skips parts of tokens that are too short to be distinguished from ordinary words. */
function tokensIn(t: Test, logs: string): void {
  const telling = [...sent].filter((part) => part.length >= 20);
  t.ok(telling.length > 1_000);
  t.strictSame(
    telling.filter((part) => logs.includes(part) || logs.includes(part.slice(-20))),
    [],
  );
  t.notMatch(logs, /eyJ|evil\.example|hunter2|etc\/passwd/, 'neither what tokens begin with nor what stood in them');
}
