import { randomUUID } from 'node:crypto';
import type { MethodContract } from '@armature/proto/contract.ts';
import {
  type ClientReadableStream,
  type CallOptions as GrpcCallOptions,
  Metadata,
  type ServiceError,
} from '@grpc/grpc-js';
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
import { inTransaction } from '../db/open-transaction.ts';
import { RpcError } from '../errors/errors.ts';
import { syncPoint } from '../sync/sync-point.ts';
import { untilAborted } from '../time/until-aborted.ts';
import { encodeMessage, readCallOptions, readMessage, readToken } from './call-options.ts';
import type { Channels } from './channel.ts';
import {
  argumentInvalid,
  clientClosed,
  isRpcError,
  nameOf,
  rpcErrorOf,
  statusError,
  tokenUnusable,
} from './client-errors.ts';
import type { CallOptions, TokenFunction, TokenSource } from './client-types.ts';

/** What the methods of one client share. */
export interface Caller {
  readonly channels: Channels;
  readonly token: TokenFunction | TokenSource | undefined;
  /** The calls in progress. */
  readonly calls: Set<CallContext>;
  closed: boolean;
}

/** A call in progress, and the token that it gets when none of the caller's arguments decides that. */
interface OpenCall {
  readonly call: CallContext;
  readonly usesSource: boolean;
  readonly options: CallOptions;
  /** Must be called once, whatever the result. */
  end(): void;
}

function open(caller: Caller, method: MethodContract, request: unknown, callOptions: unknown): OpenCall {
  if (caller.closed) throw clientClosed(method);
  const options = readCallOptions(callOptions, method);
  const { parent, timeoutMs, token } = options;
  if (parent && inTransaction(parent)) {
    throw argumentInvalid(`it was called inside a transaction of ${parent.name}`, method, { parent });
  }
  const message = withRequestId(method, readMessage(request, method, parent));
  const timeout = Math.min(Math.max(timeoutMs ?? method.deadline.defaultMs, 0), method.deadline.maxMs);
  const call: CallContext = openCall({
    kind: 'client',
    name: method.path,
    method,
    message,
    deadline: Math.min(Date.now() + timeout, parent?.deadline ?? Number.POSITIVE_INFINITY),
    trace: childTrace(parent && traceparent(parent.trace)),
    log: parent?.log ?? silentLog,
    caller: parent?.caller,
    parent,
  });
  const given = token ?? parent?.caller.user?.token;
  outgoing.set(call, { parent, token: given });
  const unlink = linkSignal(call, options);
  caller.calls.add(call);
  return {
    call,
    usesSource: given === undefined && !parent,
    options,
    end() {
      caller.calls.delete(call);
      unlink();
      call.close();
    },
  };
}

/** What only the client needs to know of a call. */
const outgoing = new WeakMap<CallContext, { parent: CallContext | undefined; token: string | undefined }>();

/** Asks the client's token source, within the call's deadline. */
async function addToken({ token: source }: Caller, call: CallContext, method: MethodContract): Promise<void> {
  if (!source) return;
  const named = typeof source === 'function' ? 'token()' : 'the token source';
  let token: unknown;
  try {
    // The signal is made at first use, because most tokens are at hand.
    const options = {
      get signal() {
        return call.signal;
      },
    };
    const asked = typeof source === 'function' ? source(options) : source.token(options);
    if (typeof asked === 'string' || asked === undefined) token = asked;
    else {
      call.signal.throwIfAborted();
      token = await untilAborted(asked, call.signal);
    }
  } catch (error) {
    if (error === call.cancelReason) throw error;
    if (!isRpcError(error)) throw tokenUnusable(`${named} failed: ${nameOf(error)}`, method, error);
    const { code, reason, domain, message, metadata, details, cause } = error;
    const text = `${method.path} was not sent: ${message}`;
    throw new RpcError(code, reason, text, { domain, metadata, details, cause, from: method.path });
  }
  const usable = readToken(token, `the result of ${named}`, method);
  outgoing.set(call, { parent: undefined, token: usable });
}

/** Ends a call that failed: tells the token source of a refused token, and returns the error for the caller. */
function failureOf(error: unknown, { call, usesSource }: OpenCall, caller: Caller, method: MethodContract): RpcError {
  if (isRpcError(call.cancelReason) && caller.closed) return call.cancelReason;
  const failure = rpcErrorOf(error, method, call);
  const token = outgoing.get(call)?.token;
  if (usesSource && token && failure.code === 'UNAUTHENTICATED' && typeof caller.token === 'object') {
    caller.token.refused?.(token);
  }
  return failure;
}

