/**
 * Carries events from the outbox to the broker: in the order they were written, at least once, and marked
 * only after the broker has confirmed them.
 *
 * One process per service relays at a time, the holder of the lease "relay"; the statement that marks rows
 * compares the lease's token, so a process that lost the lease while it was paused marks nothing. What it
 * published meanwhile is published again, and consumers know it by its id and sequence.
 *
 * A batch is published without waiting in between. When one event of it fails, neither it nor later ones of
 * the same aggregate are marked, so the next pass publishes them again in order; a consumer that saw the
 * later ones first keeps them waiting.
 *
 * Events without a consumer. Most events have no consumer, and a topic exchange drops what it cannot route, so
 * "not routed" must be normal for those and a fault for the others. The contracts say who consumes what:
 * `expected` lists the queues that must exist. Events of an aggregate stay in the outbox until every
 * expected queue for it is declared and bound, whether or not its consumer runs: that way a consumer that is
 * started after its producer, on an empty broker, still gets the first event. Once they are, an unroutable
 * event of such an aggregate is an error and stays pending. An unroutable event of any other aggregate is
 * done: it is counted, and its row says `unrouted`.
 */

import type { Database } from '../db/database.ts';
import { dependencyUnavailable } from '../errors/errors.ts';
import { crashPoint } from '../sync/crash-point.ts';
import type { Logger } from '../telemetry/log.ts';
import type { Registry } from '../telemetry/metrics.ts';
import { backOff, exponentialBackoffMs } from '../time/backoff.ts';
import { sleep } from '../time/sleep.ts';
import { withTimeout } from '../time/timeout.ts';
import type { Broker } from './connection.ts';
import { type Lease, openLease } from './lease.ts';
import { type RelayMetrics, relayMetrics } from './metrics.ts';
import { openOutage } from './outage.ts';
import { outboxGauges } from './outbox-gauges.ts';
import { leaseName, markPublished, publishBatch, selectPending } from './relay-batch.ts';
import { openSubscriberQueues, type SubscriberQueues } from './subscriber-queues.ts';
import type { ExpectedQueue } from './topology.ts';

export interface RelayOptions {
  db: Pick<Database, 'read' | 'write'>;
  broker: Broker;
  service: string;
  log: Logger;
  registry: Registry;
  /** Queues that must be bound before events of their aggregate are published; see expectedQueues(). */
  expected?: readonly ExpectedQueue[];
  batchMax?: number;
  /** Longest pause between two reads of the outbox while no commit wakes the relay. */
  pollMs?: number;
  leaseMs?: number;
}

export interface Relay {
  /** Called after a transaction has written events. Cheap; many calls cause one pass. */
  wake(): void;
  leading(): boolean;
  /** Resolves with true once the outbox was empty, or with false after `timeoutMs` or when the relay stops. */
  drain(timeoutMs: number): Promise<boolean>;
  /** Finishes the current batch and releases the lease. */
  stop(): Promise<void>;
}

interface RelayWork extends Required<Omit<RelayOptions, 'expected' | 'registry'>> {
  readonly lease: Lease;
  readonly metrics: RelayMetrics;
  readonly subscriberQueues: SubscriberQueues;
  readonly stopping: AbortSignal;
  /** Called after each read that found the outbox empty. */
  readonly waiting: Set<(empty: boolean) => void>;
  /** Replaced after every use. */
  interrupt: AbortController;
  woken: boolean;
  leading: boolean;
  /** The number of the broker connection whose queues `subscriberQueues` has checked. */
  generation: number;
}

const shortestPollMs = 20;
const failureBackoff = { initialBackoffMs: 25, maxBackoffMs: 1_000 };
/** Short, because a stopping service waits for the pass. */
const repairTimeoutMs = 2_000;

export function startRelay(options: RelayOptions): Relay {
  const { db, broker, log, registry, leaseMs = 10_000 } = options;
  const stopping = new AbortController();
  const on: RelayWork = {
    batchMax: 200,
    pollMs: 500,
    ...options,
    leaseMs,
    lease: openLease(db, leaseName, leaseMs),
    metrics: relayMetrics(registry),
    subscriberQueues: openSubscriberQueues(broker, options.expected ?? [], log),
    stopping: stopping.signal,
    waiting: new Set(),
    interrupt: new AbortController(),
    woken: false,
    leading: false,
    generation: 0,
  };
  outboxGauges(db, registry);
  const running = keepRelaying(on);
  const wake = () => {
    on.woken = true;
    on.interrupt.abort();
  };
  return {
    wake,
    leading: () => on.leading,
    drain: (timeoutMs) => drain(on, wake, timeoutMs),
    async stop() {
      stopping.abort();
      wake();
      await running;
      for (const finish of on.waiting) finish(false);
      lead(on, false);
      await on.lease
        .release()
        .catch((error: unknown) => log.warn({ err: error }, 'relay lease not released; it expires'));
    },
  };
}

