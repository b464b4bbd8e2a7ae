import type { MethodContract } from '@armature/proto/contract.ts';
import { type ServiceError, status } from '@grpc/grpc-js';
import { type CallContext, DeadlineError } from '../context/call-context.ts';
import { type Code, RpcError, runtimeDomain } from '../errors/errors.ts';
import { decodeStatus } from '../errors/status.ts';

type Method = Pick<MethodContract, 'path'>;

/** An error that the client makes itself, without a response. `from` marks it as one of a call, like those of servers. */
function clientError(
  code: Code,
  reason: string,
  message: string,
  { path }: Method,
  more: { field?: string | undefined; cause?: unknown } = {},
): RpcError {
  const { field, cause } = more;
  const fieldViolations = field ? [{ field, description: 'is not of the type of the contract', reason: 'type' }] : [];
  return new RpcError(code, reason, message, {
    from: path,
    ...(reason ? { domain: runtimeDomain } : {}),
    ...(field ? { details: { fieldViolations } } : {}),
    ...(cause === undefined ? {} : { cause: causeWithoutText(cause) }),
  });
}

/**
 * A call that cannot be sent as it is. Inside a service that is a fault of the service: INVALID_ARGUMENT would read as
 * a refusal by the server, and a saga would compensate.
 */
export function argumentInvalid(
  message: string,
  method: Method,
  more: { parent?: unknown; reason?: string; field?: string | undefined; cause?: unknown } = {},
): RpcError {
  const code = more.parent ? 'INTERNAL' : 'INVALID_ARGUMENT';
  return clientError(code, more.reason ?? '', `${method.path} was not sent: ${message}`, method, more);
}

/** A token that cannot be sent, or that could not be got. The message never contains it. */
export function tokenUnusable(message: string, method: Method, cause?: unknown): RpcError {
  const text = `${method.path} was not sent: ${message}`;
  return clientError('UNAUTHENTICATED', 'CREDENTIALS_INVALID', text, method, { cause });
}

/** The code is that of grpc-go. The effect of a call that was in progress is unknown. */
export const clientClosed = (method: Method) =>
  clientError('CANCELLED', '', `${method.path} ended because its client was closed`, method);

/** Whether a value that may be anything is an RpcError; `instanceof` throws for some proxies. */
export function isRpcError(error: unknown): error is RpcError {
  try {
    return error instanceof RpcError;
  } catch {
    return false;
  }
}

/** Makes an RpcError of whatever has been thrown while `call` was in progress. */
export function rpcErrorOf(error: unknown, method: Method, call: CallContext): RpcError {
  if (isRpcError(error)) return error;
  const ended = error === call.cancelReason;
  if (ended && error instanceof DeadlineError) {
    return clientError('DEADLINE_EXCEEDED', '', `${method.path} was not sent before its deadline`, method);
  }
  if (ended) return clientError('CANCELLED', '', `${method.path} was cancelled before it was sent`, method);
  const message = `${method.path} failed in the client: ${nameOf(error)}`;
  return clientError('INTERNAL', '', message, method, { cause: error });
}

/** The error of a call that ended with a status other than OK. */
export function statusError(error: ServiceError, method: Method): RpcError {
  const details = error.metadata?.get('grpc-status-details-bin')[0];
  if (Buffer.isBuffer(details)) {
    try {
      return decodeStatus(details, method.path);
    } catch {
      // The status of a server outside the mesh; it has only a code and a message.
    }
  }
  const code = (status[error.code] ?? 'UNKNOWN') as Code;
  return new RpcError(code, '', error.details ?? '', { from: method.path });
}

/** The kind of an error or of a value, without anything of its content: "TypeError", "Error ENOENT", "string". */
export function nameOf(error: unknown): string {
  try {
    if (!(error instanceof Error)) return error === null ? 'null' : typeof error;
    const { code } = error as NodeJS.ErrnoException;
    const name = /^[A-Z]\w{0,63}$/.test(error.name) ? error.name : 'Error';
    return typeof code === 'string' && /^[A-Z][A-Z0-9_]{0,63}$/.test(code) ? `${name} ${code}` : name;
  } catch {
    // A getter of the error throws.
    return 'Error';
  }
}

/** A frame of V8 (https://v8.dev/docs/stack-trace-api) that ends with the place in a file. */
const framePattern = /^ {4}at .*:\d+:\d+\)?$/;

/**
 * What may be shown of an error that the caller's own function or object has thrown. Its message may quote a token, so
 * only its name and the places of its stack are kept.
 */
function causeWithoutText(error: unknown): Error {
  const cause = new Error(`${nameOf(error)}; its message is left out, since it may contain a secret`);
  cause.stack = `${cause.message}\n${framesOf(error).join('\n')}`;
  return cause;
}

function framesOf(error: unknown): string[] {
  try {
    if (!(error instanceof Error)) return [];
    const { message, stack = '' } = error;
    const begin = stack.indexOf(message) + message.length;
    return stack
      .slice(begin)
      .split('\n')
      .filter((line) => framePattern.test(line));
  } catch {
    // A getter of the error throws.
    return [];
  }
}
