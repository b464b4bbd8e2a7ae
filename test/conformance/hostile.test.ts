// What peers with and without a certificate can do to a service over raw sockets, with a good client beside them.
import { once } from 'node:events';
import { type ClientHttp2Session, type ClientHttp2Stream, connect, constants } from 'node:http2';
import { connect as connectTcp, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { inventoryClient } from '@armature/clients';
import { InventoryServiceContract } from '@armature/proto/inventory/v1/contract.ts';
import { serverLimits } from '@armature/runtime/rpc';
import { until } from '@armature/runtime/testing';
import t, { type Test } from 'tap';
import { testServers } from '../support/infra.ts';
import { residentMebibytes } from '../support/resident-memory.ts';
import { developerCredentials, startService, token, workloadCertificate } from '../support/service.ts';
import { inLongTier } from '../support/tier.ts';
import { bytesOfFrame, flags, frameTypes, headerBlock, rawConnection } from './frames.ts';
import { metricsOf } from './metrics-page.ts';
import { frame } from './wire.ts';

t.setTimeout(180_000);
await testServers();
const service = await startService(t, 'inventory');
const [host, port] = service.grpc.split(':') as [string, string];
/** The accounts of services that were taken over. */
const attacker = await workloadCertificate('orders');
const other = await workloadCertificate('payments');
const { batchGetStock, reserveStock } = InventoryServiceContract.methods;
const good = inventoryClient({
  addresses: [service.grpc],
  tls: await developerCredentials(),
  token: () => token('bo'),
});
t.teardown(() => good.close());

const request = {
  ':method': 'POST',
  // The attacker may call it without a token.
  ':path': reserveStock.path,
  'content-type': 'application/grpc',
  te: 'trailers',
};
// Pseudo-headers come first.
const rawRequest = { ':scheme': 'https', ':authority': 'localhost', ...request };
const message = frame(batchGetStock.request.encode(batchGetStock.request.fromPartial({ skus: ['X'] })).finish());

/** Opens an HTTP/2 connection with an account that was taken over. */
async function open(settings: object = {}, credentials = attacker): Promise<ClientHttp2Session> {
  const session = connect(`https://${service.grpc}`, { ...credentials, servername: 'localhost', settings });
  session.on('error', () => undefined);
  t.teardown(() => session.destroy());
  await once(session, 'remoteSettings');
  return session;
}

/** How a stream ended: its gRPC status, or "reset" and the code, or "open" after the limit. */
function endOf(stream: ClientHttp2Stream, limitMs = 30_000): Promise<string> {
  return new Promise((resolve) => {
    let said: string | undefined;
    const note = (headers: Record<string, unknown>) => {
      const status = headers['grpc-status'];
      if (status !== undefined) said = String(status);
    };
    const timer = setTimeout(() => resolve('open'), limitMs);
    stream.on('response', note);
    stream.on('trailers', note);
    stream.on('error', () => undefined);
    stream.on('close', () => {
      clearTimeout(timer);
      resolve(said ?? `reset ${stream.rstCode}`);
    });
  });
}

const megabytes = () => residentMebibytes(service.pid!);

/** The good client gets its response, over a new connection and over the one that it has. */
async function serves(t: Test, when: string): Promise<void> {
  const fresh = inventoryClient({
    addresses: [service.grpc],
    tls: await developerCredentials(),
    token: () => token('bo'),
  });
  for (const [name, client] of Object.entries({ 'an old connection': good, 'a new connection': fresh })) {
    await t.resolves(client.batchGetStock({ skus: ['X'] }, { timeoutMs: 5_000 }), `${when}: over ${name}`);
  }
  fresh.close();
}

/** What has to end by itself, checked when the other tests have run. */
const ending = new Map<string, () => boolean>();

/** Opens TCP connections that say nothing more than `hello`. */
async function silentSockets(count: number, hello: Buffer): Promise<Set<Socket>> {
  const live = new Set<Socket>();
  await Promise.all(
    Array.from({ length: count }, async () => {
      const socket = connectTcp(Number(port), host);
      socket.on('error', () => undefined);
      socket.on('close', () => live.delete(socket));
      live.add(socket);
      await once(socket, 'connect');
      socket.write(hello);
    }),
  );
  t.teardown(() => live.forEach((socket) => void socket.destroy()));
  return live;
}

t.test('the limits are those of HTTP/2 itself: a client is told, and the server keeps them', async (t) => {
  const session = await open();
  t.match(session.remoteSettings, {
    maxConcurrentStreams: serverLimits.streamsPerConnectionMax,
    maxHeaderListSize: serverLimits.headerBytesMax,
  });
  const large = session.request({ ...request, 'x-large': 'x'.repeat(serverLimits.headerBytesMax) });
  t.equal(await endOf(large), `reset ${constants.NGHTTP2_ENHANCE_YOUR_CALM}`);
  const many = Object.fromEntries(
    Array.from({ length: serverLimits.headerPairsMax }, (_, index) => [`x-${index}`, '']),
  );
  t.equal(await endOf(session.request({ ...request, ...many })), `reset ${constants.NGHTTP2_ENHANCE_YOUR_CALM}`);
  session.destroy();
});

t.test('connections that do not finish their handshake make room for others, and end', async (t) => {
  const hello = Buffer.from('160301020001000a0303', 'hex');
  const [none, cut] = await Promise.all([silentSockets(400, Buffer.alloc(0)), silentSockets(400, hello)]);
  await serves(t, 'beside 800 handshakes that do not go on');
  t.ok(none.size + cut.size <= serverLimits.handshakesMax, `${none.size} and ${cut.size} are left`);
  ending.set('handshakes that do not go on', () => none.size + cut.size === 0);
});

t.test('headers that HPACK makes large from few bytes are cut off while they arrive', async (t) => {
  const before = megabytes();
  const held: TLSSocket[] = [];
  for (let connections = 0; connections < 4; connections += 1) {
    const { socket, received } = await rawConnection(service.grpc, other);
    const known = headerBlock({ 'x-large': 'x'.repeat(3_900) }, { indexed: true });
    const first = headerBlock(rawRequest);
    // 62 is the newest entry of the dynamic table.
    const bomb = Buffer.concat([first, Buffer.alloc(14, 0x80 | 62)]);
    const open = (stream: number, payload: Buffer) =>
      socket.write(bytesOfFrame({ type: frameTypes.headers, flags: flags.endHeaders, stream, payload }));
    open(1, Buffer.concat([first, known]));
    for (let stream = 3; stream <= 999; stream += 2) open(stream, bomb);
    const ended = () => received.filter(({ type, stream }) => type === frameTypes.reset && stream > 1);
    await until('all are refused, or the connection is', () => ended().length >= 499 || socket.destroyed);
    t.equal(received.filter(({ type }) => type === frameTypes.data).length, 0);
    held.push(socket);
  }
  t.ok(megabytes() - before < 60, `it grew by ${(megabytes() - before).toFixed(0)} MiB`);
  await serves(t, 'after bombs');
  ending.set('connections that do not acknowledge the settings', () => held.every(({ destroyed }) => destroyed));
});

t.test('idle connections with one certificate make room for others', inLongTier, async (t) => {
  const live = new Set<TLSSocket>();
  for (let opened = 0; opened < serverLimits.connectionsPerCertificateMax + 40; opened += 20) {
    await Promise.all(
      Array.from({ length: 20 }, async () => {
        const socket = connectTls({
          host,
          port: Number(port),
          ...attacker,
          servername: 'localhost',
          ALPNProtocols: ['h2'],
        });
        socket.on('error', () => undefined);
        socket.on('close', () => live.delete(socket));
        live.add(socket);
        socket.resume();
        await once(socket, 'secureConnect');
        socket.write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
        socket.write(Buffer.from('000000040000000000', 'hex'));
      }),
    );
  }
  await until('the oldest have ended', () => live.size <= serverLimits.connectionsPerCertificateMax);
  await serves(t, 'beside idle connections');
  for (const socket of live) socket.destroy();
});

t.test('calls whose request does not arrive make room for others, and end', async (t) => {
  const sessions = [await open(), await open()];
  const headersOnly = (session: ClientHttp2Session) => {
    const stream = session.request(request);
    return { end: endOf(stream), stream };
  };
  const first = Array.from({ length: 250 }, () => headersOnly(sessions[0]!));
  await sleep(1_100);
  const second = Array.from({ length: 250 }, () => headersOnly(sessions[1]!));
  const evicted = await Promise.all(first.slice(0, 200).map(({ end }) => end));
  t.strictSame([...new Set(evicted)], ['8'], 'the oldest are RESOURCE_EXHAUSTED');
  await serves(t, 'beside calls without a request');
  const late = await Promise.all([...first, ...second].map(({ end }) => end));
  t.strictSame(new Set(late), new Set(['8', '4']), 'the others are DEADLINE_EXCEEDED');
  for (const session of sessions) session.destroy();
});

t.test('requests that arrive in part occupy no more than their budget', async (t) => {
  const before = megabytes();
  const session = await open();
  session.setLocalWindowSize(2 ** 24);
  const length = serverLimits.messageBytesMax - 1;
  const ends = Array.from({ length: 10 }, () => {
    const stream = session.request({ ...request, 'grpc-timeout': '10S' });
    stream.write(frame(Buffer.alloc(0), { length }));
    stream.write(Buffer.alloc(length - 1));
    return endOf(stream);
  });
  const results = await Promise.all(ends);
  t.ok(results.includes('8'), `they end with ${results}`);
  const grown = megabytes() - before;
  t.ok(grown < 100, `it grew by ${grown.toFixed(0)} MiB`);
  await serves(t, 'after requests in part');
  session.destroy();
});

t.test('a client that does not read loses its calls', async (t) => {
  const authorization = `Bearer ${await token('ada')}`;
  const session = await open({ initialWindowSize: 0 }, await workloadCertificate('developer'));
  const ends = Array.from({ length: 50 }, () => {
    const stream = session.request({ ...request, ':path': batchGetStock.path, authorization, 'grpc-timeout': '5S' });
    stream.end(message);
    return endOf(stream, serverLimits.sendMs + 15_000);
  });
  t.strictSame([...new Set(await Promise.all(ends))], [`reset ${constants.NGHTTP2_CANCEL}`]);
  session.destroy();
});

t.test('floods of resets end their connection, and the next ones wait', async (t) => {
  const block = headerBlock(rawRequest);
  for (const round of [1, 2]) {
    const began = performance.now();
    const { socket, received } = await rawConnection(service.grpc, attacker);
    await until('the server serves it', () => received.length > 0);
    if (round === 2) t.ok(performance.now() - began > serverLimits.floodPauseMs / 2, 'the next connection waited');
    let resets = 0;
    for (let stream = 1; !socket.destroyed && resets < 20_000; resets += 100) {
      const frames: Buffer[] = [];
      for (let burst = 0; burst < 100; burst += 1, stream += 2) {
        frames.push(bytesOfFrame({ type: frameTypes.headers, flags: flags.endHeaders, stream, payload: block }));
        frames.push(bytesOfFrame({ type: frameTypes.reset, stream, payload: Buffer.from([0, 0, 0, 8]) }));
      }
      socket.write(Buffer.concat(frames));
      await sleep(2);
    }
    await until('the connection has ended', () => socket.destroyed);
    const goaway = received.find(({ type }) => type === frameTypes.goaway);
    // It names the last stream that was served; streams of a client have odd numbers.
    const served = (goaway?.payload.readUInt32BE(0) ?? 0) / 2;
    t.ok(goaway && served <= 2 * serverLimits.resetsBurst, `ended after ${served} streams`);
    await serves(t, 'beside the flood');
  }
});

t.test('streams of health and reflection are few for each certificate', async (t) => {
  const session = await open();
  const paths = ['/grpc.health.v1.Health/Watch', '/grpc.reflection.v1.ServerReflection/ServerReflectionInfo'];
  const watch = frame(Buffer.alloc(0));
  const ends = Array.from({ length: 60 }, (_, index) => {
    const stream = session.request({ ...request, ':path': paths[index % 2]! });
    stream.write(watch);
    return endOf(stream, 1_500);
  });
  const results = await Promise.all(ends);
  t.ok(results.filter((one) => one === '8').length >= 60 - serverLimits.standardStreamsPerCertificateMax);
  session.destroy();
  await serves(t, 'beside watches');
});

t.test('what does not go on ends, and the process has lived through all of it', async (t) => {
  for (const [name, ended] of ending) await until(`the end of ${name}`, ended);
  const inFlight = async () =>
    (await metricsOf(service.admin)).samples.find(({ name }) => name === 'armature_rpc_in_flight')?.value;
  await until('no call is left', async () => (await inFlight()) === 0);
  t.equal(service.process.exitCode, null);
  t.notMatch(service.logs(), /"level":(50|60)/);
});