function drain(on: RelayWork, wake: () => void, timeoutMs: number): Promise<boolean> {
  return new Promise((resolve) => {
    const finish = (empty: boolean) => {
      clearTimeout(timer);
      on.waiting.delete(finish);
      resolve(empty);
    };
    const timer = setTimeout(() => finish(false), timeoutMs);
    on.waiting.add(finish);
    wake();
  });
}

async function keepRelaying(on: RelayWork): Promise<void> {
  let failures = 0;
  const outage = openOutage();
  let idlePasses = 1;
  while (!on.stopping.aborted) {
    const byCommit = on.woken;
    on.woken = false;
    try {
      const busy = await emptyOutbox(on);
      if (failures > 0) on.log.info({ failures }, 'relay passes succeed again');
      failures = 0;
      outage.over();
      // Rows found without a wake were written by another process of this service: read again soon.
      idlePasses = busy || byCommit ? 1 : idlePasses + 1;
      const pauseMs = exponentialBackoffMs(idlePasses, { initialBackoffMs: shortestPollMs, maxBackoffMs: on.pollMs });
      if (!on.woken) await sleep(pauseMs * (0.75 + Math.random() / 2), on.interrupt.signal);
    } catch (error) {
      on.metrics.failed.inc();
      if (outage.isNew(error)) on.log.warn({ err: error, failures }, 'relay pass failed; it is tried again');
      failures += 1;
      await backOff(failures, failureBackoff, on.stopping);
    }
    if (on.interrupt.signal.aborted) on.interrupt = new AbortController();
  }
}

/** Publishes until no row is pending, if this process holds the lease. Returns true when it published something. */
async function emptyOutbox(on: RelayWork): Promise<boolean> {
  for (let busy = false; ; busy = true) {
    const token = await on.lease.hold();
    lead(on, token !== null);
    if (token === null || on.stopping.aborted) return busy;
    const drains = [...on.waiting];
    // A confirm may take as long as the lease lasts.
    if (await on.lease.during(() => relayBatch(on, token))) continue;
    for (const finish of drains) finish(true);
    return busy;
  }
}

/** Publishes and marks one batch. Returns false when no row was pending. */
async function relayBatch(on: RelayWork, token: bigint): Promise<boolean> {
  const { db, broker, service, metrics, subscriberQueues } = on;
  if (!broker.canPublish()) throw dependencyUnavailable('broker', new Error('not connected, or blocked'));
  if (on.generation !== broker.generation()) {
    // The broker may have restarted empty: an event that reaches one consumer's queue would be lost for another's.
    subscriberQueues.forget();
    on.generation = broker.generation();
  }
  const missing = await subscriberQueues.missing();
  metrics.missingQueues.set(missing.queues);
  const rows = await selectPending(db, on.batchMax, missing.aggregates);
  if (rows.length === 0) return false;
  crashPoint('relay.before-publish');
  const { routed, unrouted, returned, failure } = await publishBatch({
    rows,
    broker,
    service,
    metrics,
    expects: subscriberQueues.expects,
  });
  crashPoint('relay.confirmed');
  if (returned > 0) subscriberQueues.forget();
  const marked = (await markPublished(db, token, routed, 0)) + (await markPublished(db, token, unrouted, 1));
  crashPoint('relay.marked');
  metrics.published.inc({ outcome: 'routed' }, routed.length);
  metrics.published.inc({ outcome: 'unrouted' }, unrouted.length);
  if (marked < routed.length + unrouted.length) {
    on.log.warn(
      { marked, published: rows.length },
      'relay lease lost while publishing; its events are published again',
    );
    on.lease.lose();
  }
  if (failure) {
    // A missing exchange closes the channel without naming the exchange. When this service may not declare it, the
    // error must say so.
    throw await withTimeout(repairTimeoutMs, broker.declareEvents(), 'declaring the exchange of events').then(
      () => failure,
      (refused: unknown) => refused,
    );
  }
  return true;
}

function lead(on: RelayWork, leading: boolean): void {
  on.leading = leading;
  on.metrics.leading.set(leading ? 1 : 0);
}
