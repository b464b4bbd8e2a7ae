import type { EventContract } from '@armature/proto/contract.ts';
import { type CallContext, openCall } from '../context/call-context.ts';
import { childTrace } from '../context/trace.ts';
import type { Database } from '../db/database.ts';
import type { Tx } from '../db/tx.ts';
import type { Logger } from '../telemetry/log.ts';
import type { BaselineHandler } from './baseline.ts';
import type { Broker } from './connection.ts';
import { acknowledge, type Delivery } from './delivery.ts';
import type { EarlyWatch } from './early.ts';
import type { Gate } from './gate.ts';
import type { Step, Stream } from './inbox.ts';
import type { TaskResult } from './keyed-executor.ts';
import type { ConsumerMetrics } from './metrics.ts';
import { shortType } from './topology.ts';

/** Runs `work` in a transaction behind the interceptors of its event. */
export type Run = (call: CallContext, work: (tx: Tx) => Promise<Step>) => Promise<Step>;

export interface EventHandler {
  readonly event: EventContract;
  // biome-ignore lint/suspicious/noExplicitAny: a list holds handlers of different events
  readonly handle: (message: any, call: CallContext, tx: Tx) => Promise<void>;
  /** Whether its dead letter may be handled after later events of its aggregate. */
  readonly orderIndependent: boolean;
  readonly run: Run;
}

export interface StreamLimits {
  /** Waiting time before each retry; after the last one a message is a dead letter. */
  retryDelaysMs: readonly number[];
  /** Most unacknowledged messages of the consumer. */
  prefetch: number;
  /** Events of different aggregates handled at once. */
  width: number;
  /** Unhandled events skipped in one transaction. */
  skipMax: number;
  handleTimeoutMs: number;
  /** How long an early event waits in memory before it waits in a retry queue. */
  earlyWaitMs: number;
  /** How long an aggregate waits for its next event before a gauge and the log report it. */
  earlyShownMs: number;
  /** After a pause of this length deliveries return to the queue, for another process of the service. */
  pauseReleaseMs: number;
  /** How often exchanges, queues and bindings are declared again. */
  topologyCheckMs: number;
}

export interface StreamParts {
  service: string;
  source: string;
  stream: Stream;
  /** By event type. Other types only step the sequence. */
  handlers: ReadonlyMap<string, EventHandler>;
  baselines: { readonly handlers: readonly BaselineHandler[]; readonly run: Run; readonly contract: EventContract };
  /** Classifies types by the contracts that this service was built with. */
  known: KnownTypes;
  db: Pick<Database, 'transaction'>;
  broker: Broker;
  log: Logger;
  metrics: ConsumerMetrics;
  limits: StreamLimits;
  gate: Gate;
  early: EarlyWatch;
}

/** Whether a type is an event of the stream, an event of another one, or in no contract. */
export type KnownTypes = (type: string) => 'ours' | 'other' | 'unknown';

/** A running stream: its parts, and its work in progress. */
export interface StreamWork extends StreamParts {
  readonly stopping: AbortSignal;
  readonly calls: Set<CallContext>;
}

/** Runs `work` as a call of the delivery's publisher, within the time limit of handling. */
export async function asCall<T>(
  on: StreamWork,
  delivery: Delivery,
  about: { name: string; event: EventContract | null },
  work: (call: CallContext) => Promise<T>,
): Promise<T> {
  const headers: Record<string, unknown> = delivery.message.properties.headers ?? {};
  const call = openCall({
    kind: 'consumer',
    ...about,
    message: null,
    deadline: Date.now() + on.limits.handleTimeoutMs,
    trace: childTrace(delivery.traceparent),
    log: on.log,
    caller: { workload: `service:${delivery.publisher}`, user: null },
    header: (name) => (typeof headers[name] === 'string' ? headers[name] : undefined),
  });
  on.calls.add(call);
  try {
    return await work(call);
  } finally {
    on.calls.delete(call);
    call.close();
  }
}

/** The event's label in metrics. A publisher can send any type; labels are only those of the contracts. */
export const labelOf = (on: Pick<StreamParts, 'known'>, { type }: Pick<Delivery, 'type'>): string =>
  on.known(type) === 'unknown' ? 'unknown' : shortType(type);

/** Counts and acknowledges a delivery whose transaction has committed, unless it came early and must wait. */
export function ackDelivery(
  on: StreamWork,
  delivery: Delivery,
  step: Step,
  outcome: 'handled' | 'skipped' | 'deadLetters',
): TaskResult {
  const { metrics, log, early, stream } = on;
  const event = labelOf(on, delivery);
  if (step === 'early') {
    metrics.early.inc({ event });
    early.early(stream.consumer, delivery.aggregateId, delivery.earlySinceMs || Date.now());
    return 'early';
  }
  if (delivery.fault === null) early.inTurn(stream.consumer, delivery.aggregateId);
  metrics[step === 'duplicate' ? 'duplicates' : step === 'superseded' ? 'superseded' : outcome].inc({ event });
  if (step === 'next' && outcome === 'handled' && delivery.createdAtMs > 0) {
    metrics.lagSeconds.observe({ event }, Math.max(0, Date.now() - delivery.createdAtMs) / 1000);
  }
  acknowledge(delivery, log);
  return 'done';
}

/** The fields of a delivery for logs, without its payload. */
export const facts = (delivery: Delivery) => ({
  message_id: delivery.messageId,
  event: delivery.type,
  publisher: delivery.publisher,
  attempt: delivery.attempt,
});
