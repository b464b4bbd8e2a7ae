import type { Book } from './book.ts';
import type { WebhookConfig } from './config.ts';
import type { OperationRecord } from './record.ts';
import type { WebhookProgress } from './webhook-progress.ts';

/** Events in memory at a time. Later ones wait in the log of operations, which is the queue. */
const WINDOW_LIMIT = 256;

/** An operation that the receiver must be told of. */
export type Event = {
  position: number;
  record: OperationRecord;
  attempts: number;
  due_ms: number;
  /** Whether an attempt is running. */
  underWay: boolean;
};

export type EventWindow = {
  /** Reads further operations from the log, in their order, until the window is full. */
  fill(): Promise<void>;
  /** Events that can be attempted at this time, in the order of the log. */
  due(now_ms: number): Iterable<Event>;
  /** When the next event that is not under way is due; Infinity when there is none. */
  nextDue_ms(): number;
  /** Removes an event that needs no more attempts, and records that. */
  end(event: Event, outcome: 'delivered' | 'given_up'): Promise<void>;
};

/** The events that have not ended, from the first one on. */
export function eventWindow(config: WebhookConfig, book: Book, progress: WebhookProgress): EventWindow {
  const events = new Map<number, Event>();
  let readTo = progress.through();
  return {
    async fill() {
      while (events.size < WINDOW_LIMIT && readTo < book.last()) {
        for (const { position, ...record } of await book.page(readTo, WINDOW_LIMIT - events.size)) {
          readTo = position;
          if (progress.takeEnded(position) || !isEvent(record)) continue;
          events.set(position, { position, record, attempts: 0, due_ms: dueAt(record, config), underWay: false });
        }
      }
    },
    due: (now_ms) => events.values().filter(({ underWay, due_ms }) => !underWay && due_ms <= now_ms),
    nextDue_ms: () => Math.min(...events.values().map(({ underWay, due_ms }) => (underWay ? Infinity : due_ms))),
    async end({ position, attempts }, outcome) {
      events.delete(position);
      const through = Math.min(readTo, ...events.keys().map((first) => first - 1));
      await progress.append({ operation_position: position, outcome, attempts, through });
    },
  };
}

/** Every operation that was decided, at once or later. */
function isEvent({ operation }: OperationRecord): boolean {
  return operation.kind !== 'cancellation' && operation.status !== 'pending';
}

/**
 * The event of a settlement or an expiration is the first that the receiver learns of it. For any other operation the
 * receiver has got the response; its event is for receivers that lost it, and comes `noticeMs` later.
 */
function dueAt({ operation, webhook_rule }: OperationRecord, { lateMs, noticeMs }: WebhookConfig): number {
  const decided_ms = Date.parse(operation.created_at);
  if (operation.kind === 'expiration') return decided_ms;
  if (operation.kind !== 'settlement') return decided_ms + noticeMs;
  return webhook_rule === 'late' ? decided_ms + lateMs : decided_ms;
}
