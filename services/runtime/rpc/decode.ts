import { createHash, createHmac } from 'node:crypto';
import type { MethodContract } from '@armature/proto/contract.ts';
import { configureTextEncoding, getTextEncoding } from '@bufbuild/protobuf/wire';
import { type Interceptor, principalOf } from './call.ts';
import { messageMalformed } from './errors.ts';

// Strings are held to UTF-8 in both directions, as proto3 demands; the library's default replaces what is
// not text, and two different requests could then look the same.
const fatal = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
configureTextEncoding({ ...getTextEncoding(), decodeUtf8: (bytes) => fatal.decode(bytes) });

/**
 * Turns the request's bytes into its message; on keyed methods also fixes their hash. With a key it is an HMAC: from
 * the bare hash of a request that holds a password, whoever reads the table could guess that offline.
 */
export function decode(method: MethodContract, hashKey = ''): Interceptor {
  const { request, idempotency } = method;
  const hasher = () => (hashKey ? createHmac('sha256', hashKey) : createHash('sha256'));
  return (next) => (call) => {
    const bytes: Uint8Array = call.message;
    try {
      call.message = request.decode(bytes);
    } catch (error) {
      return Promise.reject(messageMalformed(error));
    }
    if (idempotency) {
      call.idempotency = {
        principal: principalOf(call.caller),
        method: method.path,
        key: idempotency.read(call.message),
        hash: hasher().update(bytes).digest(),
      };
    }
    return next(call);
  };
}
