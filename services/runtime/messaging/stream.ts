import type { ConfirmChannel, ConsumeMessage } from 'amqplib';
import type { Call } from '../rpc/call.ts';
import { RpcError } from '../rpc/errors.ts';
import { within } from '../waiting.ts';
import { type Delivery, readDelivery, type Session } from './delivery.ts';
import { bury, refuse, wait } from './failure.ts';
import { handleEvent, skipEvents } from './handling.ts';
import { type Lanes, openLanes } from './lanes.ts';
import type { StreamParts, StreamWork } from './stream-work.ts';
import { declareEventQueue, declareService } from './topology.ts';

export interface RunningStream {
  /** Resolves when the queue is bound and consumed for the first time. */
  started: Promise<void>;
  /** Takes a message that the broker gave up on: it becomes a dead letter in its turn. */
  giveUpOn(session: Session, message: ConsumeMessage): Promise<void>;
  /** Finishes what is being handled, for at most 2 s; the rest goes back to the queue. */
  stop(): Promise<void>;
}

const stopTimeoutMs = 2_000;

/** Consumes one queue: the events of one aggregate of one service. */
export function openStream(parts: StreamParts): RunningStream {
  const { stream, broker, log } = parts;
  const stopping = new AbortController();
  const on: StreamWork = { ...parts, stopping: stopping.signal, calls: new Set<Call>() };
  const lanes = lanesOf(on);
  const started = Promise.withResolvers<void>();
  const held = broker.subscribe(stream.consumer, async (channel) => {
    await consumeQueue(on, channel, lanes);
    started.resolve();
  });
  return {
    started: started.promise,
    async giveUpOn(session, message) {
      const delivery = readDelivery(session, message, { source: parts.source, user: broker.user });
      const reason = 'INTERNAL: the broker gave up after too many deliveries without an answer';
      if (delivery.fault !== null) await refuse(on, delivery);
      else if ((await bury(on, delivery, reason)) === 'early') await wait(on, delivery);
    },
    async stop() {
      stopping.abort();
      await within(stopTimeoutMs, lanes.stop(), `handling events of ${stream.consumer}`).catch((error: unknown) => {
        log.warn({ err: error, queue: stream.consumer }, 'events in progress are given up');
        for (const call of on.calls) call.cancel(new RpcError('CANCELLED', 'DRAINING', 'the service is stopping'));
      });
      await held.release();
    },
  };
}

function lanesOf(on: StreamWork): Lanes<Delivery> {
  const { limits, handlers } = on;
  return openLanes<Delivery>({
    width: limits.width,
    batchMax: limits.skipMax,
    batchable: (delivery) => !handlers.has(delivery.type),
    async work(deliveries) {
      const handler = handlers.get(deliveries[0]!.type);
      return handler ? [await handleEvent(on, handler, deliveries[0]!)] : skipEvents(on, deliveries);
    },
    stallMs: limits.earlyWaitMs,
    stalledMax: Math.floor(limits.prefetch / 2),
    giveUp: (deliveries) => {
      for (const delivery of deliveries) void wait(on, delivery);
    },
  });
}

/** Sets a new channel up: everything is declared, and messages begin to come. */
async function consumeQueue(on: StreamWork, channel: ConfirmChannel, lanes: Lanes<Delivery>): Promise<void> {
  const { service, source, stream, limits, broker, log } = on;
  await declareService(channel, service, limits.retryDelaysMs);
  await declareEventQueue(channel, service, source, stream.aggregate);
  await channel.prefetch(limits.prefetch);
  const session = openSession(channel, () => lanes.remove((delivery) => !delivery.session.open));
  await channel.consume(stream.consumer, (message) => {
    if (!message) {
      // The broker took the queue away; a new channel declares it again.
      void channel.close().catch((error: unknown) => log.debug({ err: error }, 'channel was closed already'));
      return;
    }
    const delivery = readDelivery(session, message, { source, user: broker.user });
    if (delivery.fault === null) lanes.add(delivery);
    else void refuse(on, delivery);
  });
}

/** A session ends with its channel; `onEnd` runs then. */
export function openSession(channel: ConfirmChannel, onEnd: () => void): Session {
  const session: Session = { channel, open: true };
  channel.once('close', () => {
    session.open = false;
    onEnd();
  });
  return session;
}
