import { randomUUID } from 'node:crypto';
import type { Background } from '../context/background.ts';
import type { Database } from '../db/database.ts';
import type { Tx } from '../db/tx.ts';
import { lastSyncPoint } from '../sync/sync-point.ts';
import type { Logger } from '../telemetry/log.ts';
import type { Registry } from '../telemetry/metrics.ts';
import { sleep } from '../time/sleep.ts';
import { begin } from './core.ts';
import { defaultTimeoutMs, type Handover, isLocal, type SagaDefinition } from './definition.ts';
import { drive, giveBack, type Running, slackMs, type Worker } from './driving.ts';
import { duePartitions, fromRow, type LeasedRow, leaseLocked, lockOverdue, lockPartition } from './lease-store.ts';
import { sagaMetrics } from './metrics.ts';
import { isUrgent, type Partition, partitionOf, partitionsOf } from './partitions.ts';
import { createSlots, defaultDependencyMax, type Place, type SlotLimits } from './slots.ts';
import { readState } from './state-format.ts';

export interface SagaWorkerOptions extends Partial<SlotLimits> {
  db: Database;
  /** Several versions of one saga are allowed; sagas of other names and versions are not touched. */
  definitions: readonly SagaDefinition[];
  log: Logger;
  registry: Registry;
  background: Background;
  /** How long a dead worker blocks other workers from taking its sagas. */
  leaseMs?: number;
  /** Longest pause between two queries for due sagas of other processes. */
  pollMs?: number;
  /** How long `stop` waits for calls in progress; after that their outcome is recorded as unknown. */
  stopGraceMs?: number;
  /** 0 to 1, for jitter. */
  random?: () => number;
}

export interface SagaWorker {
  /** Called when a saga may be due. Cheap; many calls cause one query. */
  wake(): void;
  /** Takes no more sagas, waits until steps in progress are recorded and releases all leases. */
  stop(): Promise<void>;
}

const defaults = {
  ...{ sagasMax: 64, dependencyMax: defaultDependencyMax, newShare: 0.75 },
  ...{ leaseMs: 15_000, pollMs: 500, stopGraceMs: 4_000, random: Math.random },
};

/** Most future wake-ups that are stored; for later ones polling is soon enough. */
const alarmsMax = 1_000;

const versionKey = ({ name, version }: { name: string; version: number }): string => `${name}@${version}`;

/** Runs sagas of the given definitions until it is stopped. */
export function startSagaWorker(given: SagaWorkerOptions): SagaWorker {
  const options = { ...defaults, ...given };
  const { definitions, log, leaseMs, random } = options;
  if (definitions.length === 0) return { wake() {}, async stop() {} };
  checkDefinitions(options);
  const recorder = { db: options.db, background: options.background, holder: randomUUID(), leaseMs, random };
  const stopping = new AbortController();
  const giveUp = new AbortController();
  const timer = wakeUps(options, stopping.signal);
  const slots = createSlots(options, timer.wake);
  const metrics = sagaMetrics(options.registry, options.db, definitions);
  const worker: Worker = {
    ...{ recorder, metrics, log, slots, random },
    ...{ stopping: stopping.signal, giveUp: giveUp.signal, alarm: timer.alarm },
  };
  const inProgress = new Set<Promise<void>>();

  const track = ({ definition, saga }: Pick<Running, 'definition' | 'saga'>, work: Promise<void>) => {
    const ending = work
      .catch((error: unknown) => log.error({ err: error, saga: saga.sagaId }, 'saga dropped; its lease will expire'))
      .finally(() => {
        inProgress.delete(ending);
        metrics.inProgress.set(inProgress.size);
        lastSyncPoint(`saga ${definition.name} left`);
      });
    inProgress.add(ending);
    metrics.inProgress.set(inProgress.size);
  };
  const start = (running: Running) => track(running, drive(worker, running));
  const handover: Handover = {
    offer(definition) {
      const { dependency, urgent } = partitionOf(definition, begin(definition.core));
      const pool = slots.dependency(dependency);
      const room = slots.sagas.room(urgent) > 0 && (pool === null || pool.room(urgent) > 0 || pool.worthWaiting);
      return room && !stopping.signal.aborted ? { holder: recorder.holder, leaseMs } : null;
    },
    adopt(definition, saga) {
      const seat = slots.sagas.take(isUrgent(definition, saga.state));
      // Other sagas that were offered a slot at the same moment may have taken it.
      if (seat) start({ definition, saga, seat, reserved: null });
      else track({ definition, saga }, giveBack(worker, { definition, saga }, 0).then(timer.wake));
    },
    wake: timer.wake,
  };
  for (const definition of definitions) definition.workers.add(handover);
  const looking = timer.everyTime(async () => {
    for (const running of await leaseDue(worker, definitions)) start(running);
  });
  return {
    wake: timer.wake,
    async stop() {
      stopping.abort();
      for (const definition of definitions) definition.workers.delete(handover);
      const grace = setTimeout(() => giveUp.abort(), options.stopGraceMs);
      await looking;
      while (inProgress.size > 0) await Promise.all(inProgress);
      clearTimeout(grace);
    },
  };
}

