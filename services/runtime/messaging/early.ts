import type { Logger } from '../telemetry/log.ts';
import { Gauge, type Registry } from '../telemetry/metrics.ts';

/**
 * Records which aggregates wait for a missing event. For a while that is normal: the event is on another connection, or
 * is being retried. An event missing for longer than `shownAfterMs` was lost, or published before this consumer had a
 * queue; a baseline of its owner repairs that.
 */
export interface EarlyWatch {
  /** An event of the aggregate was early again. */
  early(consumer: string, aggregateId: string, sinceMs: number): void;
  /** An event of the aggregate had its turn. */
  inTurn(consumer: string, aggregateId: string): void;
}

const watchedMax = 10_000;
/** A waiting event returns at least this often; one that did not was removed from its queue. */
const forgottenAfterMs = 10 * 60_000;
const warnEveryMs = 10 * 60_000;

export function watchEarly(options: {
  registry: Registry;
  log: Logger;
  shownAfterMs: number;
  now?: () => number;
}): EarlyWatch {
  const { registry, log, shownAfterMs, now = Date.now } = options;
  const waiting = new Map<string, { sinceMs: number; seenMs: number }>();
  const warnedMs = new Map<string, number>();
  const key = (consumer: string, aggregateId: string) => `${consumer} ${aggregateId}`;
  const shown = (): number[] => {
    const at = now();
    for (const [name, { seenMs }] of waiting) if (at - seenMs > forgottenAfterMs) waiting.delete(name);
    return [...waiting.values()].map(({ sinceMs }) => at - sinceMs).filter((ageMs) => ageMs >= shownAfterMs);
  };
  new Gauge({
    name: 'armature_consumer_early_aggregates',
    help: `Aggregates whose next event has not come for ${shownAfterMs / 1000} s, counted up to ${watchedMax}`,
    registers: [registry],
    collect() {
      this.set(shown().length);
    },
  });
  new Gauge({
    name: 'armature_consumer_early_oldest_age_seconds',
    help: 'How long the first of them has waited; 0 when none waits that long',
    registers: [registry],
    collect() {
      this.set(Math.max(0, ...shown()) / 1000);
    },
  });
  return {
    early(consumer, aggregateId, sinceMs) {
      const at = now();
      const name = key(consumer, aggregateId);
      const first = Math.min(sinceMs, waiting.get(name)?.sinceMs ?? sinceMs);
      if (waiting.has(name) || waiting.size < watchedMax) waiting.set(name, { sinceMs: first, seenMs: at });
      if (at - first < shownAfterMs || at - (warnedMs.get(consumer) ?? Number.NEGATIVE_INFINITY) < warnEveryMs) return;
      warnedMs.set(consumer, at);
      log.error(
        { queue: consumer, aggregate_id: aggregateId, waits_ms: at - first },
        'events wait for an earlier one that does not come; publish a baseline (make baseline)',
      );
    },
    inTurn: (consumer, aggregateId) => void waiting.delete(key(consumer, aggregateId)),
  };
}
