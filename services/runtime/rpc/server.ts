import type { MethodContract, ServiceContract } from '@armature/proto/contract.ts';
import {
  Metadata,
  type ServerDuplexStream,
  type ServerReadableStream,
  type ServiceDefinition,
  type StatusObject,
  type sendUnaryData,
  status,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js';
import { lacksOwnerCheck, recordDisclosure } from '../authz/authorization.ts';
import {
  type CallContext,
  compose,
  DeadlineError,
  type Handler,
  type Interceptor,
  openCall,
} from '../context/call-context.ts';
import { childTrace } from '../context/trace.ts';
import type { TlsFiles, TlsWatch } from '../credentials/tls-files.ts';
import { cancelled, deadlineExceeded, draining, messagesWrong, RpcError } from '../errors/errors.ts';
import { encodeStatus, safeText } from '../errors/status.ts';
import { storedResponseOf } from '../idempotency/key.ts';
import type { Logger } from '../telemetry/log.ts';
import { sleep } from '../time/sleep.ts';
import { limitedServer } from './http2-server.ts';
import { listen } from './listener.ts';

/** A service's implementation of a contract: one function per method, by local name. */
export type Implementation<C extends ServiceContract> = {
  [M in keyof C['methods']]: C['methods'][M] extends MethodContract<infer Request, infer Response, infer Kind>
    ? Kind extends 'unary'
      ? (message: Request, call: CallContext<Request>) => Promise<Response>
      : (message: Request, call: CallContext<Request>) => AsyncIterable<Response>
    : never;
};

export interface Registration<C extends ServiceContract = ServiceContract> {
  readonly contract: C;
  readonly implementation: Implementation<C>;
}

/** Pairs a contract with its implementation; the types must match. */
export function implement<C extends ServiceContract>(contract: C, implementation: Implementation<C>): Registration<C> {
  return { contract, implementation };
}

/** Time for the last responses to be sent, and for clients that stay connected without a call. */
const lingerMs = 500;

export interface RpcServerOptions {
  address: string;
  tls: TlsFiles | TlsWatch;
  trustDomain: string;
  registrations: readonly Registration[];
  /** Services outside the contracts: health, reflection, channelz. They do their own access checks. */
  standard?: readonly { definition: ServiceDefinition; implementation: UntypedServiceImplementation }[];
  /** The chain of one method, outermost first. */
  chain: (method: MethodContract) => readonly Interceptor[];
  log: Logger;
}

export interface RpcServer {
  readonly address: string;
  /** Casbin subject of a connection's workload. */
  workloadAt(peer: string): string | null;
  inFlight(): number;
  /**
   * Stops accepting connections and calls, lets calls in progress finish, and aborts the rest after `timeoutMs`.
   * Streams are ended at once: their clients resume elsewhere.
   */
  drain(timeoutMs: number): Promise<void>;
}

/** The only module that uses grpc-js's server: converts its calls to `CallContext` and back. */
export async function startServer(options: RpcServerOptions): Promise<RpcServer> {
  const server = limitedServer();
  const open = new Set<CallContext>();
  for (const { contract, implementation } of options.registrations) {
    const [definition, handlers] = bindContract(contract, implementation, options, open);
    server.addService(definition, handlers);
  }
  for (const { definition, implementation } of options.standard ?? []) server.addService(definition, implementation);
  const paths = new Set(options.registrations.flatMap(({ contract }) => pathsOf(contract)));
  const listener = await listen({ ...options, server, isOfContract: (path) => paths.has(path) });
  return {
    address: listener.address,
    workloadAt: listener.workloadAt,
    inFlight: () => open.size,
    async drain(timeoutMs) {
      const disconnected = listener.close();
      for (const call of open) if (call.method?.kind === 'server_stream') call.cancel(draining());
      // Tells clients to reconnect elsewhere. Its callback is ignored: node closes an HTTP/2 server's sessions itself,
      // and grpc-js 1.14 treats a session that is closing, with calls in progress, as ended.
      server.tryShutdown(() => {});
      const end = performance.now() + timeoutMs;
      while (open.size > 0 && performance.now() < end) await sleep(5);
      if (open.size > 0) options.log.warn({ calls: open.size }, 'calls cut at the end of the drain');
      else await Promise.race([disconnected, sleep(lingerMs)]);
      server.forceShutdown();
    },
  };
}

const pathsOf = ({ methods }: ServiceContract): string[] => Object.values(methods).map(({ path }) => path);

const passBytes = (bytes: Buffer): Buffer => bytes;

function bindContract(
  contract: ServiceContract,
  // biome-ignore lint/suspicious/noExplicitAny: methods of one service take different messages
  implementation: Readonly<Record<string, (message: any, call: CallContext) => unknown>>,
  options: RpcServerOptions,
  open: Set<CallContext>,
): [ServiceDefinition, UntypedServiceImplementation] {
  const definition: Record<string, ServiceDefinition[string]> = {};
  const handlers: UntypedServiceImplementation = {};
  for (const [localName, method] of Object.entries(contract.methods)) {
    const act = implementation[localName];
    if (!act) throw new Error(`${method.path} has no implementation`);
    definition[localName] = {
      path: method.path,
      // grpc-js calls the handler of a stream when its headers have arrived, that of a single message only after the
      // message: a call is refused before its message is read.
      requestStream: true,
      responseStream: method.kind === 'server_stream',
      // Bytes pass unchanged: decoding belongs in the chain, where its errors get a proper status, and a stored
      // response is sent byte for byte.
      requestSerialize: passBytes,
      requestDeserialize: passBytes,
      responseSerialize: passBytes,
      responseDeserialize: passBytes,
    };
    const chain = options.chain(method);
    const bind = method.kind === 'unary' ? bindUnary : bindStream;
    handlers[localName] = bind({ method, act, chain, domain: contract.domain, options, open });
  }
  return [definition, handlers];
}

interface Binding {
  method: MethodContract;
  // biome-ignore lint/suspicious/noExplicitAny: one method of a service whose types the contract names
  act: (message: any, call: CallContext) => unknown;
  chain: readonly Interceptor[];
  domain: string;
  options: RpcServerOptions;
  open: Set<CallContext>;
}

type AnyServerCall = ServerReadableStream<Buffer, Buffer> | ServerDuplexStream<Buffer, Buffer>;

function bindUnary({ method, act, chain, domain, options, open }: Binding) {
  const handler = compose(chain, async (call) => {
    const reply = await act(call.message, call);
    await recordDisclosure(call);
    return storedResponseOf(call) ?? method.response.encode(reply).finish();
  });
  return (grpcCall: ServerReadableStream<Buffer, Buffer>, callback: sendUnaryData<Buffer>) => {
    let responded = false;
    const { call, timer } = accept(grpcCall, method, options, open, (error) => respond(error));
    const respond = (error: unknown, bytes?: Uint8Array) => {
      if (responded) return;
      responded = true;
      if (timer) clearTimeout(timer);
      if (bytes) callback(null, asBuffer(bytes));
      else callback(toStatus(error, call, domain));
    };
    run(handler, call, open).then(
      (bytes) => respond(null, bytes as Uint8Array),
      (error) => respond(error),
    );
  };
}

function bindStream({ method, act, chain, domain, options, open }: Binding) {
  const senders = new WeakMap<CallContext, ServerDuplexStream<Buffer, Buffer>>();
  const handler = compose(chain, async (call) => {
    const stream = senders.get(call);
    if (!stream) throw new Error('a stream call without its stream');
    for await (const message of untilAborted(act(call.message, call) as AsyncIterable<unknown>, call.signal)) {
      if (call.method?.owner?.kind === 'loaded' && lacksOwnerCheck(call)) {
        throw new Error(`${method.path} sent a message before it checked the owner`);
      }
      await recordDisclosure(call);
      if (!stream.write(asBuffer(method.response.encode(message).finish()))) await drained(stream, call.signal);
    }
  });
  return (stream: ServerDuplexStream<Buffer, Buffer>) => {
    let responded = false;
    const { call, timer } = accept(stream, method, options, open, (error) => respond(error));
    senders.set(call, stream);
    const respond = (error: unknown) => {
      if (responded) return;
      responded = true;
      if (timer) clearTimeout(timer);
      if (error) stream.emit('error', toStatus(error, call, domain));
      else stream.end();
    };
    run(handler, call, open).then(() => respond(null), respond);
  };
}

async function run(handler: Handler, call: CallContext, open: Set<CallContext>): Promise<unknown> {
  open.add(call);
  try {
    return await handler(call);
  } finally {
    open.delete(call);
    call.close();
  }
}

/**
 * Opens a `CallContext` for a grpc-js call. grpc-js enforces deadlines that the client set. A missing deadline, or one
 * longer than the contract allows, gets a timer here. Its message is not read yet; `receive` does that.
 */
function accept(
  grpcCall: AnyServerCall,
  method: MethodContract,
  options: RpcServerOptions,
  open: Set<CallContext>,
  onDeadline: (error: RpcError) => void,
): { call: CallContext; timer: NodeJS.Timeout | null } {
  const { metadata } = grpcCall;
  const asked = Number(grpcCall.getDeadline());
  const now = Date.now();
  const limit = now + (Number.isFinite(asked) ? method.deadline.maxMs : method.deadline.defaultMs);
  const header = (name: string) => {
    const value = metadata.get(name)[0];
    return typeof value === 'string' ? value : undefined;
  };
  const call: CallContext = openCall({
    kind: 'server',
    name: method.path,
    method,
    message: undefined,
    deadline: Math.min(asked, limit),
    trace: childTrace(header('traceparent')),
    log: options.log,
    header,
  });
  transports.set(call, grpcCall);
  grpcCall.once('cancelled', () => {
    if (open.has(call))
      call.cancel(call.deadline <= Date.now() ? new DeadlineError('the deadline passed') : cancelled());
  });
  const timer =
    asked <= limit
      ? null
      : setTimeout(() => {
          call.cancel(new DeadlineError('the deadline passed'));
          onDeadline(deadlineExceeded());
        }, limit - now);
  return { call, timer };
}

const transports = new WeakMap<CallContext, AnyServerCall>();

/** Reads the message of a call, which has been let in without it. */
export const receive: Interceptor = (next) => async (call) => {
  call.message = await messageOf(transports.get(call)!, call);
  return next(call);
};

/** The only message of a request, as bytes, when the client has sent all of it. */
function messageOf(grpcCall: AnyServerCall, call: CallContext): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    let message: Buffer | undefined;
    grpcCall.on('data', (bytes: Buffer) => {
      if (message) reject(messagesWrong('more than one message'));
      message = bytes;
    });
    grpcCall.once('end', () => (message ? resolve(message) : reject(messagesWrong('no message'))));
    // The stream ended before: the client cancelled, the deadline passed, or the message was too large.
    grpcCall.once('close', () => reject(call.cancelReason ?? cancelled()));
  });
}

