import type { EventContract, ServiceContract } from '@armature/proto/contract.ts';
import type { ConsumeMessage } from 'amqplib';
import { crashPoint } from '../crash-point.ts';
import type { Database } from '../db/database.ts';
import type { Tx } from '../db/tx.ts';
import { type Call, compose, type Interceptor, openCall } from '../rpc/call.ts';
import { rpcError } from '../rpc/errors.ts';
import type { Logger } from '../telemetry/log.ts';
import { Gauge, type Registry } from '../telemetry/metrics.ts';
import { childTrace } from '../telemetry/trace.ts';
import type { Broker } from './connection.ts';
import { claimDeadLetter, loadDeadLetter } from './dead-letter.ts';
import { decode } from './handling.ts';
import type { Step } from './inbox.ts';
import { cached, consumerMetrics } from './metrics.ts';
import { openSession, openStream, type RunningStream } from './stream.ts';
import type { EventHandler, Run, StreamLimits } from './stream-work.ts';
import { deadQueue, declareService, groupByQueue, retryDelaysMs } from './topology.ts';

/** What a service does with one kind of event. */
export interface Consumer {
  readonly event: EventContract;
  readonly handle: EventHandler['handle'];
}

/**
 * Says what happens with an event. `handle` runs once per event in a transaction that also notes the event,
 * in the order of the aggregate's events; it acts through `tx` only. A permanent RpcError sets the event
 * aside as a dead letter; any other error tries it again later.
 */
export function consume<E>(
  event: EventContract<E>,
  handle: (message: E, call: Call, tx: Tx) => Promise<void>,
): Consumer {
  return { event, handle };
}

export interface ConsumerOptions {
  service: string;
  consumers: readonly Consumer[];
  /** The service's contracts; what they say it consumes must be exactly what `consumers` handle. */
  contracts: readonly ServiceContract[];
  db: Pick<Database, 'transaction' | 'read'>;
  broker: Broker;
  log: Logger;
  registry: Registry;
  /** Outermost first. */
  interceptors: readonly Interceptor[];
  /** Asks whether the publisher may publish the event. */
  authorize: (event: EventContract) => Interceptor;
  limits?: Partial<StreamLimits>;
}

export interface RunningConsumers {
  /** Resolves once every queue is bound and consumed. */
  readonly started: Promise<void>;
  /** Runs a dead letter's handler as if it came now. Any number of calls have one effect. */
  redrive(id: string): Promise<'redriven' | 'already'>;
  stop(): Promise<void>;
}

const defaultLimits: StreamLimits = {
  retryDelaysMs,
  prefetch: 200,
  width: 8,
  skipMax: 100,
  handleTimeoutMs: 30_000,
  earlyWaitMs: 2_000,
};

export function startConsumers(options: ConsumerOptions): RunningConsumers {
  const { service, db, broker, log, registry } = options;
  checkConsumers(options);
  const limits = { ...defaultLimits, ...options.limits };
  const handlers = new Map(options.consumers.map((consumer) => [consumer.event.type, handlerOf(options, consumer)]));
  const metrics = consumerMetrics(registry);
  deadLetterGauges(db, registry);
  const streams = new Map<string, RunningStream>();
  for (const [queue, events] of groupByQueue(
    service,
    options.consumers.map((consumer) => consumer.event),
  )) {
    const { source, aggregate } = events[0]!;
    const stream = { consumer: queue, aggregate };
    const ofQueue = new Map(events.map((event) => [event.type, handlers.get(event.type)!]));
    const parts = { service, source, stream, handlers: ofQueue, db, broker, log, metrics, limits };
    streams.set(queue, openStream(parts));
  }
  const dead = streams.size > 0 ? consumeDead(options, streams, limits) : null;
  const started = Promise.all([...streams.values()].map((stream) => stream.started)).then(() => undefined);
  return {
    started,
    redrive: (id) => redrive(options, handlers, limits.handleTimeoutMs, id),
    async stop() {
      await Promise.all([...streams.values()].map((stream) => stream.stop()));
      await dead?.release();
    },
  };
}

/** The contracts say what a service consumes, because they are what permissions and producers go by. */
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

