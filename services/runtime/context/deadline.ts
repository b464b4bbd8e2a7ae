import { deadlineExceeded } from '../errors/errors.ts';
import type { Interceptor } from './call.ts';

/** Does not start what can no longer be answered in time. The transport ends what runs over. */
export const deadline: Interceptor = (next) => (call) =>
  call.deadline <= Date.now() ? Promise.reject(deadlineExceeded()) : next(call);
