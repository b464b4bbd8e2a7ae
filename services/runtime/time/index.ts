export { type BackoffPolicy, backOff, backoffMs, exponentialBackoffMs, type Jitter } from './backoff.ts';
export { sleep } from './sleep.ts';
export { withTimeout } from './timeout.ts';
export { type WakeableSleeps, wakeableSleeps } from './wakeable-sleeps.ts';
