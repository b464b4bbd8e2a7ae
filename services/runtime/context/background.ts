import { type CallContext, type Caller, type CallLog, openCall } from './call-context.ts';
import { childTrace } from './trace.ts';

/** Opens calls for work that no client requested; they act as the service itself. */
export type Background = (name: string, timeoutMs: number, cause?: Cause) => CallContext<null>;

/** What background work belongs to. */
export interface Cause {
  readonly traceparent?: string | null;
  /** The call whose cancellation cascades. */
  readonly parent?: CallContext;
}

export function background(service: string, log: CallLog): Background {
  const caller: Caller = { workload: `service:${service}`, user: null };
  return (name, timeoutMs, { traceparent, parent } = {}) =>
    openCall({
      kind: 'background',
      name,
      message: null,
      deadline: Date.now() + timeoutMs,
      trace: childTrace(traceparent ?? undefined),
      log,
      caller,
      parent,
    });
}

/** A periodic job, such as one that expires or deletes rows. */
export interface PeriodicJob {
  name: string;
  everyMs: number;
  /**
   * Does a bounded piece of work; returns how many items it handled. When that is more than 0 it is called again at
   * once.
   */
  run(call: CallContext): Promise<number>;
  /** Called when the service stops: a run in progress must end soon, and no other begins. */
  stop?(): void;
}
