import type { CallContext, Interceptor } from '../context/call-context.ts';
import { overloaded, RpcError, runtimeDomain } from '../errors/errors.ts';

/** Most bytes of request headers in a call. */
const metadataBytesMax = 8 * 1024;

/** Refuses calls beyond a limit of calls in progress, before any work is done for them. */
export function admission(callsMax: number, metadataBytes: (call: CallContext) => number): Interceptor {
  let inProgress = 0;
  return (next) => async (call) => {
    if (inProgress >= callsMax) throw overloaded('calls', `more than ${callsMax} calls are in progress`);
    if (metadataBytes(call) > metadataBytesMax) {
      throw new RpcError('RESOURCE_EXHAUSTED', 'OVERLOADED', `request headers exceed ${metadataBytesMax} bytes`, {
        domain: runtimeDomain,
        details: { quota: { subject: 'metadata', description: `at most ${metadataBytesMax} bytes` } },
      });
    }
    inProgress += 1;
    try {
      return await next(call);
    } finally {
      inProgress -= 1;
    }
  };
}
