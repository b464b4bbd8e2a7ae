// Errors of the system while servers of the runtime accept connections.
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { connect, createServer, Server } from 'node:net';
import { join } from 'node:path';
import { Server as GrpcServer } from '@grpc/grpc-js';
import { pino } from 'pino';
import t, { type Test } from 'tap';
import { issueCertificate } from '../../../scripts/devmesh/certificates.ts';
import { watchTls } from '../credentials/tls-files.ts';
import { serveHttps } from '../http/https-server.ts';
import { startAdmin } from '../telemetry/admin.ts';
import { createRegistry } from '../telemetry/metrics.ts';
import { listen } from './listener.ts';

const address = '127.0.0.1:0';
const { pem, keyPem } = await issueCertificate({ commonName: 'localhost', dns: ['localhost'] });

type Close = () => Promise<unknown>;
const servers: Record<string, (t: Test, log: pino.Logger) => Promise<Close>> = {
  async gRPC(t, log) {
    const grpc = new GrpcServer();
    const listener = await listen({
      server: grpc,
      address,
      tls: files(t),
      trustDomain: 'armature.local',
      isOfContract: () => true,
      log,
    });
    return () => listener.close().then(() => grpc.forceShutdown());
  },
  async HTTPS(t, log) {
    const tls = watchTls(files(t));
    const server = await serveHttps({ address, tls, log, routes: () => {} });
    return () => server.close().finally(() => tls.stop());
  },
  async admin(_t, log) {
    const admin = await startAdmin({ address, registry: createRegistry('test'), readiness: () => [], log });
    return admin.close;
  },
};

function files(t: Test) {
  const dir = t.testdir();
  const [certFile, keyFile] = [join(dir, 'tls.pem'), join(dir, 'tls.key')];
  writeFileSync(certFile, pem);
  writeFileSync(keyFile, keyPem);
  return { certFile, keyFile, caFile: certFile };
}

/** The servers of node that begin to listen while `start` runs. */
async function listening<T>(start: () => Promise<T>): Promise<{ result: T; found: Server[] }> {
  const { listen } = Server.prototype;
  const found: Server[] = [];
  Server.prototype.listen = function (this: Server, ...args: unknown[]) {
    found.push(this);
    return Reflect.apply(listen, this, args) as Server;
  } as typeof listen;
  try {
    return { result: await start(), found };
  } finally {
    Server.prototype.listen = listen;
  }
}

for (const [name, start] of Object.entries(servers)) {
  t.test(`${name}: connections that cannot be accepted do not end the process`, async (t) => {
    const lines: { level: number; msg: string; err: { code: string } }[] = [];
    const log = pino({}, { write: (line) => void lines.push(JSON.parse(line)) });
    const { result: close, found } = await listening(() => start(t, log));
    t.teardown(close);
    const [server] = found as [Server];
    for (const code of ['EMFILE', 'ENOBUFS'])
      server.emit('error', Object.assign(new Error(`accept ${code}`), { code }));
    t.match(lines, [
      { level: 40, msg: 'a connection was not accepted', err: { code: 'EMFILE' } },
      { level: 40, err: { code: 'ENOBUFS' } },
    ]);
    const socket = connect((server.address() as { port: number }).port, '127.0.0.1');
    t.teardown(() => socket.destroy());
    await once(socket, 'connect');
  });
}

t.test('an address in use is an error of the start', async (t) => {
  const taken = createServer().listen(0, '127.0.0.1');
  t.teardown(() => taken.close());
  await once(taken, 'listening');
  const { port } = taken.address() as { port: number };
  const log = pino({ level: 'silent' });
  const admin = startAdmin({
    ...{ address: `127.0.0.1:${port}`, registry: createRegistry('test'), readiness: () => [], log },
  });
  await t.rejects(admin, { code: 'EADDRINUSE' });
});
