import { join } from 'node:path';
import type { Book } from './book.ts';
import type { WebhookConfig } from './config.ts';
import { openLog } from './log.ts';
import { describe, type Logger } from './logger.ts';
import type { OperationRecord } from './record.ts';
import { webhookPoster } from './webhook-request.ts';

/** Events that are looked after at a time. Those behind them wait in the log, which is the queue. */
const WINDOW_LIMIT = 256;
const UNDER_WAY_LIMIT = 16;

/**
 * That an event needs no more attempts, and up to where all operations are dealt with. Kept in a log of its own, so
 * that a start goes on where the process ended: what was not acknowledged is sent again.
 */
type Dealt = { operation_position: number; outcome: 'delivered' | 'given_up'; attempts: number; through: number };

type Event = { record: OperationRecord; attempts: number; due_ms: number; underWay: boolean };

export type Webhooks = {
  /** Tells that there are new records. */
  wake(): void;
  /** Resolves when the event of an operation was attempted once, or after a time limit. */
  attempted(position: number, limit_ms: number): Promise<void>;
  close(): Promise<void>;
};

export const noWebhooks: Webhooks = { wake() {}, attempted: async () => {}, close: async () => {} };

/** Follows the log of operations and tells the receiver of each, at least once, until it answers 2xx. */
export async function openWebhooks(
  config: WebhookConfig,
  { book, dataDirectory, logger }: { book: Book; dataDirectory: string; logger: Logger },
): Promise<Webhooks> {
  let through = 0;
  const dealt = new Set<number>();
  const log = await openLog<Dealt>(join(dataDirectory, 'webhooks.jsonl'), (entry) => {
    dealt.add(entry.operation_position);
    if (entry.through <= through) return;
    through = entry.through;
    for (const position of dealt) if (position <= through) dealt.delete(position);
  });
  const window = new Map<number, Event>();
  const waiting = new Map<number, Set<() => void>>();
  const poster = webhookPoster(config);
  const stopping = new AbortController();
  let readTo = through;
  let timer: NodeJS.Timeout | undefined;
  let pumping: Promise<void> | undefined;
  let again = false;
  const underWay = new Set<Promise<void>>();

  /** Takes further records into the window, in their order. */
  async function fill(): Promise<void> {
    while (window.size < WINDOW_LIMIT && readTo < book.last()) {
      for (const { position, ...record } of await book.page(readTo, WINDOW_LIMIT - window.size)) {
        readTo = position;
        if (!dealt.delete(position) && isEvent(record)) {
          window.set(position, { record, attempts: 0, due_ms: dueAt(record, config), underWay: false });
        }
      }
    }
  }

  async function attempt(position: number, event: Event): Promise<void> {
    event.attempts += 1;
    const body = JSON.stringify(eventOf(position, event.record, book));
    const copies = event.record.webhook_rule === 'twice' ? 2 : 1;
    let failure = '';
    try {
      const statuses = await Promise.all(Array.from({ length: copies }, () => poster.post(body)));
      const refused = statuses.find((status) => status < 200 || status > 299);
      if (refused !== undefined) failure = `answered ${refused}`;
    } catch (error) {
      failure = describe(error);
    }
    for (const resolve of waiting.get(position) ?? []) resolve();
    const given_up = failure !== '' && event.attempts >= config.attemptsMax;
    if (failure !== '' && !given_up) {
      event.due_ms = Date.now() + backoff_ms(config, event.attempts);
      logger.debug('a webhook was not taken', { position, attempts: event.attempts, failure });
      return;
    }
    if (given_up) logger.error('a webhook was given up', { position, attempts: event.attempts, failure });
    window.delete(position);
    through = Math.min(readTo, ...window.keys().map((first) => first - 1));
    await log.append({
      operation_position: position,
      outcome: given_up ? 'given_up' : 'delivered',
      attempts: event.attempts,
      through,
    });
  }

  async function pump(): Promise<void> {
    do {
      again = false;
      await fill();
      const now_ms = Date.now();
      for (const [position, event] of window) {
        if (underWay.size >= UNDER_WAY_LIMIT || stopping.signal.aborted) break;
        if (event.underWay || event.due_ms > now_ms) continue;
        event.underWay = true;
        const run = attempt(position, event)
          .catch((error) => logger.error('a webhook could not be written down', { position, error: describe(error) }))
          .finally(() => {
            event.underWay = false;
            underWay.delete(run);
            wake();
          });
        underWay.add(run);
      }
    } while (again && !stopping.signal.aborted);
    const next_ms = Math.min(...window.values().map(({ underWay, due_ms }) => (underWay ? Infinity : due_ms)));
    clearTimeout(timer);
    // With every place taken, the end of one attempt wakes us.
    if (next_ms !== Infinity && underWay.size < UNDER_WAY_LIMIT && !stopping.signal.aborted) {
      timer = setTimeout(wake, Math.max(1, next_ms - Date.now()));
    }
  }

  function wake(): void {
    again = true;
    if (stopping.signal.aborted) return;
    pumping ??= pump()
      .catch((error) => {
        logger.error('webhooks could not be read', { error: describe(error) });
        timer = setTimeout(wake, config.retryMostMs);
      })
      .finally(() => {
        pumping = undefined;
      });
  }

  wake();
  return {
    wake,
    async attempted(position, limit_ms) {
      await new Promise<void>((resolve) => {
        const all = waiting.get(position) ?? new Set();
        waiting.set(position, all.add(resolve));
        setTimeout(resolve, limit_ms).unref();
      });
      waiting.delete(position);
    },
    async close() {
      stopping.abort();
      clearTimeout(timer);
      await pumping;
      await Promise.all(underWay);
      poster.close();
      await log.close();
    },
  };
}

/** Everything that was decided under a key, and what was decided later. */
function isEvent({ operation }: OperationRecord): boolean {
  return operation.kind !== 'cancellation' && operation.status !== 'pending';
}

/** A settlement and an expiration are news. Anything else was answered, so its event is for those who did not hear the answer. */
function dueAt({ operation, webhook_rule }: OperationRecord, { lateMs, noticeMs }: WebhookConfig): number {
  const decided_ms = Date.parse(operation.created_at);
  if (operation.kind === 'expiration') return decided_ms;
  if (operation.kind !== 'settlement') return decided_ms + noticeMs;
  return webhook_rule === 'late' ? decided_ms + lateMs : decided_ms;
}

/** A settlement or expiration has no key of its own: it is about the authorization that was pending or held. */
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

/** Half of it is chance, so that events that failed together do not come back together. */
function backoff_ms({ retryFirstMs, retryMostMs }: WebhookConfig, attempts: number): number {
  const full_ms = Math.min(retryMostMs, retryFirstMs * 2 ** Math.min(attempts - 1, 30));
  return full_ms * (0.5 + Math.random() / 2);
}
