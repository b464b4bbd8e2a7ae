import { X509Certificate } from 'node:crypto';
import { connect as connectSocket, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { splitAddress } from '@armature/runtime/config';
import type { Showing } from './ca-rotation.ts';
import { meshServices, readMesh } from './mesh.ts';
import { knownServers } from './servers/servers.ts';
import type { State } from './state.ts';

const responseTimeoutMs = 5_000;
/** A client's first packet: it wants TLS, 4.1's protocol and long passwords, in utf8mb4. Nothing else follows in the clear. */
const mysqlTlsRequest = Buffer.from([32, 0, 0, 1, 0x01, 0x8a, 0, 0, 0, 0, 0, 1, 45, ...new Array<number>(23).fill(0)]);

/** Every server of the state folder that has a certificate of our authority to show. */
export function shownCertificates(state: State): Showing[] {
  const servers = knownServers(state);
  const services = meshServices(readMesh(state));
  return [
    ...(servers
      ? [
          { name: 'the database', address: new URL(servers.mysql.url).host, greet: greetMysql },
          { name: 'the broker', address: new URL(servers.rabbitmq.url).host },
          { name: "the broker's management", address: new URL(servers.rabbitmq.management).host },
        ]
      : []),
    ...services.flatMap(({ name, grpc }) => (grpc ? [{ name, address: grpc }] : [])),
  ].map(({ name, address, ...more }) => ({ name, certificate: () => shown(address, more) }));
}

/** This handshake accepts any server, because the caller verifies the certificate's signature. */
async function shown(
  address: string,
  { greet }: { greet?: (socket: Socket) => Promise<void> },
): Promise<X509Certificate | undefined> {
  const socket = connectSocket({ ...splitAddress(address), timeout: responseTimeoutMs });
  try {
    await connected(socket);
    await greet?.(socket);
    return await new Promise((resolve, reject) => {
      const secure = connectTls({ socket, rejectUnauthorized: false, ALPNProtocols: ['h2', 'http/1.1'] });
      secure.once('error', reject);
      secure.once('secureConnect', () => {
        const leaf = secure.getPeerX509Certificate();
        secure.destroy();
        resolve(leaf && new X509Certificate(leaf.raw));
      });
    });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ECONNREFUSED') return undefined;
    throw error;
  } finally {
    socket.destroy();
  }
}

function connected(socket: Socket): Promise<void> {
  return new Promise((resolve, reject) => {
    socket.once('connect', resolve);
    socket.once('error', reject);
    socket.once('timeout', () => socket.destroy(new Error(`no response within ${responseTimeoutMs} ms`)));
  });
}

/** MySQL speaks first, in the clear; TLS begins when the client asks for it. */
async function greetMysql(socket: Socket): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    socket.once('data', () => resolve());
    socket.once('error', reject);
  });
  socket.write(mysqlTlsRequest);
}
