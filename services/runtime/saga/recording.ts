import type { Background } from '../background.ts';
import { crashPoint } from '../crash-point.ts';
import type { Database } from '../db/database.ts';
import type { Tx } from '../db/tx.ts';
import { advance, commandOf, type Input, isPastPivot, type State } from './core.ts';
import { type Held, isLocal, type Json, type SagaDefinition, type SagaFacts, withoutSecrets } from './definition.ts';
import { appendLog, type LogEntry, reload, statusOf, writeState } from './store.ts';

/** An input and what the step handed back with it. */
export interface Given {
  input: Input;
  result?: Json;
}

export interface Recorder {
  db: Database;
  background: Background;
  /** Who holds the leases. */
  holder: string;
  leaseMs: number;
  /** 0 to 1, for jitter. */
  random: () => number;
}

/** Thrown through the transaction, so that what was written with a stale lease or state is rolled back. */
class Overtaken extends Error {
  override name = 'Overtaken';
}

const recordTimeoutMs = 10_000;
const reloadsMax = 10;

/**
 * Applies an input and records it, with what it means for the domain, in one transaction. The saga's row is
 * written last, after the rows of the domain, and fences the whole: when the lease is lost nothing remains.
 * When only the state has moved on, by a wish to cancel, the input is applied to that.
 *
 * With `merge`, local steps that come next are done in the same transaction. With `release`, or where the saga
 * must pause, the lease is given back in it.
 */
export async function record(
  recorder: Recorder,
  definition: SagaDefinition<any>,
  saga: Held,
  given: Given,
  { merge, release }: { merge: boolean; release: () => boolean },
): Promise<'held' | 'released' | 'lost'> {
  for (let reloads = 0; reloads < reloadsMax; reloads += 1) {
    const call = recorder.background(`saga ${definition.name} record`, recordTimeoutMs, saga.traceparent ?? undefined);
    try {
      const since = performance.now();
      const released = release();
      const written = await recorder.db.transaction(call, (tx) =>
        write(tx, recorder, definition, saga, given, { merge, release: released }),
      );
      crashPoint('saga.recorded');
      if (!written) return 'held';
      saga.state = written.state;
      saga.results = written.results;
      saga.version = written.version;
      if (written.held) saga.leasedUntil = since + recorder.leaseMs;
      return written.held ? 'held' : 'released';
    } catch (error) {
      if (!(error instanceof Overtaken)) throw error;
    } finally {
      call.close();
    }
    const now = await recorder.db.read(null, (sql) => reload(sql, saga));
    if (!now) return 'lost';
    saga.state = now.state;
    saga.results = now.results;
    saga.version = now.version;
    // It was recorded before and only the answer to the commit was lost.
    if (!now.leased) return 'released';
  }
  throw new Error(`saga ${definition.name}: its state changed ${reloadsMax} times while one outcome was recorded`);
}

interface Written {
  state: State;
  results: Record<string, Json>;
  version: number;
  held: boolean;
}

async function write(
  tx: Tx,
  recorder: Recorder,
  definition: SagaDefinition<any>,
  saga: Held,
  given: Given,
  options: { merge: boolean; release: boolean },
): Promise<Written | null> {
  const { state, results, log } = await apply(tx, definition, saga, given, options.merge);
  if (log.length === 0) return null;
  const command = commandOf(definition.core, state);
  const rests = command.kind === 'finished' || command.kind === 'stuck';
  // Half of the pause is left to chance, so that sagas that failed together do not come back together.
  const pauseMs = rests ? 0 : command.afterMs * (0.5 + 0.5 * recorder.random());
  const held = !rests && pauseMs === 0 && !options.release;
  const version = saga.version + log.length;
  const kept = await writeState(tx, saga, {
    ...{ state, results, version },
    status: statusOf(state, pauseMs > 0),
    holder: held ? recorder.holder : null,
    dueInMs: rests ? null : held ? recorder.leaseMs : pauseMs,
    data: command.kind === 'finished' ? withoutSecrets(definition, saga.data) : null,
  });
  if (!kept) throw new Overtaken(`saga ${definition.name}: the lease or the state is not what it was`);
  await appendLog(tx, saga.sagaId, saga.version, log);
  return { state, results, version, held };
}

/** Whether the saga's time is up while it can still go back. */
export function isOverdue(definition: SagaDefinition<any>, { state, expiresAt }: Held): boolean {
  const forward = state.phase === 'run' || state.phase === 'query';
  if (!forward || state.failure || isPastPivot(definition.core, state)) return false;
  return performance.now() >= expiresAt;
}

/** The input of a saga whose time is up. */
export const expired: Input = { kind: 'abandon', cause: 'expired', reason: 'TIME_LIMIT', detail: '' };

/** Plays inputs one after another, with what they mean for the domain. */
async function apply(tx: Tx, definition: SagaDefinition<any>, saga: Held, given: Given, merge: boolean) {
  let state = saga.state;
  let results = saga.results;
  const log: LogEntry[] = [];
  const queue: Given[] = isOverdue(definition, saga) ? [{ input: expired }, given] : [given];
  for (;;) {
    const next = queue.shift() ?? (merge ? localStepDone(definition, state) : null);
    if (!next) break;
    const after = advance(definition.core, state, next.input).state;
    if (after === state) continue;
    const step = definition.steps[state.step]?.name ?? '';
    log.push({ step, kind: state.phase, attempt: state.attempt, input: next.input });
    results = await takeEffect(tx, definition, { saga, results }, { before: state, after }, next);
    state = after;
  }
  const command = commandOf(definition.core, state);
  if (command.kind === 'finished' && log.length > 0) {
    await definition.finished?.(tx, factsOf(saga, results), command.result);
  }
  return { state, results, log };
}

/** A local step is done by recording that it is. */
export function localStepDone(definition: SagaDefinition<any>, state: State): Given | null {
  const command = commandOf(definition.core, state);
  if (command.kind !== 'run' || !definition.core.steps[command.step]?.local) return null;
  return { input: { kind: 'done', epoch: command.epoch } };
}

export function factsOf(saga: Held, results: Readonly<Record<string, Json>>): SagaFacts<any> {
  const { sagaId, subjectId, data } = saga;
  return { sagaId, subjectId, data, results };
}

async function takeEffect(
  tx: Tx,
  definition: SagaDefinition<any>,
  { saga, results }: { saga: Held; results: Record<string, Json> },
  { before, after }: { before: State; after: State },
  { input, result = null }: Given,
): Promise<Record<string, Json>> {
  const step = definition.steps[before.step];
  if (!step) return results;
  if (isLocal(step)) {
    if (input.kind === 'done') await step.record(tx, factsOf(saga, results));
    return results;
  }
  const { name, record } = step;
  if (input.kind === 'done') {
    const more = { ...results, [name]: result };
    await record?.(tx, factsOf(saga, more), { kind: 'done', result });
    return more;
  }
  if (input.kind === 'compensated') {
    await record?.(tx, factsOf(saga, results), { kind: 'compensated', result, acted: !before.absent });
  }
  // A refusal after the pivot does not stand: somebody will have it tried again.
  if (input.kind === 'rejected' && after.phase !== 'stuck') {
    const { reason, detail } = input;
    await record?.(tx, factsOf(saga, results), { kind: 'rejected', reason, detail });
  }
  return results;
}
