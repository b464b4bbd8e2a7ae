import { randomUUID } from 'node:crypto';
import { type Background, pause } from '../background.ts';
import type { Database } from '../db/database.ts';
import { passLast } from '../race-gate.ts';
import { type Code, RpcError } from '../rpc/errors.ts';
import type { Logger } from '../telemetry/log.ts';
import type { Registry } from '../telemetry/metrics.ts';
import { attempt } from './attempt.ts';
import { commandOf, type Input } from './core.ts';
import { defaultTimeoutMs, type Handover, type Held, isLocal, type SagaDefinition } from './definition.ts';
import { type SagaMetrics, sagaMetrics } from './metrics.ts';
import { describe, refusal } from './outcome.ts';
import { expired, type Given, isOverdue, localStepDone, type Recorder, record } from './recording.ts';
import { leaseDue, releaseLease, renewLease } from './store.ts';

export interface SagaWorkerOptions {
  db: Database;
  definitions: readonly SagaDefinition<any>[];
  log: Logger;
  registry: Registry;
  background: Background;
  /** Sagas in progress at once. */
  sagasMax?: number;
  /** How long a worker that died keeps others from taking its sagas. */
  leaseMs?: number;
  /** Longest pause between looks for sagas that nobody announced here. */
  pollMs?: number;
  /** How long `stop` waits for answers to calls under way; after that their outcome is recorded as unknown. */
  stopGraceMs?: number;
  /** 0 to 1, for jitter. */
  random?: () => number;
}

export interface SagaWorker {
  /** Says that something is due. Cheap; many calls make one look. */
  wake(): void;
  /** Takes no more sagas, lets steps under way be recorded and gives all leases back. */
  stop(): Promise<void>;
}

/** What is left of a lease when a call is made must cover the call and some delay of the process. */
const slackMs = 1_000;
/** Times to come that are remembered; beyond, polling is soon enough. */
const alarmsMax = 1_000;

const versionKey = ({ name, version }: { name: string; version: number }): string => `${name}@${version}`;

interface Worker {
  options: Required<SagaWorkerOptions>;
  recorder: Recorder;
  metrics: SagaMetrics;
  stopping: AbortController;
  /** Aborted when calls under way are not waited for any longer. */
  giveUp: AbortController;
  /** Remembers that something will be due after so many milliseconds. */
  alarm(afterMs: number): void;
}

/** Runs sagas of the given definitions until it is stopped. */
export function startSagaWorker(given: SagaWorkerOptions): SagaWorker {
  const options = { sagasMax: 64, leaseMs: 15_000, pollMs: 500, stopGraceMs: 4_000, random: Math.random, ...given };
  if (options.definitions.length === 0) return { wake() {}, async stop() {} };
  checkLease(options);
  const { db, background, leaseMs, random, log } = options;
  const holder = randomUUID();
  const alarms = new Set<number>();
  const worker: Worker = {
    options,
    recorder: { db, background, holder, leaseMs, random },
    metrics: sagaMetrics(options.registry, db, options.definitions),
    stopping: new AbortController(),
    giveUp: new AbortController(),
    alarm: (afterMs) => {
      if (alarms.size < alarmsMax) alarms.add(performance.now() + afterMs);
    },
  };
  const { stopping } = worker;
  const byVersion = new Map(options.definitions.map((definition) => [versionKey(definition), definition]));
  if (byVersion.size !== options.definitions.length) throw new Error('two sagas have the same name and version');
  const held = new Set<Promise<void>>();
  let interrupt = new AbortController();
  let woken = false;
  let full = false;

  const wake = () => {
    woken = true;
    interrupt.abort();
  };
  const start = (definition: SagaDefinition<any>, saga: Held) => {
    const ending = drive(worker, definition, saga)
      .catch((error: unknown) => log.error({ err: error, saga: saga.sagaId }, 'saga dropped; its lease will expire'))
      .finally(() => {
        held.delete(ending);
        worker.metrics.held.set(held.size);
        passLast(`saga ${definition.name} left`);
        // Not for every saga that ends: taking several at once costs one transaction.
        if (full && held.size <= options.sagasMax * 0.75) wake();
      });
    held.add(ending);
    worker.metrics.held.set(held.size);
  };
  const handover: Handover = {
    offer: () => (stopping.signal.aborted || held.size >= options.sagasMax ? null : { holder, leaseMs }),
    adopt: start,
    wake,
  };
  for (const definition of options.definitions) definition.workers.add(handover);

  /** Takes what is due, as far as there is room. */
  async function take(): Promise<void> {
    const room = options.sagasMax - held.size;
    full = room <= 0;
    if (full) return;
    const call = background('saga lease', 5_000);
    try {
      const taken = await db.transaction(call, (tx) => leaseDue(tx, options.definitions, room, { holder, leaseMs }));
      for (const { name, version, saga } of taken) start(byVersion.get(versionKey({ name, version }))!, saga);
      full = taken.length === room;
    } catch (error) {
      log.warn({ err: error }, 'looking for due sagas failed; it is tried again');
    } finally {
      call.close();
    }
  }

  function pauseMs(): number {
    const now = performance.now();
    let soonest = options.pollMs * (0.75 + random() * 0.5);
    for (const at of alarms) {
      if (at <= now) alarms.delete(at);
      // One millisecond more: the database must agree that the time has come.
      else soonest = Math.min(soonest, at - now + 1);
    }
    return soonest;
  }

  async function look(): Promise<void> {
    while (!stopping.signal.aborted) {
      woken = false;
      interrupt = new AbortController();
      await take();
      if (!woken) await pause(pauseMs(), AbortSignal.any([interrupt.signal, stopping.signal]));
    }
  }

  const looking = look();
  return {
    wake,
    async stop() {
      stopping.abort();
      for (const definition of options.definitions) definition.workers.delete(handover);
      const patience = setTimeout(() => worker.giveUp.abort(), options.stopGraceMs);
      await looking;
      while (held.size > 0) await Promise.all(held);
      clearTimeout(patience);
    },
  };
}

