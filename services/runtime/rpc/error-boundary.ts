import type { Call, Interceptor } from '../context/call.ts';
import { DeadlineError } from '../context/call.ts';
import { cancelled, deadlineExceeded, dependencyUnavailable, internal, RpcError } from '../errors/errors.ts';

/** Codes that say the same about us when a service we depend on said them. */
const passedOn = new Set(['DEADLINE_EXCEEDED', 'CANCELLED', 'UNAVAILABLE', 'RESOURCE_EXHAUSTED', 'ABORTED']);

/** A call that went on with the deadline of this one may report its end a little sooner. */
const sameDeadlineMs = 25;

/**
 * With a reason it was one of our services that spoke, for anybody to hear; without one it was the transport, whose
 * words name addresses. A deadline that was not the caller's own says no more than that there was no answer.
 */
function passOn(error: RpcError, call: Call): RpcError {
  const late = error.code === 'DEADLINE_EXCEEDED';
  if (late && call.deadline - Date.now() <= sameDeadlineMs) return deadlineExceeded();
  if (error.reason !== '' && !late) return error;
  return dependencyUnavailable(error.from.split('/')[1] ?? '', error);
}

/**
 * Whatever comes out of a handler leaves as an RpcError. What is not one is our fault: the caller gets a
 * correlation id, the log the cause. So it is with what another service refused us and the handler did not expect: its
 * PERMISSION_DENIED is not our caller's.
 */
export const errorBoundary: Interceptor = (next) => async (call) => {
  try {
    return await next(call);
  } catch (error) {
    if (error instanceof RpcError && !error.from) throw error;
    // What another service says once this call has ended is an echo of that end, not its reason.
    if (error instanceof DeadlineError || call.cancelReason instanceof DeadlineError) throw deadlineExceeded();
    if (call.cancelReason) throw call.cancelReason instanceof RpcError ? call.cancelReason : cancelled();
    if (error instanceof RpcError && passedOn.has(error.code)) throw passOn(error, call);
    throw internal(call.id, error);
  }
};
