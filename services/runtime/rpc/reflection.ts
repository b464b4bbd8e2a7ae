import { ServerReflectionRequest, ServerReflectionResponse } from '@armature/proto/grpc/reflection/v1/reflection.ts';
import * as alpha from '@armature/proto/grpc/reflection/v1alpha/reflection.ts';
import {
  type ServerDuplexStream,
  type ServiceDefinition,
  status,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js';
import type { DescriptorIndex, MessageResponse } from './descriptors.ts';
import { methodDefinition } from './method-definition.ts';

const bothStream = { requestStream: true, responseStream: true };
const definition = {
  serverReflectionInfo: methodDefinition(
    '/grpc.reflection.v1.ServerReflection/ServerReflectionInfo',
    ServerReflectionRequest,
    ServerReflectionResponse,
    bothStream,
  ),
};
const alphaDefinition = {
  serverReflectionInfo: methodDefinition(
    '/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo',
    alpha.ServerReflectionRequest,
    alpha.ServerReflectionResponse,
    bothStream,
  ),
};

type Stream = ServerDuplexStream<ServerReflectionRequest, ServerReflectionResponse>;

/**
 * Server reflection, v1 and v1alpha, from the built descriptor set, so that callers see the comments and options of the
 * contracts. Offered only to connections with a valid certificate.
 */
export function reflection(
  services: readonly string[],
  isKnown: (peer: string) => boolean,
): { definition: ServiceDefinition; implementation: UntypedServiceImplementation }[] {
  const listed = [...services, 'grpc.health.v1.Health', 'grpc.reflection.v1.ServerReflection'].sort();
  const respond = (request: ServerReflectionRequest, index: DescriptorIndex): MessageResponse => {
    const asked = request.messageRequest;
    switch (asked?.$case) {
      case 'listServices':
        return { $case: 'listServicesResponse', value: { service: listed.map((name) => ({ name })) } };
      case 'fileByFilename':
        return index.files(index.byName.get(asked.value));
      case 'fileContainingSymbol':
        return index.files(index.bySymbol(asked.value));
      case 'fileContainingExtension':
        return index.files(index.byExtension(asked.value.containingType, asked.value.extensionNumber));
      case 'allExtensionNumbersOfType':
        return {
          $case: 'allExtensionNumbersResponse',
          value: { baseTypeName: asked.value, extensionNumber: index.extensionsOf(asked.value) },
        };
      default:
        return { $case: 'errorResponse', value: { errorCode: status.INVALID_ARGUMENT, errorMessage: 'empty request' } };
    }
  };
  const serverReflectionInfo = (stream: Stream) => {
    if (!isKnown(stream.getPeer())) {
      stream.emit('error', { code: status.UNAUTHENTICATED, details: 'no valid credentials' });
      return;
    }
    // Messages that the client sends meanwhile wait in the stream.
    descriptors().then(
      (index) => {
        stream.on('data', (request: ServerReflectionRequest) => {
          stream.write({ validHost: request.host, originalRequest: request, messageResponse: respond(request, index) });
        });
        stream.on('end', () => stream.end());
      },
      (error: Error) => {
        process.emitWarning(error);
        stream.emit('error', { code: status.INTERNAL, details: 'internal error' });
      },
    );
  };
  return [
    { definition, implementation: { serverReflectionInfo } },
    { definition: alphaDefinition, implementation: { serverReflectionInfo } },
  ];
}

let loaded: Promise<DescriptorIndex> | null = null;

/**
 * Read at the first request: most instances never get one, and the library that reads descriptors takes some 14 MB by
 * itself.
 */
function descriptors(): Promise<DescriptorIndex> {
  loaded ??= import('./descriptors.ts').then((module) => module.readDescriptors());
  return loaded;
}
