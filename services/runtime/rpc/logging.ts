import { type Interceptor, subjectOf } from '../context/call-context.ts';
import { RpcError } from '../errors/errors.ts';

/** Codes that mean a fault of the server, not of the caller. */
const faults = new Set(['INTERNAL', 'UNKNOWN', 'DATA_LOSS', 'UNAVAILABLE']);

/** One line per call that failed, with its cause; successes only at level debug. Never a payload. */
export const logging: Interceptor = (next) => async (call) => {
  const since = performance.now();
  try {
    const reply = await next(call);
    if (call.logs('debug')) call.log.debug({ code: 'OK', ...who(call), duration_ms: elapsed(since) }, 'call');
    return reply;
  } catch (error) {
    const rpc = error instanceof RpcError ? error : null;
    const line = {
      code: rpc?.code ?? 'UNKNOWN',
      reason: rpc?.reason,
      ...who(call),
      duration_ms: elapsed(since),
      ...(rpc ? (rpc.cause === undefined ? {} : { err: rpc.cause }) : { err: error }),
    };
    if (!rpc || faults.has(rpc.code)) call.log.error(line, 'call failed');
    else call.log.info(line, 'call refused');
    throw error;
  }
};

const elapsed = (since: number): number => Math.round((performance.now() - since) * 1000) / 1000;
const who = (call: Parameters<ReturnType<Interceptor>>[0]) => ({
  workload: call.caller.workload,
  user: call.caller.user ? subjectOf(call.caller.user) : undefined,
});
