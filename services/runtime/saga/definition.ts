import type { Tx } from '../db/tx.ts';
import { derivedId } from '../id.ts';
import type { Call } from '../rpc/call.ts';
import type { CoreDefinition, Failure, Result, State } from './core.ts';

/** What steps hand back and sagas start from: it is stored, so it must survive JSON. */
export type Json = string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json | undefined };

/** How one call of a step ended. What is neither done nor refused nor absent is unknown. */
export type StepOutcome =
  | { readonly kind: 'done'; readonly result?: Json }
  | { readonly kind: 'rejected'; readonly reason: string; readonly detail: string }
  | { readonly kind: 'unknown'; readonly detail: string };

/**
 * A status query may also find that the step has not acted, or not to its end: calling it again, or compensating it,
 * is what brings it there.
 */
export type StatusAnswer = StepOutcome | { readonly kind: 'absent' };

/** An outcome that stands, as `record` hears of it. */
export type Recorded =
  | { readonly kind: 'done'; readonly result: Json }
  | { readonly kind: 'rejected'; readonly reason: string; readonly detail: string }
  /** `acted` is false where only a tombstone was left for a request that may still come. */
  | { readonly kind: 'compensated'; readonly result: Json; readonly acted: boolean };

export interface SagaFacts<Data> {
  readonly sagaId: string;
  readonly subjectId: string;
  readonly data: Data;
  /** What the remote steps done so far have handed back, by the name of the step; null where that was nothing. */
  readonly results: Readonly<Record<string, Json>>;
}

export interface StepContext<Data> extends SagaFacts<Data> {
  /** A call in the service's own name that ends with this try; pass it on as `parent`. */
  readonly call: Call;
  /** The same at every try of this step: the request id. A compensation has its own. */
  readonly key: string;
  /**
   * The key under which `run` was called: what a status query or a compensation asks about, where the step
   * is not known by an id of its own.
   */
  readonly runKey: string;
}

/** A step that calls somebody. All of its calls are made at least once, so all must act once per key. */
export interface RemoteStep<Data> {
  name: string;
  local?: undefined;
  /** Once this step is done the saga only goes forward. */
  pivot?: boolean;
  /** How long one try may take, milliseconds. */
  timeoutMs?: number;
  /** Throwing an RpcError that says no is a rejection; throwing anything else makes the outcome unknown. */
  run(ctx: StepContext<Data>): Promise<StepOutcome>;
  /** Finds out how `run` ended, without acting. What it throws makes the answer unknown. */
  query?(ctx: StepContext<Data>): Promise<StatusAnswer>;
  /** Undoes the step. Throwing an RpcError that says no makes the saga stuck; anything else is tried again. */
  compensate?(ctx: StepContext<Data>): Promise<Json | undefined>;
  /**
   * Compensate even where the status query found nothing: for services that leave a tombstone, so that a
   * request still under way has no effect. Without it, an absent answer must be final.
   */
  compensateAbsent?: boolean;
  /** Writes what the outcome means, in the transaction that records it. It may be run more than once. */
  record?(tx: Tx, saga: SagaFacts<Data>, outcome: Recorded): Promise<void>;
}

/**
 * A step that only writes to the service's own database, in the same transaction that records the step before
 * it: it costs no commit. Throwing an RpcError that says no is a rejection.
 */
export interface LocalStep<Data> {
  name: string;
  pivot?: boolean;
  local: true;
  record(tx: Tx, saga: SagaFacts<Data>): Promise<void>;
}

export type Step<Data> = RemoteStep<Data> | LocalStep<Data>;

export interface SagaLimits {
  /** Before the pivot is done: after this the saga goes back, once the outcome of its step is known. */
  timeLimitMs: number;
  /** Tries in a row of one step on the way back or after the pivot, before the saga is stuck. */
  attemptsMax: number;
  /** Pauses between tries: double from the first up to the longest, with jitter. */
  backoff: { firstMs: number; maxMs: number };
}

/** What a finished saga says about itself. */
export type SagaResult = Result;
export type SagaFailure = Failure;

export interface SagaInit<Data> {
  name: string;
  steps: readonly Step<Data>[];
  limits?: Partial<SagaLimits>;
  /** Fields of the data that operators may see: no personal data, nothing that pays. All others are redacted. */
  harmless?: readonly (keyof Data & string)[];
  /** Writes what the end means, in the transaction that records it. It may be run more than once. */
  finished?(tx: Tx, saga: SagaFacts<Data>, result: SagaResult): Promise<void>;
}

