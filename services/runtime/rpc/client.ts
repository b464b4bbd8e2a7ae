import type { MethodContract, ServiceContract } from '@armature/proto/contract.ts';
import {
  type ClientReadableStream,
  type CallOptions as GrpcCallOptions,
  Metadata,
  type ServiceError,
  status,
} from '@grpc/grpc-js';
import { v7 as uuidv7 } from 'uuid';
import {
  type CallContext,
  compose,
  DeadlineError,
  type Handler,
  type Interceptor,
  openCall,
  silentLog,
} from '../context/call-context.ts';
import { childTrace, traceparent } from '../context/trace.ts';
import { type TlsFiles, type TlsWatch, watchTls } from '../credentials/tls-files.ts';
import { inTransaction } from '../db/open-transaction.ts';
import { type Code, RpcError } from '../errors/errors.ts';
import { decodeStatus } from '../errors/status.ts';
import { syncPoint } from '../sync/sync-point.ts';
import { type Channels, openChannels } from './channel.ts';

type Builtin = Date | Uint8Array | string | number | bigint | boolean | undefined;
/** A message whose optional fields may be missing; ts-proto fills in the zero values. */
export type Init<T> = T extends Builtin
  ? T
  : T extends (infer U)[]
    ? Init<U>[]
    : T extends { $case: string }
      ? { [K in keyof Omit<T, '$case'>]?: Init<T[K]> } & { $case: T['$case'] }
      : { [K in keyof T]?: Init<T[K]> };

export interface CallOptions {
  /**
   * The call on whose behalf this one is made: its deadline and cancellation cascade, and its user's token is
   * forwarded.
   */
  parent?: CallContext;
  /** Milliseconds; the contract's default when left out. */
  timeoutMs?: number;
  /** An access token of the user, when there is no parent that has one. */
  token?: string;
  signal?: AbortSignal;
}

/** One promise method per unary RPC, one async iterable per stream. */
export type Client<C extends ServiceContract> = {
  [M in keyof C['methods']]: C['methods'][M] extends MethodContract<infer Request, infer Response, infer Kind>
    ? Kind extends 'unary'
      ? (message: Init<Request>, options?: CallOptions) => Promise<Response>
      : (message: Init<Request>, options?: CallOptions) => AsyncIterable<Response>
    : never;
} & {
  /** Closes the connections. */
  close(): void;
};

export interface ClientOptions {
  /** host:port of every instance; calls are distributed round robin. */
  addresses: readonly string[];
  /** Files are read every two seconds, and new certificates are used without a failed call. */
  tls: TlsFiles | TlsWatch;
  /** The workload that must serve the connection, such as "service:orders". */
  expectWorkload: string;
  trustDomain?: string;
  /** The token of every call that has none of its own. */
  token?: () => string | undefined;
  /** Additional interceptors, outermost first; services add their metrics here. */
  interceptors?: (method: MethodContract) => readonly Interceptor[];
}

/**
 * Makes a client for one service. Every call has a deadline. Retries happen only where the contract declares
 * idempotency, by the generated service config. A keyed request without a request id gets one.
 */
