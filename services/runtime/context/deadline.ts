import { deadlineExceeded } from '../errors/errors.ts';
import type { Interceptor } from './call-context.ts';

/** Rejects a call whose deadline has passed. The transport ends a call that runs past its deadline. */
export const deadline: Interceptor = (next) => (call) =>
  call.deadline <= Date.now() ? Promise.reject(deadlineExceeded()) : next(call);