/** The peer address of a server call, as grpc-js names it. */
export const peerOf = (call: CallContext): string => transports.get(call)?.getPeer() ?? '';

/** The approximate number of header bytes of a server call. */
export function metadataBytesOf(call: CallContext): number {
  // getMap() would copy every header of every call; the internal map is private but has not changed in years.
  const metadata = transports.get(call)?.metadata as unknown as { internalRepr?: Map<string, (string | Buffer)[]> };
  let bytes = 0;
  for (const [name, values] of metadata?.internalRepr ?? []) {
    for (const value of values) bytes += name.length + value.length;
  }
  return bytes;
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function toStatus(
  error: unknown,
  call: CallContext,
  domain: string,
): Partial<StatusObject> & { code: number; details: string } {
  const metadata = new Metadata();
  if (!(error instanceof RpcError)) {
    // The error boundary passes nothing else; this is for a fault in the chain itself.
    call.log.error({ err: error }, 'an error passed the chain');
    return { code: status.INTERNAL, details: 'internal error', metadata };
  }
  metadata.set('grpc-status-details-bin', Buffer.from(encodeStatus(error, domain)));
  return { code: status[error.code], details: safeText(error.message), metadata };
}

/** Iterates until the signal is aborted; then throws its reason, even when the source never responds. */
async function* untilAborted<T>(source: AsyncIterable<T>, signal: AbortSignal): AsyncGenerator<T> {
  const iterator = source[Symbol.asyncIterator]();
  // One listener for the whole stream; racing every step against one promise would keep all steps alive.
  let fail: (reason: unknown) => void = () => {};
  const onAbort = () => fail(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    for (;;) {
      signal.throwIfAborted();
      const result = await new Promise<IteratorResult<T>>((resolve, reject) => {
        fail = reject;
        iterator.next().then(resolve, reject);
      });
      if (result.done) return;
      yield result.value;
    }
  } finally {
    signal.removeEventListener('abort', onAbort);
    // Not awaited: a generator that waits for its next event ends only when that arrives.
    void Promise.resolve(iterator.return?.()).catch(() => {});
  }
}

/** Waits until the stream accepts more, so that a slow reader slows its sender instead of filling memory. */
async function drained(stream: ServerDuplexStream<Buffer, Buffer>, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
  await new Promise<void>((resolve, reject) => {
    const done = (outcome: () => void) => {
      stream.removeListener('drain', onDrain);
      signal.removeEventListener('abort', onAbort);
      outcome();
    };
    const onDrain = () => done(resolve);
    const onAbort = () => done(() => reject(signal.reason));
    stream.once('drain', onDrain);
    signal.addEventListener('abort', onAbort, { once: true });
  });
}
