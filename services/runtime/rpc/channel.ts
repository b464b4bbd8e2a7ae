import type { Socket } from 'node:net';
import {
  type ChannelCredentials,
  type ChannelOptions,
  credentials,
  type experimental,
  Client as GrpcClient,
} from '@grpc/grpc-js';
import { workloadOf } from '../credentials/spiffe.ts';
import type { TlsMaterial, TlsWatch } from '../credentials/tls-files.ts';
import { endConnectionsWith } from './target.ts';

/** A channel with the certificates of its start, and the number of its calls. */
export interface Generation {
  readonly channel: GrpcClient;
  calls: number;
  /** Ends the connections of the channel, also those that are being opened. */
  readonly ending: AbortController;
}

/** The channel of a client, opened again whenever its certificates change. */
export interface Channels {
  /** Returns the channel for a call that begins now. The caller must release it with `leave`. */
  enter(): Generation;
  leave(generation: Generation): void;
  /** The number of open channels: the current one, and those with older calls in progress. */
  open(): number;
  /** Ends every connection within a second, whatever the server does. The caller has ended all calls. */
  close(): void;
}

export interface ChannelTarget {
  target: string;
  tls: TlsWatch;
  expectWorkload: string;
  trustDomain: string;
  options: ChannelOptions;
}

/** How long a new channel may try to connect while calls still use the old one. */
const warmUpMs = 3_000;

/** A closed channel says goodbye to its server before its connections are ended. */
const goodbyeMs = 200;

/** grpc-js sets no limit, and a server that vanishes during the handshake would never be connected to again. */
const handshakeMs = 10_000;

/**
 * The certificates of a gRPC channel are fixed, so new ones need a new channel. Calls move to it once it is connected,
 * or after three seconds, since servers may refuse the old certificates soon. Calls in progress end on the old one,
 * which is closed after the last of them.
 */
export function openChannels({ target, tls, expectWorkload, trustDomain, options }: ChannelTarget): Channels {
  const make = (material: TlsMaterial): Generation => {
    const ending = new AbortController();
    const secure = limitHandshakes(channelCredentials(material, expectWorkload, trustDomain));
    const channel = new GrpcClient(target, secure, { ...options, ...endConnectionsWith(ending.signal) });
    return { channel, calls: 0, ending };
  };
  let current = make(tls.current());
  let coming: Generation | null = null;
  const all = new Set([current]);
  const drop = (generation: Generation) => {
    all.delete(generation);
    generation.channel.close();
    setTimeout(() => generation.ending.abort(), goodbyeMs).unref();
  };
  const leaveBehind = (generation: Generation) => {
    if (generation !== current && generation !== coming && generation.calls === 0 && all.has(generation))
      drop(generation);
  };
  const unfollow = tls.follow((material) => {
    const next = make(material);
    all.add(next);
    const replaced = coming;
    coming = next;
    if (replaced) leaveBehind(replaced);
    next.channel.waitForReady(Date.now() + warmUpMs, () => {
      if (coming !== next) return;
      const before = current;
      current = next;
      coming = null;
      leaveBehind(before);
    });
  });
  return {
    enter() {
      current.calls += 1;
      return current;
    },
    leave(generation) {
      generation.calls -= 1;
      leaveBehind(generation);
    },
    open: () => all.size,
    close() {
      unfollow();
      coming = null;
      for (const generation of all) drop(generation);
    },
  };
}

/** The server is identified by its SPIFFE id, whatever host name it has. */
function channelCredentials(tls: TlsMaterial, expectWorkload: string, trustDomain: string): ChannelCredentials {
  return credentials.createSsl(tls.ca, tls.key, tls.cert, {
    checkServerIdentity(_host, certificate) {
      const workload = workloadOf(certificate, trustDomain);
      if (workload === expectWorkload) return undefined;
      return new Error(`expected ${expectWorkload} on the other end, found ${workload ?? 'no workload'}`);
    },
  });
}

/** Limits how long a server may take for the TLS handshake and for its first HTTP/2 frame. */
function limitHandshakes(secure: ChannelCredentials): ChannelCredentials {
  const create = secure._createSecureConnector.bind(secure);
  secure._createSecureConnector = (...parameters) => {
    const connector = create(...parameters);
    const connect = connector.connect.bind(connector);
    connector.connect = (socket) => connectInTime(connect, socket);
    return connector;
  };
  return secure;
}

type Connect = experimental.SecureConnector['connect'];

/** grpc-js destroys the socket when this rejects. The timers keep no process alive; the socket does. */
function connectInTime(connect: Connect, socket: Socket): ReturnType<Connect> {
  return new Promise((resolve, reject) => {
    const late = () => reject(new Error(`the server has not finished the TLS handshake within ${handshakeMs} ms`));
    const timer = setTimeout(late, handshakeMs).unref();
    // An aborted socket emits an error; the TLS socket on top of it emits its own.
    socket.on('error', reject);
    socket.once('close', () => reject(new Error('the connection was closed during the TLS handshake')));
    const secured = connect(socket).then((result) => {
      const before = socket.bytesRead;
      const silent = () => socket.bytesRead === before && socket.destroy();
      setTimeout(silent, handshakeMs).unref();
      return result;
    });
    secured.finally(() => clearTimeout(timer)).then(resolve, reject);
  });
}
