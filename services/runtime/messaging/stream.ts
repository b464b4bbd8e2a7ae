import type { ConfirmChannel, ConsumeMessage } from 'amqplib';
import type { CallContext } from '../context/call-context.ts';
import { RpcError } from '../errors/errors.ts';
import { withTimeout } from '../time/timeout.ts';
import { baselineType, type Delivery, isBaseline, readDelivery, type Session } from './delivery.ts';
import { deadLetter, fail, rejectForeign, wait } from './failure.ts';
import { handleBaseline, handleEvent, skipEvents } from './handling.ts';
import { type KeyedExecutor, openKeyedExecutor, type TaskResult } from './keyed-executor.ts';
import { quietly } from './managed-channel.ts';
import type { StreamParts, StreamWork } from './stream-work.ts';
import { declareEventQueue, declareService } from './topology.ts';

export interface RunningStream {
  /** Resolves when the queue is bound and consumed for the first time. */
  started: Promise<void>;
  /** The reason why the queue is not consumed now; null when it is. */
  fault(): string | null;
  /** Takes a message that exceeded the broker's delivery limit: it becomes a dead letter in its turn. */
  giveUpOn(session: Session, message: ConsumeMessage): Promise<void>;
  /** Finishes deliveries in progress, for at most 2 s; the rest returns to the queue. */
  stop(): Promise<void>;
}

const stopTimeoutMs = 2_000;
const channelLost = 'its channel was lost';

/** Consumes one queue: the events of one aggregate of one service. */
export function openStream(parts: StreamParts): RunningStream {
  const { stream, broker, log, gate, limits } = parts;
  const stopping = new AbortController();
  const on: StreamWork = { ...parts, stopping: stopping.signal, calls: new Set<CallContext>() };
  const executor = executorOf(on);
  const started = Promise.withResolvers<void>();
  let consuming: Session | null = null;
  let refusal: string | null = null;
  const subscription = broker.subscribe(stream.consumer, async (channel) => {
    const session = await declareQueue(on, channel, executor);
    void consumeWhenOpen(on, session, executor).then((refused) => {
      refusal = refused;
      if (refused !== null) return;
      consuming = session;
      started.resolve();
    });
  });
  let release: NodeJS.Timeout | undefined;
  gate.onChange((missing) => {
    clearTimeout(release);
    if (missing === null) return executor.resume();
    executor.pause();
    release = setTimeout(() => {
      const channel = subscription.current();
      if (channel) void quietly(channel.close());
    }, limits.pauseReleaseMs);
  });
  return {
    started: started.promise,
    fault() {
      if (consuming?.open) return null;
      return subscription.failure() ?? gate.missing() ?? refusal ?? 'not consumed yet';
    },
    async giveUpOn(session, message) {
      const delivery = readDelivery(session, message, { source: parts.source, user: broker.user });
      const reason = 'INTERNAL: the broker gave up after too many deliveries without an acknowledgement';
      if (delivery.fault !== null) return rejectForeign(on, delivery);
      for (let result: TaskResult = 'again'; result === 'again' && session.open && !stopping.signal.aborted; ) {
        await gate.whenOpen(stopping.signal);
        result = await deadLetter(on, delivery, reason);
        if (result === 'early') await wait(on, delivery);
      }
    },
    async stop() {
      stopping.abort();
      clearTimeout(release);
      await withTimeout(stopTimeoutMs, executor.stop(), `handling events of ${stream.consumer}`).catch(
        (error: unknown) => {
          log.warn({ err: error, queue: stream.consumer }, 'events in progress are given up');
          for (const call of on.calls) call.cancel(new RpcError('CANCELLED', 'DRAINING', 'the service is stopping'));
        },
      );
      await subscription.release();
    },
  };
}

function executorOf(on: StreamWork): KeyedExecutor<Delivery> {
  const { limits, handlers } = on;
  const isBatchable = ({ type }: Delivery) =>
    !handlers.has(type) && type !== baselineType && on.known(type) !== 'other';
  const executor = openKeyedExecutor<Delivery>({
    width: limits.width,
    batchMax: limits.skipMax,
    batchable: isBatchable,
    async work(deliveries) {
      const [first] = deliveries;
      if (isBatchable(first!)) return skipEvents(on, deliveries);
      if (isBaseline(first!)) return [await handleBaseline(on, first!)];
      const handler = handlers.get(first!.type);
      return [handler ? await handleEvent(on, handler, first!) : await fail(on, first!, mismatched(on, first!))];
    },
    stallMs: limits.earlyWaitMs,
    stalledMax: Math.floor(limits.prefetch / 2),
    giveUp: (deliveries) => {
      for (const delivery of deliveries) void wait(on, delivery);
    },
  });
  if (on.gate.missing() !== null) executor.pause();
  return executor;
}

const mismatched = ({ stream }: StreamWork, { type }: Delivery): RpcError =>
  new RpcError('INVALID_ARGUMENT', 'EVENT_MISMATCHED', `${type} is no event of ${stream.aggregate}`);

/** Sets up a new channel: declares everything that the queue needs, now and periodically. */
async function declareQueue(
  on: StreamWork,
  channel: ConfirmChannel,
  executor: KeyedExecutor<Delivery>,
): Promise<Session> {
  const { service, source, stream, limits, log } = on;
  const declare = () => declareEventQueue(channel, service, source, stream.aggregate);
  await declareService(channel, service, limits.retryDelaysMs);
  await declare();
  await channel.prefetch(limits.prefetch);
  const check = setInterval(() => {
    // An error of the broker closes the channel; setting up the next one reports the cause.
    declare().catch((error: unknown) => log.debug({ err: error, queue: stream.consumer }, 'queue not declared again'));
  }, limits.topologyCheckMs);
  return openSession(channel, () => {
    clearInterval(check);
    executor.remove((delivery) => !delivery.session.open);
  });
}

/** Starts to consume once events can be handled. Resolves with the reason why it does not; null when it does. */
async function consumeWhenOpen(
  on: StreamWork,
  session: Session,
  executor: KeyedExecutor<Delivery>,
): Promise<string | null> {
  const { source, stream, broker, log, gate } = on;
  const { channel } = session;
  await gate.whenOpen(on.stopping);
  if (!session.open || on.stopping.aborted) return channelLost;
  try {
    await channel.consume(stream.consumer, (message) => {
      if (!message) {
        // The broker has cancelled the consumer, as when the queue was deleted; a new channel declares it again.
        void quietly(channel.close());
        return;
      }
      const delivery = readDelivery(session, message, { source, user: broker.user });
      if (delivery.fault === null) executor.add(delivery);
      else void rejectForeign(on, delivery);
    });
    return session.open ? null : channelLost;
  } catch (error) {
    // An error of the broker closes the channel, and is logged once.
    log.debug({ err: error, queue: stream.consumer }, 'queue not consumed; its channel is opened again');
    await quietly(channel.close());
    return error instanceof Error ? error.message : String(error);
  }
}

/** Makes the session of a channel. `onEnd` runs when the channel closes. */
export function openSession(channel: ConfirmChannel, onEnd: () => void): Session {
  const session: Session = { channel, open: true };
  channel.once('close', () => {
    session.open = false;
    onEnd();
  });
  return session;
}
