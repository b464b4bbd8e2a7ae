import type { Logger } from '../telemetry/log.ts';
import type { Broker } from './connection.ts';
import type { ExpectedQueue } from './topology.ts';

/** Which of the expected queues are there. */
export interface Audience {
  /** Whether somebody consumes events of this aggregate. */
  expects(aggregate: string): boolean;
  /** Looks for what was missing, at most once a second. The aggregates whose events must wait, and how many queues lack. */
  missing(): Promise<{ aggregates: string[]; queues: number }>;
  /** Says that an event came back: nothing is certain any more. */
  forget(): void;
}

const recheckMs = 1_000;

/** Queues that were found are not looked at again until an event comes back. */
export function openAudience(broker: Broker, expected: readonly ExpectedQueue[], log: Logger): Audience {
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
