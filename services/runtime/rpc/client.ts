import type { MethodContract, ServiceContract } from '@armature/proto/contract.ts';
import { addressesMax, readPeerAddress } from '../config/address.ts';
import type { Interceptor } from '../context/call-context.ts';
import { type TlsFiles, type TlsWatch, watchTls } from '../credentials/tls-files.ts';
import { RpcError } from '../errors/errors.ts';
import type { CallOptions } from './call-options.ts';
import { openChannels } from './channel.ts';
import { bindStream, bindUnary, type Caller, type TokenFunction, type TokenSource } from './client-call.ts';
import { clientClosed } from './client-errors.ts';
import { targetOf } from './target.ts';

export type { CallOptions } from './call-options.ts';
export type { TokenFunction, TokenSource } from './client-call.ts';

type Builtin = Date | Uint8Array | string | number | bigint | boolean | undefined;
/** A message whose optional fields may be missing; ts-proto fills in the zero values. */
export type Init<T> = T extends Builtin
  ? T
  : T extends (infer U)[]
    ? Init<U>[]
    : T extends { $case: string }
      ? { [K in keyof Omit<T, '$case'>]?: Init<T[K]> | undefined } & { $case: T['$case'] }
      : { [K in keyof T]?: Init<T[K]> | undefined };

/** One promise method per unary RPC, one async iterable per stream. */
export type Client<C extends ServiceContract> = {
  [M in keyof C['methods']]: C['methods'][M] extends MethodContract<infer Request, infer Response, infer Kind>
    ? Kind extends 'unary'
      ? (message: Init<Request>, options?: CallOptions) => Promise<Response>
      : (message: Init<Request>, options?: CallOptions) => AsyncIterable<Response>
    : never;
} & {
  /**
   * Ends the calls in progress with CANCELLED, and the connections within a second. A call that is made later is
   * refused with CANCELLED. Closing twice does nothing.
   */
  close(): void;
};

export interface ClientOptions {
  /**
   * host:port of every instance; calls are distributed round robin. Host names, IPv4 addresses and IPv6 addresses in
   * brackets may be mixed. A host name stands for all addresses that it resolves to.
   */
  addresses: readonly string[];
  /** Files are read every two seconds, and new certificates are used without a failed call. */
  tls: TlsFiles | TlsWatch;
  /** The workload that must serve the connection, such as "service:orders". */
  expectWorkload: string;
  trustDomain?: string | undefined;
  /** The token of every call that has none of its own. The time that it takes counts against the deadline. */
  token?: TokenFunction | TokenSource | undefined;
  /** Additional interceptors, outermost first; services add their metrics here. */
  interceptors?: ((method: MethodContract) => readonly Interceptor[]) | undefined;
}

/**
 * Makes a client for one service. Every call has a deadline. Retries happen only where the contract declares
 * idempotency, by the generated service config. A keyed request without a request id gets one. Whatever the arguments
 * of a call are, it ends with a response or an RpcError. Throws an RpcError when the options cannot be used.
 */
export function createClient<C extends ServiceContract>(contract: C, options: ClientOptions): Client<C> {
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
function openOptions(contract: ServiceContract, { addresses, tls, expectWorkload, trustDomain }: ClientOptions) {
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
