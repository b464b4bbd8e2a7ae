import type { Logger } from '../telemetry/log.ts';
import type { Broker } from './connection.ts';
import type { ExpectedQueue } from './topology.ts';

/** Tells which of the expected queues exist. */
export interface SubscriberQueues {
  /** Whether a consumer of this aggregate's events is expected. */
  expects(aggregate: string): boolean;
  /**
   * Looks for queues that were missing, at most once a second. Returns the aggregates whose events must wait, and the
   * number of missing queues.
   */
  missing(): Promise<{ aggregates: string[]; queues: number }>;
  /** Called when an event was returned: all queues are checked again. */
  forget(): void;
}

const recheckMs = 1_000;

/** Queues that were found are not checked again until an event is returned. */
export function openSubscriberQueues(
  broker: Broker,
  expected: readonly ExpectedQueue[],
  log: Logger,
): SubscriberQueues {
  let absent = new Set(expected);
  let lookedAt = Number.NEGATIVE_INFINITY;
  let reported = '';
  const aggregates = new Set(expected.map((entry) => entry.aggregate));
  return {
    expects: (aggregate) => aggregates.has(aggregate),
    forget() {
      absent = new Set(expected);
      lookedAt = Number.NEGATIVE_INFINITY;
    },
    async missing() {
      if (absent.size > 0 && performance.now() - lookedAt >= recheckMs) {
        for (const entry of [...absent]) if (await broker.queueBound(entry.queue)) absent.delete(entry);
        lookedAt = performance.now();
        const queues = [...absent].map((entry) => entry.queue).join(', ');
        if (queues !== reported) log.info({ queues }, queues ? 'events wait for these queues' : 'every queue is bound');
        reported = queues;
      }
      return { aggregates: [...new Set([...absent].map((entry) => entry.aggregate))], queues: absent.size };
    },
  };
}
