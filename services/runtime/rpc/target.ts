import { isIPv4, isIPv6 } from 'node:net';
import { type ChannelOptions, experimental } from '@grpc/grpc-js';
import { type Address, joinAddress, splitAddress } from '../config/address.ts';

type Listener = experimental.ResolverListener;
type Endpoints = experimental.StatusOr<experimental.Endpoint[]>;

const scheme = 'armature';

/**
 * Channel option with an AbortSignal that ends every connection of the channel, also those that are being opened, which
 * grpc-js leaves open when the channel is closed. With this prefix, grpc-js does not compare or copy its value.
 */
const endOption = `${experimental.SUBCHANNEL_ARGS_EXCLUDE_KEY_PREFIX}.armature_end`;
export const endConnectionsWith = (signal: AbortSignal): ChannelOptions => ({ [endOption]: signal });

/**
 * The target of a channel to all addresses: host names, IPv4 and IPv6 addresses, mixed. grpc-js itself takes one host
 * name, or several addresses of one family.
 */
export function targetOf(addresses: readonly Address[]): string {
  experimental.registerResolver(scheme, JoinedResolver);
  return `${scheme}:${[...new Set(addresses.map(joinAddress))].join(',')}`;
}

const addressesOf = (target: experimental.GrpcUri): Address[] => target.path.split(',').map(splitAddress);

/** The target for which grpc-js has a resolver of its own. */
function ownTarget(address: Address): experimental.GrpcUri {
  const { host } = address;
  return { scheme: isIPv4(host) ? 'ipv4' : isIPv6(host) ? 'ipv6' : 'dns', path: joinAddress(address) };
}

/** Joins what the resolvers of grpc-js find for each address. A class, because grpc-js constructs it. */
class JoinedResolver implements experimental.Resolver {
  readonly #parts: { resolver: experimental.Resolver; found: Endpoints | null }[];

  constructor(target: experimental.GrpcUri, listener: Listener, options: ChannelOptions) {
    const signal: AbortSignal | undefined = options[endOption];
    this.#parts = addressesOf(target).map((address) => {
      const part = { resolver: null as unknown as experimental.Resolver, found: null as Endpoints | null };
      const found: Listener = (endpoints, attributes, serviceConfig, note) => {
        // A name that cannot be resolved for a while keeps its last addresses.
        if (endpoints.ok || !part.found?.ok) part.found = endpoints;
        return listener(this.#joined(endpoints, signal), attributes, serviceConfig, note);
      };
      part.resolver = experimental.createResolver(ownTarget(address), found, options);
      return part;
    });
  }

  /** All endpoints that are known, each once; `latest`, which is an error, when none is. */
  #joined(latest: Endpoints, signal: AbortSignal | undefined): Endpoints {
    const all = new Map<string, experimental.Endpoint>();
    for (const { found } of this.#parts) {
      for (const { addresses } of found?.ok ? found.value : []) {
        // grpc-js passes an address to net.connect, which takes a signal too.
        const endpoint = { addresses: addresses.map((address) => ({ ...address, signal })) };
        all.set(experimental.endpointToString(endpoint), endpoint);
      }
    }
    return all.size > 0 || latest.ok ? { ok: true, value: [...all.values()] } : latest;
  }

  updateResolution(): void {
    for (const { resolver } of this.#parts) resolver.updateResolution();
  }

  destroy(): void {
    for (const part of this.#parts) {
      part.resolver.destroy();
      part.found = null;
    }
  }

  static getDefaultAuthority(target: experimental.GrpcUri): string {
    return joinAddress(addressesOf(target)[0]!);
  }
}
