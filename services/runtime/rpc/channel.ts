import { type ChannelCredentials, type ChannelOptions, credentials, Client as GrpcClient } from '@grpc/grpc-js';
import { workloadOf } from '../credentials/spiffe.ts';
import type { TlsMaterial, TlsWatch } from '../credentials/tls-files.ts';

/** A channel with the certificates of its start, and the number of its calls. */
export interface Generation {
  readonly channel: GrpcClient;
  calls: number;
}

/** The channel of a client, opened again whenever its certificates change. */
export interface Channels {
  /** Returns the channel for a call that begins now. The caller must release it with `leave`. */
  enter(): Generation;
  leave(generation: Generation): void;
  /** The number of open channels: the current one, and those with older calls in progress. */
  open(): number;
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

/**
 * The certificates of a gRPC channel are fixed, so new ones need a new channel. Calls move to it once it is connected,
 * or after three seconds, since servers may refuse the old certificates soon. Calls in progress end on the old one,
 * which is closed after the last of them.
 */
export function openChannels({ target, tls, expectWorkload, trustDomain, options }: ChannelTarget): Channels {
  const make = (material: TlsMaterial): Generation => ({
    channel: new GrpcClient(target, channelCredentials(material, expectWorkload, trustDomain), options),
    calls: 0,
  });
  let current = make(tls.current());
  let coming: Generation | null = null;
  const all = new Set([current]);
  const drop = (generation: Generation) => {
    all.delete(generation);
    generation.channel.close();
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