export function createClient<C extends ServiceContract>(contract: C, options: ClientOptions): Client<C> {
  const watch = 'certFile' in options.tls ? watchTls(options.tls) : options.tls;
  const channels = openChannels({
    target: targetOf(options.addresses),
    tls: watch,
    expectWorkload: options.expectWorkload,
    trustDomain: options.trustDomain ?? 'armature.local',
    options: { ...channelOptions, 'grpc.service_config': JSON.stringify(contract.serviceConfig) },
  });
  const methods: Record<string, unknown> = {
    close() {
      channels.close();
      if (watch !== options.tls) watch.stop();
    },
  };
  for (const [localName, method] of Object.entries(contract.methods)) {
    const chain = options.interceptors?.(method) ?? [];
    const bind = method.kind === 'unary' ? bindUnary : bindStream;
    methods[localName] = bind(channels, method, chain, options);
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

/** Several addresses only work as IP literals; round robin gets those. */
function targetOf(addresses: readonly string[]): string {
  const [first] = addresses;
  if (!first) throw new Error('a client needs at least one address');
  if (addresses.length === 1 && !/^\d+\.\d+\.\d+\.\d+:/.test(first)) return `dns:///${first}`;
  return `ipv4:${addresses.join(',')}`;
}

function open(method: MethodContract, message: unknown, options: ClientOptions, callOptions: CallOptions): CallContext {
  const { parent, timeoutMs } = callOptions;
  if (parent && inTransaction(parent))
    throw new Error(`${method.path} was called inside a transaction of ${parent.name}`);
  const timeout = Math.min(timeoutMs ?? method.deadline.defaultMs, method.deadline.maxMs);
  const call: CallContext = openCall({
    kind: 'client',
    name: method.path,
    method,
    message: withRequestId(method, method.request.fromPartial(message ?? {})),
    deadline: Math.min(Date.now() + timeout, parent?.deadline ?? Number.POSITIVE_INFINITY),
    trace: childTrace(parent && traceparent(parent.trace)),
    log: parent?.log ?? silentLog,
    caller: parent?.caller,
    parent,
  });
  const token = callOptions.token ?? parent?.caller.user?.token ?? (parent ? undefined : options.token?.());
  if (token) tokens.set(call, token);
  return call;
}

const tokens = new WeakMap<CallContext, string>();

function withRequestId(method: MethodContract, message: Record<string, unknown>): Record<string, unknown> {
  if (method.idempotency && method.idempotency.read(message) === '') {
    message[method.idempotency.field.replace(/_(\w)/g, (_, character: string) => character.toUpperCase())] = uuidv7();
  }
  return message;
}

function headers(call: CallContext): Metadata {
  const metadata = new Metadata();
  metadata.set('traceparent', traceparent(call.trace));
  const token = tokens.get(call);
  if (token) metadata.set('authorization', `Bearer ${token}`);
  return metadata;
}

const serialize = (bytes: Buffer): Buffer => bytes;
const encode = (method: MethodContract, message: unknown): Buffer =>
  Buffer.from(method.request.encode(message).finish());

function bindUnary(channels: Channels, method: MethodContract, chain: readonly Interceptor[], options: ClientOptions) {
  const send: Handler = (call) =>
    new Promise((resolve, reject) => {
      const grpcOptions: GrpcCallOptions = { deadline: call.deadline };
      // Everything that may throw comes before the channel is entered, so that every call that enters also leaves.
      const [bytes, metadata] = [encode(method, call.message), headers(call)];
      const generation = channels.enter();
      const grpcCall = generation.channel.makeUnaryRequest(
        method.path,
        serialize,
        (bytes) => method.response.decode(bytes),
        bytes,
        metadata,
        grpcOptions,
        (error, reply) => {
          channels.leave(generation);
          if (error) reject(toRpcError(error, method));
          else resolve(reply);
        },
      );
      cancelWith(grpcCall, call);
    });
  const handler = compose(chain, send);
  return async (message: unknown, callOptions: CallOptions = {}) => {
    const call = open(method, message, options, callOptions);
    const unlink = linkSignal(call, callOptions);
    try {
      const atSyncPoint = syncPoint(call);
      if (atSyncPoint) await atSyncPoint(`call ${method.path}`);
      return await handler(call);
    } finally {
      unlink();
      call.close();
    }
  };
}

function bindStream(channels: Channels, method: MethodContract, chain: readonly Interceptor[], options: ClientOptions) {
  const send: Handler = async (call) => {
    const [bytes, metadata] = [encode(method, call.message), headers(call)];
    const generation = channels.enter();
    const stream = generation.channel.makeServerStreamRequest(
      method.path,
      serialize,
      (bytes) => method.response.decode(bytes),
      bytes,
      metadata,
      { deadline: call.deadline },
    );
    cancelWith(stream, call);
    return messages(stream, method, () => channels.leave(generation));
  };
  const handler = compose(chain, send);
  return async function* (message: unknown, callOptions: CallOptions = {}) {
    const call = open(method, message, options, callOptions);
    const unlink = linkSignal(call, callOptions);
    try {
      yield* (await handler(call)) as AsyncIterable<unknown>;
    } finally {
      unlink();
      call.close();
    }
  };
}

/** Reads with backpressure; leaving the loop early cancels the call. */
async function* messages(
  stream: ClientReadableStream<unknown>,
  method: MethodContract,
  ended: () => void,
): AsyncGenerator<unknown> {
  try {
    yield* stream;
  } catch (error) {
    throw toRpcError(error as ServiceError, method);
  } finally {
    stream.cancel();
    ended();
  }
}

/** gRPC enforces the deadline too: to cancel first would turn DEADLINE_EXCEEDED into CANCELLED. */
function cancelWith(grpcCall: { cancel(): void }, call: CallContext): void {
  const cancel = () => {
    if (!(call.signal.reason instanceof DeadlineError)) grpcCall.cancel();
  };
  if (call.signal.aborted) cancel();
  else call.signal.addEventListener('abort', cancel, { once: true });
}

function linkSignal(call: CallContext, { signal }: CallOptions): () => void {
  if (!signal) return () => {};
  const abort = () => call.cancel(signal.reason instanceof Error ? signal.reason : new Error('aborted'));
  if (signal.aborted) abort();
  else signal.addEventListener('abort', abort, { once: true });
  return () => signal.removeEventListener('abort', abort);
}

function toRpcError(error: ServiceError, method: MethodContract): RpcError {
  if (error instanceof RpcError) return error;
  const details = error.metadata?.get('grpc-status-details-bin')[0];
  if (Buffer.isBuffer(details)) {
    try {
      return decodeStatus(details, method.path);
    } catch {
      // The status of a server outside the mesh; it has only a code and a message.
    }
  }
  const code = (status[error.code] ?? 'UNKNOWN') as Code;
  return new RpcError(code, '', error.details ?? String(error.message), { from: method.path });
}
