import type { Codec } from '@armature/proto/contract.ts';
import type { MethodDefinition } from '@grpc/grpc-js';

/** A method of a service that has no contract of ours, such as health, in the form that grpc-js registers. */
export function methodDefinition<Request, Response>(
  path: string,
  request: Codec<Request>,
  response: Codec<Response>,
  { requestStream = false, responseStream = false } = {},
): MethodDefinition<Request, Response> {
  return {
    path,
    requestStream,
    responseStream,
    requestSerialize: (message) => Buffer.from(request.encode(message).finish()),
    requestDeserialize: (bytes) => request.decode(bytes),
    responseSerialize: (message) => Buffer.from(response.encode(message).finish()),
    responseDeserialize: (bytes) => response.decode(bytes),
  };
}
