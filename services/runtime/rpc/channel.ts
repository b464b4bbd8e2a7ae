import { type ChannelCredentials, type ChannelOptions, credentials, Client as GrpcClient } from '@grpc/grpc-js';
import { workloadOf } from '../credentials/spiffe.ts';
import type { TlsMaterial, TlsWatch } from '../credentials/tls-files.ts';

/** A channel with the certificates of one moment, and how many calls are on it. */
export interface Generation {
  readonly channel: GrpcClient;
  calls: number;
}

/** The channel of a client, made anew whenever its certificates change. */
export interface Channels {
  /** The channel for a call that begins now. Every call that takes one gives it back by `leave`. */
  enter(): Generation;
  leave(generation: Generation): void;
  /** How many channels are open: one, and those that old calls are still on. */
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

/** How long a new channel may try to connect while calls go on over the old one. */
const warmUpMs = 3_000;

/**
 * Certificates of a gRPC channel are fixed, so new ones mean a new channel. Calls move to it once it is
 * connected, or after three seconds, since the old certificates may be refused soon; calls in progress end on
 * the old one, which is closed behind the last of them.
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
    const overtaken = coming;
    coming = next;
    if (overtaken) leaveBehind(overtaken);
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

/** The server proves who it is by its SPIFFE id, whatever name it is reached under. */
function channelCredentials(tls: TlsMaterial, expectWorkload: string, trustDomain: string): ChannelCredentials {
  return credentials.createSsl(tls.ca, tls.key, tls.cert, {
    checkServerIdentity(_host, certificate) {
      const workload = workloadOf(certificate, trustDomain);
      if (workload === expectWorkload) return undefined;
      return new Error(`expected ${expectWorkload} on the other end, found ${workload ?? 'no workload'}`);
    },
  });
}
