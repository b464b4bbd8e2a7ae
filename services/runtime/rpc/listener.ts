import { constants } from 'node:crypto';
import type net from 'node:net';
import tls from 'node:tls';
import { type Server, ServerCredentials } from '@grpc/grpc-js';
import { joinAddress, splitAddress } from '../config/address.ts';
import { workloadOf } from '../credentials/spiffe.ts';
import { startListening } from '../telemetry/listening.ts';
import type { Logger } from '../telemetry/log.ts';
import './request-headers.ts';
import { type TlsFiles, type TlsMaterial, type TlsWatch, watchTls } from '../credentials/tls-files.ts';

export interface Listener {
  /** host:port that the server listens on. */
  readonly address: string;
  /** Casbin subject of the workload of a connection, by `getPeer()`; null without a valid certificate. */
  workloadAt(peer: string): string | null;
  connections(): number;
  /** Accepts no new connections; open ones stay. Resolves when the last of them has ended. */
  close(): Promise<void>;
}

const limits = { connectionsMax: 2_000, handshakeTimeoutMs: 5_000 };

/**
 * Terminates TLS itself and passes the connections to gRPC. So handshakes have a time limit, the number of connections
 * has a maximum, certificates reload without a restart, and the workload is determined once per connection, not once
 * per call. A connection without a valid certificate is accepted, so that its calls can be refused with a proper
 * status. New certificates apply to new connections; open ones stay until the server closes them for their age.
 */
export async function listen(options: {
  server: Server;
  address: string;
  tls: TlsFiles | TlsWatch;
  trustDomain: string;
  log: Logger;
}): Promise<Listener> {
  const { host, port } = splitAddress(options.address);
  const injector = options.server.createConnectionInjector(ServerCredentials.createInsecure());
  const workloads = new Map<string, string | null>();
  const watch = 'certFile' in options.tls ? watchTls(options.tls, { log: options.log }) : options.tls;
  const listener = tls.createServer({
    ...contextOf(watch.current()),
    ALPNProtocols: ['h2'],
    requestCert: true,
    rejectUnauthorized: false,
    handshakeTimeout: limits.handshakeTimeoutMs,
  });
  listener.maxConnections = limits.connectionsMax;
  listener.on('secureConnection', (socket) => {
    const peer = `${socket.remoteAddress}:${socket.remotePort}`;
    workloads.set(peer, identify(socket, options.trustDomain));
    socket.once('close', () => workloads.delete(peer));
    socket.on('error', (error) => options.log.debug({ err: error, peer }, 'connection failed'));
    injector.injectConnection(socket);
  });
  listener.on('tlsClientError', (error) => options.log.debug({ err: error }, 'TLS handshake failed'));
  const unfollow = watch.follow((material) => listener.setSecureContext(contextOf(material)));
  await startListening(listener, { host, port, backlog: 512 }, options.log);
  const bound = listener.address() as net.AddressInfo;
  return {
    address: joinAddress({ host, port: bound.port }),
    workloadAt: (peer) => workloads.get(peer) ?? null,
    connections: () => workloads.size,
    close() {
      unfollow();
      if (watch !== options.tls) watch.stop();
      return new Promise((resolve) => listener.close(() => resolve()));
    },
  };
}

function identify(socket: tls.TLSSocket, trustDomain: string): string | null {
  if (!socket.authorized) return null;
  const certificate = socket.getPeerX509Certificate();
  return certificate ? workloadOf(certificate, trustDomain) : null;
}

/**
 * Without tickets no client resumes a session, so each connection sends its certificate and is verified against the
 * current authorities and time.
 */
function contextOf({ cert, key, ca }: TlsMaterial): tls.SecureContextOptions {
  return { cert, key, ca, minVersion: 'TLSv1.2', secureOptions: constants.SSL_OP_NO_TICKET };
}
