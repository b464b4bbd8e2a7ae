import type { EventContract, ServiceContract } from '@armature/proto/contract.ts';
import { publishedEvents } from '@armature/proto/subscriptions.ts';
import { type CallContext, compose, type Interceptor } from '../context/call-context.ts';
import type { Database } from '../db/database.ts';
import type { Tx } from '../db/tx.ts';
import type { Logger } from '../telemetry/log.ts';
import type { Registry } from '../telemetry/metrics.ts';
import { type BaselineHandler, baselineContract } from './baseline.ts';
import type { Broker } from './connection.ts';
import { deadLetterGauges } from './dead-letter-gauges.ts';
import { consumeDead, type RunningDeadQueue } from './dead-queue.ts';
import { watchEarly } from './early.ts';
import { type Gate, openGate } from './gate.ts';
import type { Step } from './inbox.ts';
import { consumerMetrics } from './metrics.ts';
import { queueGauge } from './queue-gauge.ts';
import { type Redrive, redriving } from './redrive.ts';
import { openStream, type RunningStream } from './stream.ts';
import type { EventHandler, KnownTypes, Run, StreamLimits } from './stream-work.ts';
import { deadQueue, groupByQueue, retryDelaysMs } from './topology.ts';

/** How a service handles one event type. */
export interface Consumer {
  readonly event: EventContract;
  readonly handle: EventHandler['handle'];
  readonly orderIndependent: boolean;
}

export interface ConsumeOptions {
  /**
   * The effect does not depend on other events of the aggregate, such as an e-mail about one event. A dead letter of
   * such an event may be redriven at any time; others only while no later event of the aggregate was applied.
   */
  orderIndependent?: boolean;
}

/**
 * Declares the handler of an event. `handle` runs once per event in a transaction that also records the event, in the
 * order of the aggregate's events; it acts through `tx` only. A permanent RpcError makes the event a dead letter; after
 * any other error it is retried later.
 */
export function consume<E>(
  event: EventContract<E>,
  handle: (message: E, call: CallContext, tx: Tx) => Promise<void>,
  { orderIndependent = false }: ConsumeOptions = {},
): Consumer {
  return { event, handle, orderIndependent };
}

export interface ConsumerOptions {
  service: string;
  consumers: readonly Consumer[];
  /** The service's contracts; the events that they consume must be exactly those that `consumers` handle. */
  contracts: readonly ServiceContract[];
  db: Pick<Database, 'transaction' | 'read' | 'write'>;
  broker: Broker;
  log: Logger;
  registry: Registry;
  /** Outermost first. */
  interceptors: readonly Interceptor[];
  /** Checks whether the publisher may publish the event. */
  authorize: (event: EventContract) => Interceptor;
  /** Handlers of the states in baselines. */
  baselines?: readonly BaselineHandler[];
  /** Whether there is a trusted policy; without one consumption pauses. */
  policyLoaded?: () => boolean;
  /** The events that contracts declare; those of the generated contracts by default. */
  published?: readonly PublishedEvent[];
  limits?: Partial<StreamLimits>;
}

export type PublishedEvent = Pick<EventContract, 'type' | 'source' | 'aggregate'>;

export interface RunningConsumers extends Redrive {
  /** Resolves once every queue is bound and consumed. */
  readonly started: Promise<void>;
  /** Queues that are not consumed now, with the reason: "notifications.orders.order: …". */
  faults(): string[];
  stop(): Promise<void>;
}

const defaultLimits: StreamLimits = {
  retryDelaysMs,
  prefetch: 200,
  width: 8,
  skipMax: 100,
  handleTimeoutMs: 30_000,
  earlyWaitMs: 2_000,
  earlyShownMs: 60_000,
  pauseReleaseMs: 10_000,
  topologyCheckMs: 30_000,
};

