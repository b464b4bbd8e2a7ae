import { RpcError } from '../errors/errors.ts';
import { type Delivery, retryHeaders } from './delivery.ts';
import type { OutgoingMessage } from './publisher.ts';
import { retryExchange, retryRoutingKey } from './topology.ts';

/** Codes that are not caused by the message: the same one may succeed later. */
const transientCodes: ReadonlySet<string> = new Set([
  'UNAVAILABLE',
  'ABORTED',
  'DEADLINE_EXCEEDED',
  'RESOURCE_EXHAUSTED',
  'CANCELLED',
  'INTERNAL',
  'UNKNOWN',
]);

/**
 * Whether a retry is pointless. An error that is not an RpcError is a fault of this service and may be repaired
 * meanwhile.
 */
export function isPermanent(error: unknown): boolean {
  return error instanceof RpcError && !transientCodes.has(error.code);
}

/** One line for operators: the error, without anything from the payload. */
export function reasonOf(error: unknown): string {
  const said =
    error instanceof RpcError ? `${error.code} ${error.reason}: ${error.message}` : `INTERNAL: ${messageOf(error)}`;
  return said.slice(0, 1000);
}

const messageOf = (error: unknown): string =>
  error instanceof Error ? `${error.name}: ${error.message}` : String(error);

export interface Postponement {
  service: string;
  queue: string;
  delayMs: number;
  attempt: number;
  waits: number;
  /** Since when an early event waits for its predecessor. */
  earlySinceMs?: number;
}

/**
 * Makes the same message for a retry queue, which returns it to its queue after a delay. The broker's own death headers
 * are removed.
 */
export function postponed(
  delivery: Delivery,
  { service, queue, delayMs, attempt, waits, earlySinceMs = 0 }: Postponement,
): OutgoingMessage {
  const { properties, content } = delivery.message;
  const headers = Object.fromEntries(
    Object.entries(properties.headers ?? {}).filter(([name]) => !name.startsWith('x-')),
  );
  return {
    exchange: retryExchange(service),
    routingKey: retryRoutingKey(delayMs, queue),
    body: content,
    properties: {
      messageId: delivery.messageId,
      type: delivery.type,
      contentType: properties.contentType,
      timestamp: properties.timestamp,
      appId: properties.appId,
      headers: {
        ...headers,
        [retryHeaders.attempt]: attempt,
        [retryHeaders.waits]: waits,
        [retryHeaders.earlySince]: earlySinceMs,
        [retryHeaders.publisher]: delivery.publisher,
        [retryHeaders.routingKey]: delivery.routingKey,
      },
    },
  };
}