/** When the worker queries for due sagas: at once after a wake, at the scheduled times, and periodically. */
function wakeUps({ pollMs, random }: { pollMs: number; random: () => number }, stopping: AbortSignal) {
  const alarms = new Set<number>();
  let interrupt = new AbortController();
  let woken = false;
  const pauseMs = () => {
    const now = performance.now();
    let soonest = pollMs * (0.75 + random() * 0.5);
    for (const at of alarms) {
      if (at <= now) alarms.delete(at);
      // One millisecond more: the time must have passed by the database's clock too.
      else soonest = Math.min(soonest, at - now + 1);
    }
    return soonest;
  };
  return {
    wake() {
      woken = true;
      interrupt.abort();
    },
    alarm(afterMs: number) {
      if (alarms.size < alarmsMax) alarms.add(performance.now() + afterMs);
    },
    async everyTime(look: () => Promise<void>): Promise<void> {
      while (!stopping.aborted) {
        woken = false;
        interrupt = new AbortController();
        await look();
        if (!woken) await sleep(pauseMs(), AbortSignal.any([interrupt.signal, stopping]));
      }
    },
  };
}

/** Leases due sagas, as far as there are slots, urgent ones first. Logs and returns nothing when the database fails. */
async function leaseDue(worker: Worker, definitions: readonly SagaDefinition[]): Promise<Running[]> {
  const { recorder, log } = worker;
  const partitions = definitions.flatMap(partitionsOf);
  const taken: { seat: Place; place: Place | null; partition: Partition; row: LeasedRow }[] = [];
  const call = recorder.background('saga lease', 5_000);
  const since = performance.now();
  try {
    const due = await recorder.db.read(call, (sql) => duePartitions(sql, partitions));
    if (due.length > 0) await recorder.db.transaction(call, (tx) => takePartitions(tx, worker, due, taken));
  } catch (error) {
    for (const { seat, place } of taken.splice(0)) {
      place?.release();
      seat.release();
    }
    log.warn({ err: error }, 'looking for due sagas failed; it is tried again');
  } finally {
    call.close();
  }
  const byVersion = new Map(definitions.map((definition) => [versionKey(definition), definition]));
  return taken.flatMap(({ seat, place, partition, row }) => {
    const definition = byVersion.get(versionKey(partition))!;
    try {
      const saga = { ...fromRow(row, since, recorder.leaseMs), state: readState(row.state, definition.core) };
      return [{ definition, saga, seat, reserved: place && { dependency: partition.dependency, place } }];
    } catch (error) {
      // The others must not wait for it; it is tried again when its lease has expired.
      log.error({ err: error, saga: row.saga_id }, 'a saga cannot be read');
      place?.release();
      seat.release();
      return [];
    }
  });
}

/** Leases sagas for which there are slots, and requests a wake-up for the others. */
async function takePartitions(
  tx: Tx,
  { slots, recorder }: Worker,
  due: readonly Partition[],
  taken: { seat: Place; place: Place | null; partition: Partition; row: LeasedRow }[],
): Promise<void> {
  // A transaction that is run again starts without places.
  for (const { seat, place } of taken.splice(0)) {
    place?.release();
    seat.release();
  }
  for (const partition of due) {
    const { dependency, urgent } = partition;
    const pool = slots.dependency(dependency);
    const pools = pool ? [slots.sagas, pool] : [slots.sagas];
    const room = Math.min(...pools.map((one) => one.room(urgent)));
    const full = pools.filter((one) => one.room(urgent) === room);
    const rows = room > 0 ? await lockPartition(tx, partition, room) : [];
    for (const row of rows) {
      taken.push({ seat: slots.sagas.force(urgent), place: pool?.force(urgent) ?? null, partition, row });
    }
    if (rows.length < room) continue;
    for (const one of full) one.want(urgent);
    // A passed time limit is recorded without a call, and makes the sagas urgent.
    const seats = urgent || !pool ? 0 : slots.sagas.room(urgent);
    const overdue = seats > 0 ? await lockOverdue(tx, partition, seats) : [];
    const locked = new Set(rows.map(({ saga_id }) => saga_id));
    for (const row of overdue.filter(({ saga_id }) => !locked.has(saga_id))) {
      taken.push({ seat: slots.sagas.force(urgent), place: null, partition, row });
    }
  }
  if (taken.length > 0) {
    await leaseLocked(
      tx,
      taken.map(({ row }) => row.saga_id),
      recorder,
    );
  }
}

function checkDefinitions({
  definitions,
  leaseMs,
}: Required<Pick<SagaWorkerOptions, 'definitions' | 'leaseMs'>>): void {
  const versions = new Set(definitions.map(versionKey));
  if (versions.size !== definitions.length) throw new Error('two sagas have the same name and version');
  for (const { name, steps } of definitions) {
    for (const step of steps) {
      const timeoutMs = isLocal(step) ? 0 : (step.timeoutMs ?? defaultTimeoutMs);
      if (timeoutMs + slackMs > leaseMs) {
        throw new Error(
          `saga ${name}: step ${step.name}: timeoutMs must be ${slackMs} ms less than the lease of ${leaseMs} ms`,
        );
      }
    }
  }
}
