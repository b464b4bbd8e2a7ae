import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { OldestFirst } from './oldest-first.ts';
import { serverLimits } from './server-limits.ts';

/** One process that connects, as far as the server can tell: all connections with the same certificate. */
export interface Peer {
  /** Casbin subject of the workload that the certificate names. */
  readonly workload: string;
  readonly connections: Set<Connection>;
  /** Streams whose request has not arrived. */
  readonly receiving: OldestFirst<{ end(): void }>;
  receivingBytes: number;
  /** Streams outside the contracts. */
  standardStreams: number;
  /** New connections wait until then, on the clock of `performance.now()`: an earlier one flooded. */
  pausedUntil: number;
  floods: number;
}

/** An open connection with a valid certificate. */
export interface Connection {
  readonly peer: Peer;
  readonly socket: TLSSocket;
  /** Calls in progress. */
  streams: number;
  /** When its last call ended, or it was opened. */
  idleSince: number;
  /** Resets that the client has left, at `resetsSince`; a second adds `resetsPerSecond` up to `resetsBurst`. */
  resetsLeft: number;
  resetsSince: number;
}

/** How long a peer without a connection is remembered: for its floods. */
const rememberedMs = 60_000;

/** The handshakes and connections of a server, with their limits. */
export class Connections {
  readonly #handshakes = new OldestFirst<Socket>(serverLimits.handshakesMax);
  readonly #handshakeAt = new Map<string, () => void>();
  readonly #peers = new Map<string, Peer>();
  readonly #byAddress = new Map<string, Connection>();

  get size(): number {
    return this.#byAddress.size;
  }

  /** Takes a TCP connection whose TLS handshake begins. It is ended when the handshake does not end within its time. */
  handshake(socket: Socket): void {
    const address = addressOf(socket);
    const forget = () => {
      clearTimeout(timer);
      this.#handshakes.delete(socket);
      this.#handshakeAt.delete(address);
    };
    const timer = setTimeout(() => socket.destroy(), serverLimits.handshakeMs).unref();
    socket.once('close', forget);
    this.#handshakeAt.set(address, forget);
    this.#handshakes.add(socket)?.destroy();
  }

  /** The TLS handshake of the connection from this address has ended, well or badly. */
  handshakeEnded(address: string): void {
    this.#handshakeAt.get(address)?.();
  }

  /**
   * Takes a connection whose certificate is valid. Returns after how many milliseconds it may be served; null when there
   * are too many already.
   */
  open(socket: TLSSocket, workload: string): { connection: Connection; pauseMs: number } | null {
    if (this.size >= serverLimits.connectionsMax) return null;
    const peer = this.#peer(socket.getPeerX509Certificate()!.fingerprint256, workload);
    const now = performance.now();
    const connection: Connection = {
      ...{ peer, socket, streams: 0, idleSince: now },
      ...{ resetsLeft: serverLimits.resetsBurst, resetsSince: now },
    };
    if (peer.connections.size >= serverLimits.connectionsPerCertificateMax) {
      const idle = idlest(peer);
      if (!idle) return null;
      idle.socket.destroy();
    }
    peer.connections.add(connection);
    const address = addressOf(socket);
    this.#byAddress.set(address, connection);
    socket.once('close', () => {
      peer.connections.delete(connection);
      this.#byAddress.delete(address);
    });
    return { connection, pauseMs: Math.max(peer.pausedUntil - now, 0) };
  }

  /** The connection whose other end has this address, as "address:port". */
  at(address: string): Connection | undefined {
    return this.#byAddress.get(address);
  }

  /**
   * Counts a stream that the client has reset. Returns whether there were too many: the connection is to be closed, and
   * the next ones with its certificate wait, each time twice as long.
   */
  reset(connection: Connection): boolean {
    const { resetsBurst, resetsPerSecond, floodPauseMs, floodPauseMaxMs } = serverLimits;
    const now = performance.now();
    const added = ((now - connection.resetsSince) / 1_000) * resetsPerSecond;
    connection.resetsLeft = Math.min(connection.resetsLeft + added, resetsBurst) - 1;
    connection.resetsSince = now;
    if (connection.resetsLeft >= 0) return false;
    const { peer } = connection;
    peer.pausedUntil = now + Math.min(floodPauseMs * 2 ** peer.floods, floodPauseMaxMs);
    peer.floods += 1;
    return true;
  }

  #peer(fingerprint: string, workload: string): Peer {
    const known = this.#peers.get(fingerprint);
    if (known) return known;
    this.#forgetPeers();
    const { receivingPerCertificateMax } = serverLimits;
    const peer: Peer = {
      workload,
      connections: new Set(),
      receiving: new OldestFirst(receivingPerCertificateMax, 1_000),
      receivingBytes: 0,
      standardStreams: 0,
      pausedUntil: 0,
      floods: 0,
    };
    this.#peers.set(fingerprint, peer);
    return peer;
  }

  #forgetPeers(): void {
    const before = performance.now() - rememberedMs;
    for (const [fingerprint, peer] of this.#peers) {
      if (peer.connections.size === 0 && peer.pausedUntil < before) this.#peers.delete(fingerprint);
    }
  }
}

/** The connection of a peer that has had no call for longest; undefined when all have calls. */
function idlest({ connections }: Peer): Connection | undefined {
  let found: Connection | undefined;
  for (const one of connections) {
    if (one.streams === 0 && (!found || one.idleSince < found.idleSince)) found = one;
  }
  return found;
}

/** The other end of a connection, in the form of `getPeer()` of grpc-js. */
export const addressOf = ({ remoteAddress, remotePort }: Pick<Socket, 'remoteAddress' | 'remotePort'>): string =>
  `${remoteAddress}:${remotePort}`;
