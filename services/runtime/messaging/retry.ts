import { RpcError } from '../errors/errors.ts';
import { type Delivery, retryHeaders } from './delivery.ts';
import type { OutgoingMessage } from './publisher.ts';
import { retryExchange, retryRoutingKey } from './topology.ts';

/** Codes that say nothing against the message: the same one may well succeed later. */
const transientCodes: ReadonlySet<string> = new Set([
  'UNAVAILABLE',
  'ABORTED',
  'DEADLINE_EXCEEDED',
  'RESOURCE_EXHAUSTED',
  'CANCELLED',
  'INTERNAL',
  'UNKNOWN',
]);

/** Whether trying again is pointless. What is not an RpcError is a fault of ours and may be mended meanwhile. */
export function isPermanent(error: unknown): boolean {
  return error instanceof RpcError && !transientCodes.has(error.code);
}

/** One line for operators: what went wrong, without anything from the payload. */
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
  /** Of an event that waits for its predecessor: since when. */
  earlySinceMs?: number;
}

/** The same message, to come back to its queue after a while. The broker's own death headers stay behind. */
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