/** Composes the chain of an event once. The work of each call is looked up by the call when the chain ends. */
function handlerOf({ db, interceptors, authorize }: ConsumerOptions, { event, handle }: Consumer): EventHandler {
  const works = new WeakMap<Call, (tx: Tx) => Promise<Step>>();
  const chain = compose([...interceptors, authorize(event)], (call) => db.transaction(call, works.get(call)!));
  const run: Run = (call, work) => {
    works.set(call, work);
    return chain(call) as Promise<Step>;
  };
  return { event, handle, run };
}

/** Turns what the broker gave up on into dead letters of the stream it came from. */
function consumeDead(options: ConsumerOptions, streams: ReadonlyMap<string, RunningStream>, limits: StreamLimits) {
  const { broker, service, log } = options;
  const queue = deadQueue(service);
  return broker.subscribe(queue, async (channel) => {
    await declareService(channel, service, limits.retryDelaysMs);
    await channel.prefetch(1);
    const session = openSession(channel, () => undefined);
    await channel.consume(queue, (message) => {
      const stream = message && streams.get(diedIn(message));
      if (stream) void stream.giveUpOn(session, message);
      else log.error({ queue }, 'a message died in a queue that this service does not consume; it stays where it is');
    });
  });
}

/** The queue whose delivery limit the message exceeded. */
function diedIn(message: ConsumeMessage): string {
  const deaths: unknown = message.properties.headers?.['x-death'];
  if (!Array.isArray(deaths)) return '';
  return String(deaths.find((death) => death?.reason === 'delivery_limit')?.queue ?? '');
}

async function redrive(
  { service, db, log }: ConsumerOptions,
  handlers: ReadonlyMap<string, EventHandler>,
  timeoutMs: number,
  id: string,
): Promise<'redriven' | 'already'> {
  const letter = await db.read(null, (sql) => loadDeadLetter(sql, id));
  if (!letter) throw rpcError('NOT_FOUND', 'DEAD_LETTER_NOT_FOUND', `no dead letter ${id}`);
  const handler = handlers.get(letter.type);
  if (!handler)
    throw rpcError('FAILED_PRECONDITION', 'EVENT_NOT_CONSUMED', `${service} no longer consumes ${letter.type}`);
  if (letter.aggregateId === null || letter.publisher !== handler.event.source) {
    throw rpcError('FAILED_PRECONDITION', 'DEAD_LETTER_FOREIGN', `${id} is no event of ${handler.event.source}`);
  }
  const headers: Record<string, unknown> = JSON.parse(letter.headers);
  const call = openCall({
    kind: 'consumer',
    name: letter.type,
    event: handler.event,
    message: decode(handler.event, letter.body),
    deadline: Date.now() + timeoutMs,
    trace: childTrace(typeof headers.traceparent === 'string' ? headers.traceparent : undefined),
    log,
    caller: { workload: `service:${letter.publisher}`, user: null },
    header: (name) => (typeof headers[name] === 'string' ? headers[name] : undefined),
  });
  try {
    const step = await handler.run(call, async (tx) => {
      if (!(await claimDeadLetter(tx, letter))) return 'duplicate';
      await handler.handle(call.message, call, tx);
      crashPoint('redrive.before-commit');
      return 'next';
    });
    if (step === 'next') crashPoint('redrive.committed');
    return step === 'next' ? 'redriven' : 'already';
  } finally {
    call.close();
  }
}

/** How many wait for an operator and since when, looked up when somebody scrapes and at most every 10 s. */
function deadLetterGauges(db: Pick<Database, 'read'>, registry: Registry): void {
  const load = cached(10_000, async () => {
    const rows = await db.read(null, (sql) =>
      sql.query<{ letters: number | string; age: number | string | null }>(
        `select count(*) as letters, timestampdiff(microsecond, min(dead_at), utc_timestamp(6)) as age
         from dead_letter where redriven_at is null and dropped_at is null`,
      ),
    );
    return { letters: Number(rows[0]?.letters ?? 0), ageSeconds: Number(rows[0]?.age ?? 0) / 1e6 };
  });
  new Gauge({
    name: 'armature_dead_letters',
    help: 'Dead letters that nobody has redriven or dropped',
    registers: [registry],
    async collect() {
      this.set((await load()).letters);
    },
  });
  new Gauge({
    name: 'armature_dead_letters_oldest_age_seconds',
    help: 'Age of the oldest of them; 0 when there is none',
    registers: [registry],
    async collect() {
      this.set((await load()).ageSeconds);
    },
  });
}
