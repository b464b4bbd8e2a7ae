import {
  getChannelzHandlers,
  getChannelzServiceDefinition,
  type ServiceDefinition,
  status,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js';
import type { Decide } from '../authz/authorize.ts';
import type { VerifiedToken } from '../credentials/tokens.ts';
import { RpcError } from '../errors/errors.ts';

type AnyHandler = (
  call: { getPeer(): string; metadata: { get(name: string): (string | Buffer)[] } },
  callback: (error: object | null, value?: unknown) => void,
) => void;

/** The standard channelz service. It shows every connection, so it is for administrators only. */
export function channelz(guard: {
  workloadAt(peer: string): string | null;
  verify(token: string): VerifiedToken | Promise<VerifiedToken>;
  decide: Decide;
}): { definition: ServiceDefinition; implementation: UntypedServiceImplementation } {
  const handlers = getChannelzHandlers() as unknown as Record<string, AnyHandler>;
  const guarded: Record<string, AnyHandler> = {};
  for (const [name, handler] of Object.entries(handlers)) {
    guarded[name] = (call, callback) => {
      admit(call)
        .then((allowed) => {
          if (allowed) handler(call, callback);
          else callback({ code: status.PERMISSION_DENIED, details: 'ops.channelz is not allowed' });
        })
        .catch((error: unknown) => {
          // Without keys a token that may be valid is UNAVAILABLE, as everywhere.
          if (error instanceof RpcError && error.code === 'UNAVAILABLE') {
            callback({ code: status.UNAVAILABLE, details: error.message });
          } else callback({ code: status.UNAUTHENTICATED, details: 'no valid credentials' });
        });
    };
  }
  const admit = async (call: Parameters<AnyHandler>[0]): Promise<boolean> => {
    const workload = guard.workloadAt(call.getPeer());
    const token = /^Bearer (.+)$/.exec(String(call.metadata.get('authorization')[0] ?? ''))?.[1];
    if (!workload || !token) throw new Error('no credentials');
    const { kind, subject, scope } = await guard.verify(token);
    return guard.decide({ workload, user: { kind, subject, token, scope } }, 'ops.channelz')?.allowed === true;
  };
  return {
    definition: onceAsked(Object.keys(handlers)),
    implementation: guarded as unknown as UntypedServiceImplementation,
  };
}

/**
 * Loads the definition at the first call: grpc-js makes it by reading and compiling its .proto files, which is a
 * seventh of the work of a start.
 */
function onceAsked(names: readonly string[]): ServiceDefinition {
  const method = (name: string) => (getChannelzServiceDefinition() as unknown as ServiceDefinition)[name]!;
  return Object.fromEntries(
    names.map((name) => [
      name,
      {
        path: `/grpc.channelz.v1.Channelz/${name}`,
        requestStream: false,
        responseStream: false,
        requestSerialize: (value: object) => method(name).requestSerialize(value),
        requestDeserialize: (bytes: Buffer) => method(name).requestDeserialize(bytes),
        responseSerialize: (value: object) => method(name).responseSerialize(value),
        responseDeserialize: (bytes: Buffer) => method(name).responseDeserialize(bytes),
      },
    ]),
  );
}