function withRequestId(method: MethodContract, message: Record<string, unknown>): Record<string, unknown> {
  if (method.idempotency && method.idempotency.read(message) === '') {
    message[method.idempotency.field.replace(/_(\w)/g, (_, character: string) => character.toUpperCase())] =
      randomUUID();
  }
  return message;
}

const bytesOf = (call: CallContext, method: MethodContract): Buffer =>
  encodeMessage(call.message, method, outgoing.get(call)?.parent);

function headers(call: CallContext): Metadata {
  const metadata = new Metadata();
  metadata.set('traceparent', traceparent(call.trace));
  const token = outgoing.get(call)?.token;
  if (token) metadata.set('authorization', `Bearer ${token}`);
  return metadata;
}

const serialize = (bytes: Buffer): Buffer => bytes;

export function bindUnary(caller: Caller, method: MethodContract, chain: readonly Interceptor[]) {
  const { channels } = caller;
  const send: Handler = (call) =>
    new Promise((resolve, reject) => {
      const grpcOptions: GrpcCallOptions = { deadline: call.deadline };
      // Everything that may throw comes before the channel is entered, so that every call that enters also leaves.
      const [bytes, metadata] = [bytesOf(call, method), headers(call)];
      if (call.cancelReason) throw call.cancelReason;
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
          if (error) reject(statusError(error, method));
          else resolve(reply);
        },
      );
      cancelWith(grpcCall, call);
    });
  const handler = compose(chain, send);
  return async (message: unknown, callOptions?: unknown) => {
    const opened = open(caller, method, message, callOptions);
    const { call } = opened;
    try {
      if (opened.usesSource) await addToken(caller, call, method);
      const atSyncPoint = syncPoint(call);
      if (atSyncPoint) await atSyncPoint(`call ${method.path}`);
      return await handler(call);
    } catch (error) {
      throw failureOf(error, opened, caller, method);
    } finally {
      opened.end();
    }
  };
}

export function bindStream(caller: Caller, method: MethodContract, chain: readonly Interceptor[]) {
  const { channels } = caller;
  const send: Handler = async (call) => {
    const [bytes, metadata] = [bytesOf(call, method), headers(call)];
    if (call.cancelReason) throw call.cancelReason;
    const generation = channels.enter();
    const stream = generation.channel.makeServerStreamRequest(
      method.path,
      serialize,
      (bytes) => method.response.decode(bytes),
      bytes,
      metadata,
      { deadline: call.deadline },
    );
    // grpc-js emits the status after the error, and also when the messages before it are never read.
    stream.once('status', () => channels.leave(generation));
    cancelWith(stream, call);
    return messages(stream, method);
  };
  const handler = compose(chain, send);
  return async function* (message: unknown, callOptions?: unknown) {
    const opened = open(caller, method, message, callOptions);
    const { call } = opened;
    try {
      if (opened.usesSource) await addToken(caller, call, method);
      yield* (await handler(call)) as AsyncIterable<unknown>;
    } catch (error) {
      throw failureOf(error, opened, caller, method);
    } finally {
      opened.end();
    }
  };
}

/** Reads with backpressure; leaving the loop early cancels the call. */
function messages(stream: ClientReadableStream<unknown>, method: MethodContract): AsyncGenerator<unknown> {
  // An error that comes before the loop begins would end the process, and the loop would not see it.
  let failure: ServiceError | null = null;
  stream.on('error', (error) => {
    failure ??= error as ServiceError;
  });
  const read = async function* () {
    try {
      yield* stream;
    } catch (error) {
      throw statusError(failure ?? (error as ServiceError), method);
    } finally {
      stream.cancel();
    }
    if (failure) throw statusError(failure, method);
  };
  return read();
}

/** gRPC enforces the deadline too: to cancel first would turn DEADLINE_EXCEEDED into CANCELLED. */
function cancelWith(grpcCall: { cancel(): void }, call: CallContext): void {
  const cancel = () => {
    if (!(call.signal.reason instanceof DeadlineError)) grpcCall.cancel();
  };
  if (call.signal.aborted) cancel();
  else call.signal.addEventListener('abort', cancel, { once: true });
}

/** The signal's own reason is not read: a getter of it might throw where no caller could catch that. */
function linkSignal(call: CallContext, { signal }: CallOptions): () => void {
  if (!signal) return () => {};
  const abort = () => call.cancel(new Error('the signal was aborted'));
  if (signal.aborted) abort();
  else signal.addEventListener('abort', abort, { once: true });
  return () => signal.removeEventListener('abort', abort);
}
