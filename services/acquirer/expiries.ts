import type { Charge } from './charge.ts';
import { describe, type Logger } from './logger.ts';

/** The holds that have not expired. */
export type Expiries = {
  /** Holds of one class have the same duration, so each queue stays sorted by expiry when holds are appended. */
  add(charge: Charge, hold: 'short' | 'long'): void;
  /** Adds the holds of charges that were read at the start. */
  resume(charges: readonly Charge[]): void;
  close(): Promise<void>;
};

type Waiting = { charge_id: string; due_ms: number };

/** A queue without the cost of removing from the front of an array. */
type Queue = { items: Waiting[]; head: number };

/** Below the longest delay of a Node timer, 2^31 - 1 ms. */
const DELAY_MOST_MS = 24 * 3_600_000;
const RETRY_MS = 1_000;

/** Calls `expire` for each hold at its `expires_at`. `expire` skips charges that were captured or voided by then. */
export function openExpiries(logger: Logger, expire: (charge_id: string) => Promise<void>): Expiries {
  const found: Queue = { items: [], head: 0 };
  const queues: Record<'short' | 'long' | 'found', Queue> = {
    short: { items: [], head: 0 },
    long: { items: [], head: 0 },
    found,
  };
  let timer: NodeJS.Timeout | undefined;
  let running: Promise<void> | undefined;
  let closed = false;

  const next = (): { queue: Queue; waiting: Waiting } | undefined => {
    const heads = Object.values(queues).flatMap((queue) => {
      const waiting = queue.items[queue.head];
      return waiting ? [{ queue, waiting }] : [];
    });
    return heads.sort((a, b) => a.waiting.due_ms - b.waiting.due_ms)[0];
  };

  async function run(): Promise<void> {
    for (let due = next(); due && due.waiting.due_ms <= Date.now() && !closed; due = next()) {
      await expire(due.waiting.charge_id);
      due.queue.head += 1;
      if (due.queue.head > 1_000) {
        due.queue.items.splice(0, due.queue.head);
        due.queue.head = 0;
      }
    }
  }

  function arm(least_ms = 0): void {
    clearTimeout(timer);
    const due = next();
    if (!due || closed || running) return;
    const delay_ms = Math.min(DELAY_MOST_MS, Math.max(least_ms, due.waiting.due_ms - Date.now()));
    timer = setTimeout(() => {
      let failed = false;
      running = run()
        .catch((error) => {
          failed = true;
          logger.error('a hold could not be expired; it is retried', { error: describe(error) });
        })
        .finally(() => {
          running = undefined;
          arm(failed ? RETRY_MS : 0);
        });
    }, delay_ms);
    timer.unref();
  }

  const waitingOf = ({ charge_id, expires_at }: Charge): Waiting[] =>
    expires_at === undefined ? [] : [{ charge_id, due_ms: Date.parse(expires_at) }];
  return {
    add(charge, hold) {
      queues[hold].items.push(...waitingOf(charge));
      arm();
    },
    resume(charges) {
      const open = charges.filter(({ status }) => status === 'authorized' || status === 'pending');
      found.items = open.flatMap(waitingOf).sort((a, b) => a.due_ms - b.due_ms);
      arm();
    },
    async close() {
      closed = true;
      clearTimeout(timer);
      await running;
    },
  };
}
