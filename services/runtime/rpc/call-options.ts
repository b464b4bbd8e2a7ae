import type { MethodContract } from '@armature/proto/contract.ts';
import type { CallContext } from '../context/call-context.ts';
import type { RpcError } from '../errors/errors.ts';
import { argumentInvalid, nameOf, tokenUnusable } from './client-errors.ts';
import type { CallOptions } from './client-types.ts';

/** Longer tokens do not fit into the headers that servers accept. */
const tokenMax = 8_192;

/** RFC 6750, 2.1. */
const tokenPattern = /^[A-Za-z0-9._~+/-]+=*$/;

/** Reads every option once. Throws an RpcError for a value that breaks a rule, whatever it is. */
export function readCallOptions(value: unknown, method: MethodContract): CallOptions {
  if (value === undefined || value === null) return {};
  if (typeof value !== 'object') throw argumentInvalid(`its options are not an object (${typeof value})`, method);
  const read = (name: keyof CallOptions): unknown => {
    try {
      return (value as Record<string, unknown>)[name] ?? undefined;
    } catch (cause) {
      throw argumentInvalid(`its option ${name} cannot be read`, method, { cause });
    }
  };
  const parent = read('parent');
  const refuse = (message: string) => argumentInvalid(message, method, { parent });
  return {
    parent: readParent(parent, refuse),
    timeoutMs: readTimeout(read('timeoutMs'), refuse),
    token: readToken(read('token'), 'its option token', method),
    signal: readSignal(read('signal'), refuse),
  };
}

type Refuse = (message: string) => RpcError;

function readParent(value: unknown, refuse: Refuse): CallContext | undefined {
  if (value === undefined) return undefined;
  try {
    const { deadline, trace, caller } = value as CallContext;
    if (Number.isFinite(deadline) && typeof trace.traceId === 'string' && typeof caller === 'object') {
      return value as CallContext;
    }
  } catch {
    // Not the object that it should be; a getter may throw anything.
  }
  throw refuse('its option parent is not a call');
}

function readTimeout(value: unknown, refuse: Refuse): number | undefined {
  if (value === undefined || (typeof value === 'number' && !Number.isNaN(value))) return value;
  const got = typeof value === 'number' ? 'NaN' : typeof value;
  throw refuse(`its option timeoutMs must be a number of milliseconds (got ${got})`);
}

function readSignal(value: unknown, refuse: Refuse): AbortSignal | undefined {
  if (value === undefined) return undefined;
  try {
    const { aborted, addEventListener, removeEventListener } = value as AbortSignal;
    if (
      typeof aborted === 'boolean' &&
      typeof addEventListener === 'function' &&
      typeof removeEventListener === 'function'
    )
      return value as AbortSignal;
  } catch {
    // Not the object that it should be; a getter may throw anything.
  }
  throw refuse('its option signal is not an AbortSignal');
}

/** Checks a token before it becomes a header, because the error of grpc-js for a bad header quotes it. */
export function readToken(value: unknown, what: string, method: MethodContract): string | undefined {
  if (value === undefined || value === null || value === '') return value ?? undefined;
  if (typeof value !== 'string') throw tokenUnusable(`${what} is not a string (${typeof value})`, method);
  if (value.length > tokenMax) {
    throw tokenUnusable(`${what} has more than ${tokenMax} characters (${value.length})`, method);
  }
  if (!tokenPattern.test(value)) {
    const at = [...value].findIndex((character) => !/[A-Za-z0-9._~+/=-]/.test(character));
    const where =
      at < 0 ? 'a "=" before its end' : `another character at position ${at}, such as a blank or a line end`;
    throw tokenUnusable(`${what} is not an access token (RFC 6750): it has ${where}`, method);
  }
  return value;
}

type Message = Record<string, unknown>;

/** Fills in the fields that are left out. Throws an RpcError that names the field whose value cannot be used. */
export function readMessage(value: unknown, method: MethodContract, parent: CallContext | undefined): Message {
  if (value === undefined || value === null) return method.request.fromPartial({});
  if (typeof value !== 'object' || Array.isArray(value)) {
    const got = Array.isArray(value) ? 'array' : typeof value;
    throw argumentInvalid(`its request is not an object (${got})`, method, { parent });
  }
  const complete = (part: object): Message => method.request.fromPartial(part);
  try {
    return complete(value);
  } catch (cause) {
    throw messageMalformed(value as Message, complete, { method, parent, cause });
  }
}

/** Encodes a complete request. Throws an RpcError that names the field whose value cannot be encoded. */
export function encodeMessage(message: Message, method: MethodContract, parent: CallContext | undefined): Buffer {
  const encode = (complete: Message): Buffer => Buffer.from(method.request.encode(complete).finish());
  try {
    return encode(message);
  } catch (cause) {
    const alone = (part: Message) => encode({ ...method.request.fromPartial({}), ...part });
    throw messageMalformed(message, alone, { method, parent, cause });
  }
}

/** Finds the first field that cannot be used by itself. Its value is not quoted: it may be a secret. */
function messageMalformed(
  message: Message,
  use: (part: Message) => unknown,
  { method, parent, cause }: { method: MethodContract; parent: unknown; cause: unknown },
): RpcError {
  const name = Object.keys(method.request.fromPartial({})).find((key) => {
    try {
      use({ [key]: message[key] });
      return false;
    } catch {
      return true;
    }
  });
  const field = name?.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
  const what = field ? `its field ${field} is` : 'its request is';
  const text = `${what} not of the type of the contract (${nameOf(cause)})`;
  return argumentInvalid(text, method, { parent, reason: 'MESSAGE_MALFORMED', field, cause });
}
