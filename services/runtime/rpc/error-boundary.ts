import type { CallContext, Interceptor } from '../context/call-context.ts';
import { DeadlineError } from '../context/call-context.ts';
import { cancelled, deadlineExceeded, dependencyUnavailable, internal, RpcError } from '../errors/errors.ts';

/** Codes that mean the same for the caller when they come from a dependency. */
const passedOn = new Set(['DEADLINE_EXCEEDED', 'CANCELLED', 'UNAVAILABLE', 'RESOURCE_EXHAUSTED', 'ABORTED']);

/** A call that inherited the deadline of this one may report its end a little earlier. */
const sameDeadlineMs = 25;

/**
 * An error with a reason comes from one of our services and is safe to pass on. Without one it comes from the
 * transport, whose messages contain addresses. A deadline that was not the caller's own is reported as a missing
 * response only.
 */
function passOn(error: RpcError, call: CallContext): RpcError {
  const late = error.code === 'DEADLINE_EXCEEDED';
  if (late && call.deadline - Date.now() <= sameDeadlineMs) return deadlineExceeded();
  if (error.reason !== '' && !late) return error;
  return dependencyUnavailable(error.from.split('/')[1] ?? '', error);
}

/**
 * Turns every error of a handler into an RpcError. An error that is not one is a fault of this service: the caller gets
 * a correlation id, and the cause is logged. The same applies to an error of another service that the handler did not
 * expect: PERMISSION_DENIED for this service is not PERMISSION_DENIED for its caller.
 */
export const errorBoundary: Interceptor = (next) => async (call) => {
  try {
    return await next(call);
  } catch (error) {
    if (error instanceof RpcError && !error.from) throw error;
    // An error that another service returns after this call has ended is a consequence of that end, not its cause.
    if (error instanceof DeadlineError || call.cancelReason instanceof DeadlineError) throw deadlineExceeded();
    if (call.cancelReason) throw call.cancelReason instanceof RpcError ? call.cancelReason : cancelled();
    if (error instanceof RpcError && passedOn.has(error.code)) throw passOn(error, call);
    throw internal(call.id, error);
  }
};
