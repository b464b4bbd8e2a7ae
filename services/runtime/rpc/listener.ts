import { constants } from 'node:crypto';
import type net from 'node:net';
import tls from 'node:tls';
import type { Server } from '@grpc/grpc-js';
import { joinAddress, splitAddress } from '../config/address.ts';
import { workloadOf } from '../credentials/spiffe.ts';
import { type TlsFiles, type TlsMaterial, type TlsWatch, watchTls } from '../credentials/tls-files.ts';
import { startListening } from '../telemetry/listening.ts';
import type { Logger } from '../telemetry/log.ts';
import { addressOf, Connections } from './connections.ts';
import { connectionInjector } from './http2-server.ts';
import { serverLimits } from './server-limits.ts';

export interface Listener {
  /** host:port that the server listens on. */
  readonly address: string;
  /** Casbin subject of the workload of a connection, by `getPeer()`; null when the connection has ended. */
  workloadAt(peer: string): string | null;
  /** Accepts no new connections; open ones stay. Resolves when the last of them has ended. */
  close(): Promise<void>;
}

/**
 * Terminates TLS itself and passes the connections to gRPC. So handshakes and connections have limits, certificates
 * reload without a restart, and the workload is determined once per connection, not once per call. A connection without
 * a valid certificate of a workload ends with its handshake. New certificates apply to new connections; open ones stay
 * until the server closes them for their age.
 */
export async function listen(options: {
  server: Server;
  address: string;
  tls: TlsFiles | TlsWatch;
  trustDomain: string;
  /** Whether a path is of a method of the contracts. */
  isOfContract: (path: string) => boolean;
  log: Logger;
}): Promise<Listener> {
  const { host, port } = splitAddress(options.address);
  const connections = new Connections();
  const inject = connectionInjector(options.server, connections, options.isOfContract);
  const watch = 'certFile' in options.tls ? watchTls(options.tls, { log: options.log }) : options.tls;
  const listener = tls.createServer({
    ...contextOf(watch.current()),
    ALPNProtocols: ['h2'],
    requestCert: true,
    // `identify` does that: after the alert that node would send, node's own HTTP/2 clients wait for ever.
    rejectUnauthorized: false,
    handshakeTimeout: serverLimits.handshakeMs,
  });
  listener.maxConnections = serverLimits.connectionsMax + serverLimits.handshakesMax;
  listener.prependListener('connection', (socket: net.Socket) => connections.handshake(socket));
  listener.on('secureConnection', (socket) => {
    const peer = addressOf(socket);
    socket.on('error', (error) => options.log.debug({ err: error, peer }, 'connection failed'));
    connections.handshakeEnded(peer);
    const workload = identify(socket, options.trustDomain);
    const opened = workload === null ? null : connections.open(socket, workload);
    if (!opened) {
      options.log.debug({ peer, workload }, 'connection refused');
      socket.destroy();
    } else if (opened.pauseMs === 0) inject(socket);
    else setTimeout(() => socket.destroyed || inject(socket), opened.pauseMs).unref();
  });
  listener.on('tlsClientError', (error, socket) => {
    options.log.debug({ err: error }, 'TLS handshake failed');
    socket.destroy();
  });
  const unfollow = watch.follow((material) => listener.setSecureContext(contextOf(material)));
  await startListening(listener, { host, port, backlog: 512 }, options.log);
  const bound = listener.address() as net.AddressInfo;
  return {
    address: joinAddress({ host, port: bound.port }),
    workloadAt: (peer) => connections.at(peer)?.peer.workload ?? null,
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