/** A saga as a worker holds it: what it has read, and what its lease is good for. */
export interface Held {
  readonly sagaId: string;
  readonly subjectId: string;
  readonly data: unknown;
  readonly traceparent: string | null;
  readonly token: bigint;
  state: State;
  results: Record<string, Json>;
  /** Inputs applied so far; the position of the newest row in saga_log. */
  version: number;
  /** By this process's monotonic clock. */
  leasedUntil: number;
  expiresAt: number;
  startedAt: number;
}

/** A worker in this process, as whoever starts a saga sees it. */
export interface Handover {
  /** The lease under which a new saga may be inserted, or null when the worker is full or stopping. */
  offer(): { holder: string; leaseMs: number } | null;
  /** Takes over a saga that was inserted under that lease and has committed. */
  adopt(definition: SagaDefinition<any>, saga: Held): void;
  /** Says that something is due. */
  wake(): void;
}

export interface SagaDefinition<Data> {
  readonly name: string;
  readonly steps: readonly Step<Data>[];
  readonly limits: SagaLimits;
  readonly core: CoreDefinition;
  readonly harmless: readonly string[];
  readonly finished: SagaInit<Data>['finished'];
  /** The workers of this process that run it. */
  readonly workers: Set<Handover>;
}

const defaultLimits: SagaLimits = { timeLimitMs: 60_000, attemptsMax: 15, backoff: { firstMs: 100, maxMs: 30_000 } };
export const defaultTimeoutMs = 5_000;
const namePattern = /^[a-z][a-z0-9_-]{0,63}$/;

export const isLocal = <Data>(step: Step<Data>): step is LocalStep<Data> => step.local === true;

/** Checks a saga and makes it ready to run. Throws when its parts do not fit together. */
export function defineSaga<Data>(init: SagaInit<Data>): SagaDefinition<Data> {
  const limits = { ...defaultLimits, ...init.limits };
  check(init, limits);
  const steps = init.steps.map((step) => ({
    name: step.name,
    local: isLocal(step),
    pivot: step.pivot === true,
    queryable: !isLocal(step) && step.query !== undefined,
    compensable: !isLocal(step) && step.compensate !== undefined,
    compensateAbsent: !isLocal(step) && step.compensateAbsent === true,
  }));
  return {
    name: init.name,
    steps: init.steps,
    limits,
    core: { name: init.name, steps, limits },
    harmless: init.harmless ?? [],
    finished: init.finished,
    workers: new Set(),
  };
}

function check<Data>({ name, steps }: SagaInit<Data>, limits: SagaLimits): void {
  const fail = (rule: string) => {
    throw new Error(`saga ${name}: ${rule}`);
  };
  if (!namePattern.test(name)) fail('name must be lower case letters, digits, _ and -, at most 64');
  if (steps.length === 0 || steps.length > 50) fail('steps must be 1 to 50');
  if (new Set(steps.map((step) => step.name)).size !== steps.length) fail('steps must have names of their own');
  if (steps.filter((step) => step.pivot).length > 1) fail('steps must have one pivot at most');
  for (const step of steps) {
    if (!namePattern.test(step.name)) fail(`step ${step.name}: name must be lower case letters, digits, _ and -`);
    if (!isLocal(step) && step.compensateAbsent && !step.compensate) {
      fail(`step ${step.name}: compensateAbsent needs a compensate`);
    }
  }
  for (const [field, value] of [
    ['timeLimitMs', limits.timeLimitMs],
    ['attemptsMax', limits.attemptsMax],
    ['backoff.firstMs', limits.backoff.firstMs],
    ['backoff.maxMs', limits.backoff.maxMs],
  ] as const) {
    if (!Number.isSafeInteger(value) || value < 1) fail(`limits.${field} must be a whole number above 0`);
  }
}

/** The request id of a step's call: the same for every try, in whichever process. */
export function stepKey(sagaId: string, step: string, action: 'run' | 'compensate', round: number): string {
  const parts = [sagaId, step];
  if (action === 'compensate') parts.push('compensate');
  if (round > 0) parts.push(String(round));
  return derivedId(parts.join('/'));
}