export function startConsumers(options: ConsumerOptions): RunningConsumers {
  const { service, db, log, registry } = options;
  checkConsumers(options);
  const limits = { ...defaultLimits, ...options.limits };
  const handlers = new Map(options.consumers.map((consumer) => [consumer.event.type, handlerOf(options, consumer)]));
  deadLetterGauges(db, registry);
  const redrive = redriving({ service, db, log, handlers, timeoutMs: limits.handleTimeoutMs });
  if (handlers.size === 0) return { ...redrive, started: Promise.resolve(), faults: () => [], stop: async () => {} };

  const gate = openGate({ db, policyLoaded: options.policyLoaded ?? (() => true), log, registry });
  const { streams, dead } = openStreams(options, { handlers, limits, gate });
  const started = Promise.all([...streams.values()].map((stream) => stream.started)).then(() => undefined);
  const queues = new Map<string, { fault(): string | null }>([...streams, [deadQueue(service), dead]]);
  queueGauge(queues, registry);
  return {
    ...redrive,
    started,
    faults: () =>
      [...queues].flatMap(([queue, { fault }]) => {
        const why = fault();
        return why === null ? [] : [`${queue}: ${why}`];
      }),
    async stop() {
      gate.stop();
      await Promise.all([...streams.values()].map((stream) => stream.stop()));
      await dead.stop();
    },
  };
}

function openStreams(
  options: ConsumerOptions,
  work: { handlers: ReadonlyMap<string, EventHandler>; limits: StreamLimits; gate: Gate },
): { streams: ReadonlyMap<string, RunningStream>; dead: RunningDeadQueue } {
  const { service, db, broker, log, registry, consumers } = options;
  const { handlers, limits, gate } = work;
  const metrics = consumerMetrics(registry);
  const early = watchEarly({ registry, log, shownAfterMs: limits.earlyShownMs });
  const streams = new Map<string, RunningStream>();
  const events = consumers.map((consumer) => consumer.event);
  for (const [queue, ofQueue] of groupByQueue(service, events)) {
    const { source, aggregate } = ofQueue[0]!;
    streams.set(
      queue,
      openStream({
        ...{ service, source, db, broker, log, metrics, limits, gate, early },
        stream: { consumer: queue, aggregate },
        handlers: new Map(ofQueue.map((event) => [event.type, handlers.get(event.type)!])),
        baselines: baselinesOf(options, ofQueue[0]!),
        known: knownTypes(options.published ?? publishedEvents, ofQueue),
      }),
    );
  }
  const { retryDelaysMs: delays, topologyCheckMs } = limits;
  const dead = consumeDead({ service, db, broker, log, metrics, retryDelaysMs: delays, topologyCheckMs, streams });
  return { streams, dead };
}

/** Classifies an event type for the queue of these events. */
function knownTypes(published: readonly PublishedEvent[], ofQueue: readonly EventContract[]): KnownTypes {
  const { source, aggregate } = ofQueue[0]!;
  const isOurs = (event: PublishedEvent) => event.source === source && event.aggregate === aggregate;
  const ours = new Set([...published.filter(isOurs), ...ofQueue].map((event) => event.type));
  const others = new Set(published.filter((event) => !isOurs(event)).map((event) => event.type));
  return (type) => (ours.has(type) ? 'ours' : others.has(type) ? 'other' : 'unknown');
}

/** Permissions and producers rely on what the contracts say a service consumes, so the handlers must match. */
function checkConsumers({ service, consumers, contracts }: ConsumerOptions): void {
  const declared = new Set(contracts.flatMap((contract) => contract.consumes.map((event) => event.type)));
  const handled = new Set<string>();
  for (const { event } of consumers) {
    if (handled.has(event.type)) throw new Error(`${service} has two consumers of ${event.type}`);
    if (!declared.has(event.type))
      throw new Error(`${service} consumes ${event.type}, which its contract does not name`);
    handled.add(event.type);
  }
  for (const type of declared) {
    if (!handled.has(type)) throw new Error(`${service} has no consumer of ${type}, which its contract names`);
  }
}

function handlerOf(options: ConsumerOptions, { event, handle, orderIndependent }: Consumer): EventHandler {
  return { event, handle, orderIndependent, run: chainOf(options, event) };
}

function baselinesOf(options: ConsumerOptions, of: EventContract) {
  const contract = baselineContract(of);
  const ofStream = (handler: BaselineHandler) => handler.source === of.source && handler.aggregate === of.aggregate;
  return { contract, run: chainOf(options, contract), handlers: (options.baselines ?? []).filter(ofStream) };
}

/** Composes the chain of an event once. The end of the chain finds the work of each call by the call. */
function chainOf({ db, interceptors, authorize }: ConsumerOptions, event: EventContract): Run {
  const works = new WeakMap<CallContext, (tx: Tx) => Promise<Step>>();
  const chain = compose([...interceptors, authorize(event)], (call) => db.transaction(call, works.get(call)!));
  return (call, work) => {
    works.set(call, work);
    return chain(call) as Promise<Step>;
  };
}
