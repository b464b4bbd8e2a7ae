import {
  HealthCheckRequest,
  HealthCheckResponse,
  HealthCheckResponse_ServingStatus as Serving,
} from '@armature/proto/grpc/health/v1/health.ts';
import {
  type ServerUnaryCall,
  type ServerWritableStream,
  type ServiceDefinition,
  type sendUnaryData,
  status,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js';
import { methodDefinition } from './method-definition.ts';

type ServingStatus = HealthCheckResponse['status'];

export interface Health {
  definition: ServiceDefinition;
  implementation: UntypedServiceImplementation;
  set(serving: boolean): void;
}

const definition = {
  check: methodDefinition('/grpc.health.v1.Health/Check', HealthCheckRequest, HealthCheckResponse),
  watch: methodDefinition('/grpc.health.v1.Health/Watch', HealthCheckRequest, HealthCheckResponse, {
    responseStream: true,
  }),
};

const watchersMax = 100;

/** The standard health service for the server as a whole ("") and for each of its services by name. */
export function health(services: readonly string[]): Health {
  const names = new Set(['', ...services]);
  let current: ServingStatus = Serving.NOT_SERVING;
  const watchers = new Set<ServerWritableStream<HealthCheckRequest, HealthCheckResponse>>();
  return {
    definition,
    implementation: {
      check(
        call: ServerUnaryCall<HealthCheckRequest, HealthCheckResponse>,
        callback: sendUnaryData<HealthCheckResponse>,
      ) {
        if (names.has(call.request.service)) callback(null, { status: current });
        else callback({ code: status.NOT_FOUND, details: 'unknown service' });
      },
      watch(stream: ServerWritableStream<HealthCheckRequest, HealthCheckResponse>) {
        if (!names.has(stream.request.service)) {
          stream.write({ status: Serving.SERVICE_UNKNOWN });
          return;
        }
        if (watchers.size >= watchersMax) {
          stream.emit('error', { code: status.RESOURCE_EXHAUSTED, details: `more than ${watchersMax} watchers` });
          return;
        }
        watchers.add(stream);
        stream.once('cancelled', () => watchers.delete(stream));
        stream.write({ status: current });
      },
    },
    set(serving) {
      const next = serving ? Serving.SERVING : Serving.NOT_SERVING;
      if (next === current) return;
      current = next;
      for (const stream of watchers) stream.write({ status: current });
    },
  };
}
