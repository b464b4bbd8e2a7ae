import type { ConfirmChannel, ConsumeMessage } from 'amqplib';
import type { Logger } from '../telemetry/log.ts';
import { aggregateIdPattern } from './outbox.ts';

/**
 * The lifetime of one consumer channel. Deliveries of an ended session cannot be acknowledged; the broker sends them
 * again.
 */
export interface Session {
  readonly channel: ConfirmChannel;
  open: boolean;
}

/** A message from a queue, with the envelope fields that the runtime reads. */
export interface Delivery {
  readonly session: Session;
  readonly message: ConsumeMessage;
  readonly messageId: string;
  readonly type: string;
  /** The routing key of the first publish; a retried message returns under another. */
  readonly routingKey: string;
  /** The broker user that published the event; empty when the message has none. */
  readonly publisher: string;
  readonly aggregateId: string;
  readonly sequence: bigint;
  /** 1 at first. */
  readonly attempt: number;
  /** How often it was delayed because its predecessor was missing. */
  readonly waits: number;
  /** When it was first found to be early, epoch milliseconds; 0 when it was not early. */
  readonly earlySinceMs: number;
  /** Epoch milliseconds; 0 when the message has no time. */
  readonly createdAtMs: number;
  readonly traceparent: string | undefined;
  /** Why this cannot be an event of the queue's source; null when it can. */
  readonly fault: string | null;
}

/** Headers that a retried message has in addition to its own. */
export const retryHeaders = {
  attempt: 'armature-attempt',
  waits: 'armature-waits',
  earlySince: 'armature-early-since-ms',
  publisher: 'armature-publisher',
  routingKey: 'armature-routing-key',
} as const;

const uuidPattern = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
const sequencePattern = /^[1-9][0-9]{0,18}$/;
/** A full message name, as event types are. */
const typePattern = /^[A-Za-z_]\w*(\.[A-Za-z_]\w*)+$/;

/** The type of messages that carry a baseline. They are not events of the owner and have no place in its sequence. */
export const baselineType = 'armature.runtime.v1.Baseline';

export const isBaseline = (delivery: Pick<Delivery, 'type'>): boolean => delivery.type === baselineType;

/**
 * Reads the envelope. The broker rejects a user-id other than the publisher's own, so that property identifies the
 * publisher. A retried message is published by the consumer itself and names the first publisher in a header, which is
 * trusted only in messages of this service.
 */
export function readDelivery(
  session: Session,
  message: ConsumeMessage,
  queue: { source: string; user: string },
): Delivery {
  const { properties, fields } = message;
  const headers = properties.headers ?? {};
  const userId = text(properties.userId);
  const ours = userId === queue.user;
  const publisher = ours ? text(headers[retryHeaders.publisher]) || userId : userId;
  const delivery = {
    session,
    message,
    messageId: text(properties.messageId),
    type: text(properties.type),
    routingKey: (ours && text(headers[retryHeaders.routingKey])) || fields.routingKey,
    publisher,
    aggregateId: text(headers['aggregate-id']),
    // A baseline has no sequence number of its own: it replaces events that are missing.
    sequence:
      text(properties.type) !== baselineType && sequencePattern.test(text(headers.sequence))
        ? BigInt(text(headers.sequence))
        : 0n,
    attempt: ours ? count(headers[retryHeaders.attempt]) || 1 : 1,
    waits: ours ? count(headers[retryHeaders.waits]) : 0,
    earlySinceMs: ours ? count(headers[retryHeaders.earlySince]) : 0,
    createdAtMs: count(headers['created-at-ms']),
    traceparent: text(headers.traceparent) || undefined,
  };
  return { ...delivery, fault: faultOf(delivery, queue.source) };
}

function faultOf(delivery: Omit<Delivery, 'fault'>, source: string): string | null {
  if (delivery.publisher === '') return 'user-id is missing';
  if (delivery.publisher !== source) return `published by ${delivery.publisher}, which is not ${source}`;
  if (!uuidPattern.test(delivery.messageId)) return 'message-id is not a UUID';
  if (!aggregateIdPattern.test(delivery.aggregateId)) return 'header aggregate-id is missing or malformed';
  if (delivery.sequence === 0n && !isBaseline(delivery)) return 'header sequence is missing or malformed';
  if (delivery.type.length > 190 || !typePattern.test(delivery.type)) return 'type is not the full name of an event';
  return null;
}

const text = (value: unknown): string => (typeof value === 'string' ? value : '');
const count = (value: unknown): number =>
  typeof value === 'number' && Number.isSafeInteger(value) && value > 0 ? value : 0;

/** Acknowledges the message. On a lost channel nothing is sent; the broker delivers the message again. */
export function acknowledge(delivery: Delivery, log: Logger): void {
  if (!delivery.session.open) return;
  try {
    delivery.session.channel.ack(delivery.message);
  } catch (error) {
    // The channel is closing and its close event will follow.
    log.debug({ err: error, message_id: delivery.messageId }, 'not acknowledged; the message will come again');
  }
}
