import {
  getChannelzHandlers,
  getChannelzServiceDefinition,
  type ServiceDefinition,
  status,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js';
import type { VerifiedToken } from '../authz/tokens.ts';
import type { Decide } from './authorize.ts';
import { RpcError } from './errors.ts';

type AnyHandler = (
  call: { getPeer(): string; metadata: { get(name: string): (string | Buffer)[] } },
  callback: (error: object | null, value?: unknown) => void,
) => void;

/** The standard channelz service: it shows every connection, so it is for administrators only. */
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
          // Without keys a token that may be right is put off, as everywhere.
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
    const { kind, subject } = await guard.verify(token);
    return guard.decide({ workload, user: { kind, subject, token } }, 'ops.channelz')?.allowed === true;
  };
  return {
    definition: getChannelzServiceDefinition() as unknown as ServiceDefinition,
    implementation: guarded as unknown as UntypedServiceImplementation,
  };
}
