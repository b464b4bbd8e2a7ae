import type { ServiceContract } from '@armature/proto/contract.ts';
import { addressesMax, readPeerAddress } from '../config/address.ts';
import { type TlsFiles, type TlsWatch, watchTls } from '../credentials/tls-files.ts';
import { RpcError } from '../errors/errors.ts';
import { openChannels } from './channel.ts';
import { bindStream, bindUnary, type Caller } from './client-call.ts';
import { clientClosed } from './client-errors.ts';
import type { Client, ClientOptions } from './client-types.ts';
import { targetOf } from './target.ts';

export { equalSecrets } from '../credentials/equal-secrets.ts';
export { workloadOf } from '../credentials/spiffe.ts';
export type { CallOptions, Client, ClientOptions, Init, TokenFunction, TokenSource } from './client-types.ts';

/** The options of a service's own clients, which share its certificates. */
interface SharedClientOptions extends Omit<ClientOptions, 'tls'> {
  tls: TlsFiles | TlsWatch;
}

/**
 * Makes a client for one service. Every call has a deadline. Retries happen only where the contract declares
 * idempotency, by the generated service config. A keyed request without a request id gets one. Whatever the arguments
 * of a call are, it ends with a response or an RpcError. Throws an RpcError when the options cannot be used.
 */
export function createClient<C extends ServiceContract>(contract: C, options: SharedClientOptions): Client<C> {
  const { addresses, watch, ...how } = openOptions(contract, options);
  const channels = openChannels({
    target: targetOf(addresses),
    tls: watch,
    ...how,
    options: { ...channelOptions, 'grpc.service_config': JSON.stringify(contract.serviceConfig) },
  });
  const caller: Caller = { channels, token: options.token, calls: new Set(), closed: false };
  const methods: Record<string, unknown> = {
    close() {
      if (caller.closed) return;
      caller.closed = true;
      for (const call of caller.calls) call.cancel(clientClosed({ path: call.name }));
      channels.close();
      if (watch !== options.tls) watch.stop();
    },
  };
  for (const [localName, method] of Object.entries(contract.methods)) {
    const chain = options.interceptors?.(method) ?? [];
    const bind = method.kind === 'unary' ? bindUnary : bindStream;
    methods[localName] = bind(caller, method, chain);
  }
  return methods as Client<C>;
}

const channelOptions = {
  'grpc.service_config_disable_resolution': 1,
  // TLS needs a host name, not an address; the server is identified by its SPIFFE id.
  'grpc.ssl_target_name_override': 'localhost',
  // Services connect directly; grpc-js would send even loopback through a proxy of the environment.
  'grpc.enable_http_proxy': 0,
  // A silent peer is detected within 7.5 s, also between calls. TCP alone would need a quarter of an hour, and every
  // call meanwhile would wait for its deadline (grpc-node 2785).
  'grpc.keepalive_time_ms': 5_000,
  'grpc.keepalive_timeout_ms': 2_500,
  'grpc.keepalive_permit_without_calls': 1,
  'grpc.initial_reconnect_backoff_ms': 100,
  'grpc.max_reconnect_backoff_ms': 2_000,
  'grpc.max_receive_message_length': 4 * 1024 * 1024,
  'grpc.max_send_message_length': 4 * 1024 * 1024,
};

/** Checks the options and reads the certificates. Throws an RpcError that names the option. */
function openOptions(contract: ServiceContract, { addresses, tls, expectWorkload, trustDomain }: SharedClientOptions) {
  const refuse = (message: string, cause?: unknown) =>
    new RpcError('INVALID_ARGUMENT', '', `no client of ${contract.name} can be made: ${message}`, { cause });
  if (!Array.isArray(addresses) || addresses.length === 0) throw refuse('addresses must name at least one instance');
  if (addresses.length > addressesMax) {
    throw refuse(`addresses must name at most ${addressesMax} instances (got ${addresses.length})`);
  }
  const read = (text: unknown) => {
    try {
      return readPeerAddress(String(text));
    } catch (error) {
      throw refuse(`address ${JSON.stringify(text)} ${(error as Error).message}`);
    }
  };
  const open = () => {
    try {
      return 'certFile' in tls ? watchTls(tls) : tls;
    } catch (error) {
      throw refuse(`the files of tls cannot be used: ${(error as Error).message}`, error);
    }
  };
  return {
    addresses: addresses.map(read),
    expectWorkload,
    trustDomain: trustDomain ?? 'armature.local',
    watch: open(),
  };
}
