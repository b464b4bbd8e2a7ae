import { Counter, Gauge, Histogram, latencyBuckets, type Registry } from '../telemetry/metrics.ts';

const lagBuckets = [...latencyBuckets, 60, 300, 1800, 7200];

/** Metrics of a service's relay. */
export function relayMetrics(registry: Registry) {
  const registers = [registry];
  return {
    published: new Counter({
      name: 'armature_relay_published_total',
      help: 'Events the broker confirmed, by whether a queue was bound for them',
      labelNames: ['outcome'] as const,
      registers,
    }),
    failed: new Counter({
      name: 'armature_relay_failed_passes_total',
      help: 'Passes over the outbox that ended with an error and are tried again',
      registers,
    }),
    returned: new Counter({
      name: 'armature_relay_returned_total',
      help: 'Events the broker returned although a consumer was expected; they stay in the outbox',
      registers,
    }),
    confirmSeconds: new Histogram({
      name: 'armature_relay_confirm_seconds',
      help: 'Time from publishing a batch until its last confirm',
      buckets: latencyBuckets,
      registers,
    }),
    leading: new Gauge({
      name: 'armature_relay_leading',
      help: '1 where this process holds the relay lease of its service',
      registers,
    }),
    missingQueues: new Gauge({
      name: 'armature_relay_missing_queues',
      help: 'Queues of consumers in the contracts that are not declared yet; their events wait',
      registers,
    }),
  };
}

export type RelayMetrics = ReturnType<typeof relayMetrics>;

/** Metrics of a service's consumers. */
export function consumerMetrics(registry: Registry) {
  const registers = [registry];
  const perEvent = (name: string, help: string) =>
    new Counter({ name, help, labelNames: ['event'] as const, registers });
  return {
    handled: perEvent('armature_consumer_handled_total', 'Events whose effect was committed'),
    skipped: perEvent('armature_consumer_skipped_total', 'Events of types this service does not handle'),
    duplicates: perEvent('armature_consumer_duplicates_total', 'Events acknowledged without effect, seen before'),
    superseded: perEvent(
      'armature_consumer_superseded_total',
      'Events acknowledged without effect: a baseline brought the state that includes them, or left out the past',
    ),
    early: perEvent('armature_consumer_early_total', 'Times an event came before its predecessor and had to wait'),
    retries: perEvent('armature_consumer_retries_total', 'Events scheduled for a retry after a transient failure'),
    deadLetters: perEvent('armature_consumer_dead_letters_total', 'Events stored as dead letters'),
    unknown: new Counter({
      name: 'armature_consumer_unknown_events_total',
      help: 'Events of types that this service does not know, kept for a later version',
      registers,
    }),
    foreign: new Counter({
      name: 'armature_consumer_foreign_messages_total',
      help: 'Messages in the dead-letter queue that came from no queue of this service, by what became of them',
      labelNames: ['outcome'] as const,
      registers,
    }),
    baselines: new Counter({
      name: 'armature_consumer_baselines_total',
      help: 'Baselines, by whether they moved a sequence forward',
      labelNames: ['outcome'] as const,
      registers,
    }),
    lagSeconds: new Histogram({
      name: 'armature_consumer_lag_seconds',
      help: 'Time from writing an event to committing its effect here',
      labelNames: ['event'] as const,
      buckets: lagBuckets,
      registers,
    }),
  };
}

export type ConsumerMetrics = ReturnType<typeof consumerMetrics>;

/** Caches the result of `load` for a while, so that scrapes cannot overload the database. */
export function cached<T>(ttlMs: number, load: () => Promise<T>): () => Promise<T> {
  let pending: Promise<T> | null = null;
  let expires = 0;
  return () => {
    if (!pending || Date.now() >= expires) {
      expires = Date.now() + ttlMs;
      pending = load();
      pending.catch(() => {
        expires = 0;
      });
    }
    return pending;
  };
}
