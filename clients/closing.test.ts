import { type ChildProcess, spawn } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, connect, createServer as createTcpServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createServer as createTlsServer } from 'node:tls';
import t from 'tap';
import { developerCredentials, workloadCertificate } from '../test/support/service.ts';

/** Calls every server that the arguments name, closes the clients, and then has nothing left to do. */
const program = `
import { clientCredentials, inventoryClient } from ${JSON.stringify(import.meta.resolve('./index.ts'))};
const [files, key, ...addresses] = process.argv.slice(1);
const tls = JSON.parse(files);
const clients = addresses.map((address) => inventoryClient({ addresses: [address], tls }));
const options = { issuer: 'https://' + addresses[0], clientId: 'program', keyFile: key, caFile: tls.caFile };
clients.push(inventoryClient({ addresses, tls, token: clientCredentials(options) }));
const calls = clients.map((client) => client.batchGetStock({ skus: ['A'] }, { timeoutMs: 300 }));
const outcomes = await Promise.allSettled(calls);
const inFlight = clients.map((client) => client.batchGetStock({ skus: ['A'] }, { timeoutMs: 5_000 }));
const ending = Promise.allSettled(inFlight);
setTimeout(async () => {
  for (const client of clients) client.close();
  const ended = await ending;
  const codes = (all) => all.map(({ reason }) => reason?.code);
  console.log(JSON.stringify({ closedAt: Date.now(), called: codes(outcomes), closed: codes(ended) }));
}, 50);
`;

const sockets = new Set<Socket>();
const addressOf = (server: { address(): AddressInfo | string | null }) =>
  `127.0.0.1:${(server.address() as AddressInfo).port}`;

/** Accepts connections and never sends a byte. */
async function silentServer(): Promise<string> {
  const server = createTcpServer((socket) => sockets.add(socket.on('error', () => undefined)));
  await once(server.listen(0, '127.0.0.1'), 'listening');
  t.teardown(() => server.close());
  return addressOf(server);
}

/** Finishes the TLS handshake, and sends nothing more. */
async function silentAfterTls(): Promise<string> {
  const { cert, key, ca } = await workloadCertificate('inventory');
  const options = { cert, key, ca, requestCert: true, ALPNProtocols: ['h2'] };
  const server = createTlsServer(options, (socket) => sockets.add(socket.on('error', () => undefined)));
  await once(server.listen(0, '127.0.0.1'), 'listening');
  t.teardown(() => server.close());
  return addressOf(server);
}

/** A stopped process whose queue of connections is full: the handshake of TCP itself does not finish. */
async function fullServer(): Promise<string> {
  const listen = `const server = require('node:net').createServer().listen({ port: 0, host: '127.0.0.1', backlog: 1 },
    () => console.log(server.address().port));`;
  const child = spawn(process.execPath, ['-e', listen], { stdio: ['ignore', 'pipe', 'inherit'], env: plain() });
  t.teardown(() => child.kill('SIGKILL'));
  const port = Number(await firstLine(child));
  child.kill('SIGSTOP');
  for (let filled = 0; filled < 8; filled += 1) {
    sockets.add(connect(port, '127.0.0.1').on('error', () => undefined));
  }
  return `127.0.0.1:${port}`;
}

/** The key of a program that signs in. */
function programKeyFile(): string {
  const room = mkdtempSync(join(tmpdir(), 'armature-closing-'));
  t.teardown(() => rmSync(room, { recursive: true, force: true }));
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  writeFileSync(join(room, 'key.pem'), privateKey.export({ type: 'pkcs8', format: 'pem' }));
  return join(room, 'key.pem');
}

/** tap adds itself to NODE_OPTIONS of child processes. */
const plain = (): NodeJS.ProcessEnv => ({ ...process.env, NODE_OPTIONS: undefined });

async function firstLine(child: ChildProcess): Promise<string> {
  const [chunk] = (await once(child.stdout!, 'data')) as [Buffer];
  return chunk.toString();
}

t.test('a closed client lets its process end, whatever its servers do', async (t) => {
  const { certFile, keyFile, caFile } = await developerCredentials();
  const addresses = await Promise.all([silentServer(), silentAfterTls(), fullServer()]);
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
  });
  const child = spawn(
    process.execPath,
    [
      '--input-type=module-typescript',
      '-e',
      program,
      JSON.stringify({ certFile, keyFile, caFile }),
      programKeyFile(),
      ...addresses,
    ],
    { stdio: ['ignore', 'pipe', 'inherit'], env: plain() },
  );
  t.teardown(() => child.kill('SIGKILL'));
  const exited = once(child, 'exit');
  const { closedAt, called, closed } = JSON.parse(await firstLine(child));
  t.strictSame(
    called,
    addresses.concat('of a token').map(() => 'DEADLINE_EXCEEDED'),
  );
  t.strictSame(
    closed,
    addresses.concat('of a token').map(() => 'CANCELLED'),
    'calls in progress end',
  );
  const overdue = setTimeout(() => child.kill('SIGKILL'), 5_000);
  const [code] = await exited;
  clearTimeout(overdue);
  t.equal(code, 0);
  t.ok(Date.now() - closedAt < 1_500, `it ended after ${Date.now() - closedAt} ms`);
});
