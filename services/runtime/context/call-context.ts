import { randomUUID } from 'node:crypto';
import type { EventContract, MethodContract } from '@armature/proto/contract.ts';
import type { CompatibleAbortSignal } from '../time/abort-signal.ts';
import { type Attachments, attachments } from './keys.ts';
import type { TokenScope } from './token-scope.ts';
import type { TraceContext } from './trace.ts';

/** The logger of a call; pino's loggers implement it. */
export interface CallLog {
  child(bindings: Record<string, unknown>): CallLog;
  debug(bindings: object, message: string): void;
  info(bindings: object, message: string): void;
  warn(bindings: object, message: string): void;
  error(bindings: object, message: string): void;
  isLevelEnabled(level: string): boolean;
}

/** For calls whose logs are not kept, such as those of a client outside the mesh. */
export const silentLog: CallLog = {
  child: () => silentLog,
  debug() {},
  info() {},
  warn() {},
  error() {},
  isLevelEnabled: () => false,
};

/** The kind of a call: serving a request, making one, handling an event, or background work. */
export type CallKind = 'server' | 'client' | 'consumer' | 'background';

/** The subject of a token: a person, or a program that signed in by itself. */
export interface Subject {
  readonly kind: 'user' | 'client';
  /** The token's subject. */
  readonly subject: string;
}

export interface User extends Subject {
  /** The access token as it was received; it is forwarded unchanged. */
  readonly token: string;
  /** What the token may be used for. */
  readonly scope: TokenScope;
  /** When the subject signed in, epoch milliseconds; undefined where the token does not say. */
  readonly signedInAtMs?: number | undefined;
}

/** The caller of a call. Nothing is trusted before the authenticate interceptor has set it. */
export interface Caller {
  /** Casbin subject of the workload: "service:orders", "workload:developer". Null: not authenticated. */
  readonly workload: string | null;
  readonly user: User | null;
}

export const anonymous: Caller = Object.freeze({ workload: null, user: null });

/**
 * The context of one piece of work. It is always an argument, never a global. Other folders attach values that only
 * they and the folders below them need, by their own keys.
 */
// biome-ignore lint/suspicious/noExplicitAny: interceptors handle calls of every message type
export interface CallContext<M = any> extends Attachments {
  readonly kind: CallKind;
  /** Method path, event type or job name, as in logs and metrics. */
  readonly name: string;
  readonly method: MethodContract | null;
  readonly event: EventContract | null;
  message: M;
  /** Identifies this piece of work in the logs; sent with internal errors. The trace id spans all hops. */
  readonly id: string;
  /** Epoch milliseconds; always finite. */
  readonly deadline: number;
  /** Aborted when the deadline passes or the client cancels. */
  readonly signal: CompatibleAbortSignal;
  readonly trace: TraceContext;
  /** Logs with the fields of this call. Made at first use, because making it is expensive. */
  readonly log: CallLog;
  /** Whether lines of this level are written; the check does not make the log. */
  logs(level: string): boolean;
  /** Set by the authenticate interceptor. */
  caller: Caller;
  /** Returns a request header; undefined when absent. Binary headers are not available. */
  header(name: string): string | undefined;
  /** The reason of the cancellation; null when the call was not cancelled. */
  readonly cancelReason: Error | null;
  /** Aborts `signal`. */
  cancel(reason: Error): void;
  /** Ends the call, whatever its result; frees timers. */
  close(): void;
}

/** The result of a handler: the message for unary calls, nothing or an iterable for streams. */
export type Reply = unknown;
export type Handler = (call: CallContext) => Promise<Reply>;
/** Wraps a handler. The first interceptor of an array is the outermost. */
export type Interceptor = (next: Handler) => Handler;

/** Wraps `handler` in `interceptors`; called once per method at start. */
export function compose(interceptors: readonly Interceptor[], handler: Handler): Handler {
  return interceptors.reduceRight((next, interceptor) => interceptor(next), handler);
}

export interface CallInit<M> {
  kind: CallKind;
  name: string;
  method?: MethodContract | null;
  event?: EventContract | null;
  message: M;
  id?: string;
  deadline: number;
  trace: TraceContext;
  log: CallLog;
  caller?: Caller;
  header?: (name: string) => string | undefined;
  /** The call that caused this one: its cancellation cascades. */
  parent?: CallContext | null | undefined;
}

const noHeader = (): undefined => undefined;

export class DeadlineError extends Error {
  override name = 'DeadlineError';
}

/** Opens a call. The signal and its timer are made at first use. */
export function openCall<M>(init: CallInit<M>): CallContext<M> {
  let controller: AbortController | null = null;
  let timer: NodeJS.Timeout | null = null;
  let cancelled: Error | null = null;
  let log: CallLog | null = null;
  let unlink: (() => void) | null = null;
  let closed = false;
  const cancel = (reason: Error) => {
    if (closed || cancelled) return;
    cancelled = reason;
    controller?.abort(reason);
  };
  const arm = (): AbortController => {
    const made = new AbortController();
    controller = made;
    if (cancelled) made.abort(cancelled);
    else if (!closed) {
      const wait = Math.min(init.deadline - Date.now(), 2 ** 31 - 1);
      timer = setTimeout(() => cancel(new DeadlineError('the deadline passed')), Math.max(wait, 0));
      const parent = init.parent;
      if (parent) {
        const relay = () => cancel(parent.signal.reason);
        if (parent.signal.aborted) relay();
        else {
          parent.signal.addEventListener('abort', relay, { once: true });
          unlink = () => parent.signal.removeEventListener('abort', relay);
        }
      }
    }
    return made;
  };
  return {
    kind: init.kind,
    name: init.name,
    method: init.method ?? null,
    event: init.event ?? null,
    message: init.message,
    id: init.id ?? randomUUID(),
    deadline: init.deadline,
    get signal() {
      return (controller ?? arm()).signal;
    },
    trace: init.trace,
    get log() {
      log ??= init.log.child({ call: this.id, trace: init.trace.traceId, at: init.name });
      return log;
    },
    logs: (level) => init.log.isLevelEnabled(level),
    caller: init.caller ?? anonymous,
    ...attachments(),
    header: init.header ?? noHeader,
    get cancelReason() {
      return cancelled;
    },
    cancel,
    close() {
      closed = true;
      if (timer) clearTimeout(timer);
      unlink?.();
    },
  };
}

/** Casbin subject of a token's subject: "user:ada", "client:reports". */
export const subjectOf = ({ kind, subject }: Subject): string => `${kind}:${subject}`;

/** The principal that owns idempotency keys: the token's subject if there is one, else the workload. */
export function principalOf(caller: Caller): string {
  return caller.user ? subjectOf(caller.user) : (caller.workload ?? 'anonymous');
}