function checkLease({ definitions, leaseMs }: { definitions: readonly SagaDefinition<any>[]; leaseMs: number }): void {
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

/** Takes a saga from step to step until it ends, rests, must pause, or is lost. */
async function drive(worker: Worker, definition: SagaDefinition<any>, saga: Held): Promise<void> {
  const { recorder, stopping, options } = worker;
  for (;;) {
    if (stopping.signal.aborted) return recorder.db.read(null, (sql) => releaseLease(sql, saga, 0));
    const given = await next(worker, definition, saga);
    if (given === 'lost') return lost(worker, saga);
    if (given === 'rests') return;
    const before = saga.version;
    const recorded = await settle(worker, definition, saga, given);
    if (recorded === 'lost') return lost(worker, saga);
    if (saga.version !== before) observe(worker, definition, saga);
    if (recorded === 'released') return;
    if (recorded === 'failed') {
      const { maxBackoffMs } = definition.core.retry;
      options.log.error({ saga: saga.sagaId, name: definition.name }, 'an outcome cannot be recorded; put off');
      return recorder.db.read(null, (sql) => releaseLease(sql, saga, maxBackoffMs));
    }
  }
}

/** Does what is due. */
async function next(worker: Worker, definition: SagaDefinition<any>, saga: Held): Promise<Given | 'lost' | 'rests'> {
  const due = commandOf(definition.core, saga.state);
  if (due.kind === 'finished' || due.kind === 'stuck') return 'rests';
  // Before anything more is begun; an outcome that comes too late finds out when it is recorded.
  if (isOverdue(definition, saga)) return { input: expired };
  const local = localStepDone(definition, saga.state);
  if (local) return local;
  const step = definition.steps[due.step];
  if (!step || isLocal(step)) throw new Error(`saga ${definition.name}: step ${due.step} cannot be called`);
  if (!(await coverCall(worker, saga, (step.timeoutMs ?? defaultTimeoutMs) + slackMs))) return 'lost';
  const { metrics, recorder, options } = worker;
  const labels = { saga: definition.name, step: step.name, action: due.kind };
  const end = metrics.stepSeconds.startTimer(labels);
  const given = await attempt(
    { background: recorder.background, giveUp: worker.giveUp.signal },
    definition,
    saga,
    step,
    due,
  );
  end();
  const { kind } = given.input;
  metrics.outcomes.inc({ ...labels, outcome: kind });
  if (kind === 'unknown' || kind === 'uncompensated') {
    const { detail } = given.input;
    options.log.warn({ ...labels, id: saga.sagaId, attempt: saga.state.attempt, detail }, 'a step settled nothing');
  }
  return given;
}

/** Makes sure that the lease outlasts a call of this length, as far as that can be known before. */
async function coverCall(worker: Worker, saga: Held, ms: number): Promise<boolean> {
  const { db, leaseMs } = worker.recorder;
  if (saga.leasedUntil - performance.now() >= ms) return true;
  const since = performance.now();
  if (!(await db.read(null, (sql) => renewLease(sql, saga, leaseMs)))) return false;
  saga.leasedUntil = since + leaseMs;
  return true;
}

function lost({ metrics, options }: Worker, saga: Held): void {
  metrics.leasesLost.inc();
  options.log.warn({ saga: saga.sagaId }, 'saga lease lost; another worker has taken over');
}

/**
 * Records an outcome, or what can be recorded of it. When a local step that was to go along fails, the outcome
 * is recorded without it; when what the outcome means cannot be written, that this try settled nothing.
 */
async function settle(
  worker: Worker,
  definition: SagaDefinition<any>,
  saga: Held,
  given: Given,
): Promise<'held' | 'released' | 'lost' | 'failed'> {
  const release = () => worker.stopping.signal.aborted;
  const alone = localStepDone(definition, saga.state) !== null;
  const plans: ((error: unknown) => { given: Given; merge: boolean } | null)[] = [
    () => ({ given, merge: true }),
    () => (alone ? null : { given, merge: false }),
    (error) => withoutEffect(given.input, alone, error),
  ];
  let failure: unknown;
  for (const plan of plans) {
    const planned = plan(failure);
    if (!planned) continue;
    try {
      return await persist(worker, saga, () =>
        record(worker.recorder, definition, saga, planned.given, { merge: planned.merge, release }),
      );
    } catch (error) {
      failure = error;
      if (isPassing(error)) throw error;
      worker.metrics.recordingsFailed.inc({ saga: definition.name });
      // A local step's refusal is an outcome; everything else thrown while recording is a fault.
      if (!refusal(error)) worker.options.log.error({ err: error, saga: saga.sagaId }, 'recording an outcome failed');
    }
  }
  return 'failed';
}

function withoutEffect(input: Input, local: boolean, error: unknown): { given: Given; merge: boolean } | null {
  if (!('epoch' in input)) return null;
  const { epoch } = input;
  const detail = `recording failed: ${describe(error)}`.slice(0, 500);
  if (input.kind === 'compensated' || input.kind === 'uncompensated') {
    return { given: { input: { kind: 'uncompensated', epoch, permanent: false, reason: '', detail } }, merge: false };
  }
  if (!local) return { given: { input: { kind: 'unknown', epoch, detail } }, merge: false };
  const no = refusal(error);
  if (!no) return { given: { input: { kind: 'absent', epoch } }, merge: false };
  const reason = no.reason.slice(0, 64);
  return { given: { input: { kind: 'rejected', epoch, reason, detail: no.message.slice(0, 500) } }, merge: false };
}

const passing = new Set<Code>(['UNAVAILABLE', 'ABORTED', 'RESOURCE_EXHAUSTED', 'DEADLINE_EXCEEDED']);

/** The database is away or busy. */
const isPassing = (error: unknown): boolean =>
  error instanceof RpcError ? passing.has(error.code) : error instanceof Error && error.name === 'DeadlineError';

/** Goes on trying while the lease lasts: an outcome that is not recorded must be asked for again. */
async function persist<T>(worker: Worker, saga: Held, work: () => Promise<T>): Promise<T> {
  for (let delayMs = 50; ; delayMs = Math.min(delayMs * 2, 1_000)) {
    try {
      return await work();
    } catch (error) {
      const worthwhile = performance.now() + delayMs < saga.leasedUntil && !worker.stopping.signal.aborted;
      if (!isPassing(error) || !worthwhile) throw error;
    }
    await pause(delayMs * (0.5 + 0.5 * worker.options.random()), worker.stopping.signal);
  }
}

/** Tells operators what a recording has brought about. */
function observe(worker: Worker, definition: SagaDefinition<any>, saga: Held): void {
  const { metrics, options } = worker;
  const due = commandOf(definition.core, saga.state);
  const about = { id: saga.sagaId, saga: definition.name, subject: saga.subjectId };
  if (due.kind === 'finished') {
    const labels = { saga: definition.name, result: due.result.kind };
    metrics.finished.inc(labels);
    metrics.seconds.observe(labels, (performance.now() - saga.startedAt) / 1000);
    options.log.debug({ ...about, result: due.result }, 'saga finished');
  } else if (due.kind === 'stuck') {
    const step = definition.steps[saga.state.step]?.name;
    options.log.error({ ...about, step, reason: due.reason }, 'saga stuck: an operator must resume it');
  } else if (due.afterMs > 0) {
    worker.alarm(due.afterMs);
  }
}
