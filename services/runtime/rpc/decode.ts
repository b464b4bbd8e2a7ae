import type { MethodContract } from '@armature/proto/contract.ts';
import { configureTextEncoding, getTextEncoding } from '@bufbuild/protobuf/wire';
import { type Interceptor, principalOf } from '../context/call-context.ts';
import { messageMalformed } from '../errors/errors.ts';
import { setIdempotencyKey } from '../idempotency/key.ts';
import { noHashKeys, type RequestHasher, requestHasher } from '../idempotency/request-hash.ts';

// Strings must be UTF-8 in both directions, as proto3 requires; the library's default replaces invalid bytes, and two
// different requests could then look the same.
const fatal = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
configureTextEncoding({ ...getTextEncoding(), decodeUtf8: (bytes) => fatal.decode(bytes) });

/**
 * Decodes the request's bytes into its message. On keyed methods it also sets the idempotency key, and a hash that is
 * the same for every encoding of the message.
 */
export function decode(method: MethodContract, hash: RequestHasher = requestHasher(noHashKeys)): Interceptor {
  const { request, idempotency } = method;
  return (next) => (call) => {
    const bytes: Uint8Array = call.message;
    try {
      call.message = request.decode(bytes);
    } catch (error) {
      return Promise.reject(messageMalformed(error));
    }
    if (idempotency) {
      const receivedKey = idempotency.read(call.message);
      idempotency.normalize?.(call.message);
      const key = idempotency.read(call.message);
      setIdempotencyKey(call, {
        principal: principalOf(call.caller),
        method: method.path,
        key,
        ...(receivedKey === key ? {} : { receivedKey }),
        hash: hash(bytes, request.encode(call.message).finish()),
      });
    }
    return next(call);
  };
}
