import type { Book } from './book.ts';
import type { WebhookConfig } from './config.ts';
import { describe, type Logger } from './logger.ts';
import type { OperationRecord } from './record.ts';
import { openWebhookProgress } from './webhook-progress.ts';
import { type WebhookPoster, webhookPoster } from './webhook-request.ts';
import { type Event, type EventWindow, eventWindow } from './webhook-window.ts';

const UNDER_WAY_LIMIT = 16;

export type Webhooks = {
  /** Tells that the log of operations has new records. */
  wake(): void;
  /** Resolves when the event of an operation was attempted once, or after a time limit. */
  attempted(position: number, limit_ms: number): Promise<void>;
  close(): Promise<void>;
};

export const noWebhooks: Webhooks = { wake() {}, attempted: async () => {}, close: async () => {} };

/**
 * Follows the log of operations and sends the receiver an event for each, at least once, until the response is 2xx or
 * the attempts are used up.
 */
export async function openWebhooks(
  config: WebhookConfig,
  { book, dataDirectory, logger }: { book: Book; dataDirectory: string; logger: Logger },
): Promise<Webhooks> {
  const progress = await openWebhookProgress(dataDirectory);
  const window = eventWindow(config, book, progress);
  const poster = webhookPoster(config);
  const waiting = new Map<number, Set<() => void>>();

  async function attempt(event: Event): Promise<void> {
    const { position } = event;
    event.attempts += 1;
    const failure = await post(poster, event, book);
    for (const resolve of waiting.get(position) ?? []) resolve();
    const given_up = failure !== '' && event.attempts >= config.maxAttempts;
    if (failure !== '' && !given_up) {
      event.due_ms = Date.now() + backoff_ms(config, event.attempts);
      logger.debug('a webhook failed and is retried', { position, attempts: event.attempts, failure });
      return;
    }
    if (given_up) logger.error('a webhook was given up', { position, attempts: event.attempts, failure });
    await window.end(event, given_up ? 'given_up' : 'delivered');
  }

  const scheduler = startScheduler(window, attempt, logger, config.maxBackoffMs);
  return {
    wake: scheduler.wake,
    async attempted(position, limit_ms) {
      await new Promise<void>((resolve) => {
        const all = waiting.get(position) ?? new Set();
        waiting.set(position, all.add(resolve));
        setTimeout(resolve, limit_ms).unref();
      });
      waiting.delete(position);
    },
    async close() {
      await scheduler.close();
      poster.close();
      await progress.close();
    },
  };
}

/** Sends the event, twice where its card asks for that. Returns why that failed, or '' when every response was 2xx. */
async function post(poster: WebhookPoster, event: Event, book: Book): Promise<string> {
  const body = JSON.stringify(eventOf(event.position, event.record, book));
  const copies = event.record.webhook_rule === 'twice' ? 2 : 1;
  try {
    const statuses = await Promise.all(Array.from({ length: copies }, () => poster.post(body)));
    const refused = statuses.find((status) => status < 200 || status > 299);
    return refused === undefined ? '' : `the response was ${refused}`;
  } catch (error) {
    return describe(error);
  }
}

/** Attempts the events of the window when they are due, some of them at a time. */
function startScheduler(
  window: EventWindow,
  attempt: (event: Event) => Promise<void>,
  logger: Logger,
  retryReadMs: number,
): { wake(): void; close(): Promise<void> } {
  const stopping = new AbortController();
  const underWay = new Set<Promise<void>>();
  let timer: NodeJS.Timeout | undefined;
  let pumping: Promise<void> | undefined;
  let again = false;

  function start(event: Event): void {
    const { position } = event;
    event.underWay = true;
    const run = attempt(event)
      .catch((error) => logger.error('the end of a webhook was not recorded', { position, error: describe(error) }))
      .finally(() => {
        event.underWay = false;
        underWay.delete(run);
        wake();
      });
    underWay.add(run);
  }

  async function pump(): Promise<void> {
    do {
      again = false;
      await window.fill();
      for (const event of window.due(Date.now())) {
        if (underWay.size >= UNDER_WAY_LIMIT || stopping.signal.aborted) break;
        start(event);
      }
    } while (again && !stopping.signal.aborted);
    const next_ms = window.nextDue_ms();
    clearTimeout(timer);
    // At the limit no timer is needed: the end of any attempt wakes the scheduler.
    if (next_ms !== Infinity && underWay.size < UNDER_WAY_LIMIT && !stopping.signal.aborted) {
      timer = setTimeout(wake, Math.max(1, next_ms - Date.now()));
    }
  }

  function wake(): void {
    again = true;
    if (stopping.signal.aborted) return;
    pumping ??= pump()
      .catch((error) => {
        logger.error('the log of operations could not be read', { error: describe(error) });
        timer = setTimeout(wake, retryReadMs);
      })
      .finally(() => {
        pumping = undefined;
      });
  }

  wake();
  return {
    wake,
    async close() {
      stopping.abort();
      clearTimeout(timer);
      await pumping;
      await Promise.all(underWay);
    },
  };
}

/** A settlement or expiration has no key of its own; its event carries the key of the authorization. */
function eventOf(position: number, { operation }: OperationRecord, book: Book): object {
  const key = operation.idempotency_key ?? book.charge(operation.charge_id ?? '')?.authorization_key ?? null;
  return {
    event_id: `evt_${operation.operation_id.replace(/^op_/, '')}`,
    type: `${operation.kind}.${operation.status}`,
    created_at: operation.created_at,
    idempotency_key: key,
    operation: { position, ...operation },
  };
}

/** Doubles with each attempt. Half of it is random, so that events that failed together are not retried together. */
function backoff_ms({ initialBackoffMs, maxBackoffMs }: WebhookConfig, attempts: number): number {
  const full_ms = Math.min(maxBackoffMs, initialBackoffMs * 2 ** Math.min(attempts - 1, 30));
  return full_ms * (0.5 + Math.random() / 2);
}
