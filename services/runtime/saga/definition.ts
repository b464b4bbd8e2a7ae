import type { CallContext } from '../context/call-context.ts';
import type { Tx } from '../db/tx.ts';
import { derivedId } from '../id/id.ts';
import type { CoreDefinition, CoreStep, Failure, Result, State } from './core.ts';

/** Results of steps and data of sagas: they are stored, so they must survive JSON. */
export type Json = string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json | undefined };

/** The outcome of one call of a step. An outcome that is not done, refused or absent is unknown. */
export type StepOutcome =
  | { readonly kind: 'done'; readonly result?: Json }
  | { readonly kind: 'rejected'; readonly reason: string; readonly detail: string }
  | { readonly kind: 'unknown'; readonly detail: string };

/**
 * A status query may also find that the step has not acted, or only in part: then it must be called again, or
 * compensated.
 */
export type StatusOutcome = StepOutcome | { readonly kind: 'absent' };

/** A final outcome, as passed to `record`. */
export type Recorded =
  | { readonly kind: 'done'; readonly result: Json }
  | { readonly kind: 'rejected'; readonly reason: string; readonly detail: string }
  /** `acted` is false when the compensation only left a tombstone for a request that may still arrive. */
  | { readonly kind: 'compensated'; readonly result: Json; readonly acted: boolean };

// biome-ignore lint/suspicious/noExplicitAny: a worker holds definitions of different data side by side
type AnyData = any;

export interface SagaFacts<Data = AnyData> {
  readonly sagaId: string;
  readonly subjectId: string;
  readonly data: Data;
  /**
   * The results of the remote steps done so far, by the name of the step; null where there was none. A compensation
   * that returns a result replaces the result of its step.
   */
  readonly results: Readonly<Record<string, Json>>;
}

export interface StepContext<Data = AnyData> extends SagaFacts<Data> {
  /** A call in the service's own name that ends with this try; pass it on as `parent`. */
  readonly call: CallContext;
  /** The same at every try of this step: the request id. A compensation has its own. */
  readonly key: string;
  /** The key under which `run` was called: for a status query or a compensation of a step that has no id of its own. */
  readonly runKey: string;
}

/** A step that calls another service. All of its calls are made at least once, so all must act once per key. */
export interface RemoteStep<Data = AnyData> {
  name: string;
  local?: undefined;
  /** Once this step is done the saga only goes forward. */
  pivot?: boolean;
  /** How long one try may take, milliseconds. */
  timeoutMs?: number;
  /** The service that the step calls, such as 'payments'. A worker limits how many calls to one are in progress. */
  dependency?: string;
  /**
   * Consecutive steps after the pivot with the same group are independent: none waits for another one, they end in any
   * order, and the step after the group starts once all of them are done.
   */
  group?: string;
  /** Throwing a permanent RpcError is a rejection; throwing anything else makes the outcome unknown. */
  run(ctx: StepContext<Data>): Promise<StepOutcome>;
  /** Finds out how `run` ended, without acting. An exception makes the outcome unknown. */
  query?(ctx: StepContext<Data>): Promise<StatusOutcome>;
  /** Undoes the step. Throwing a permanent RpcError makes the saga stuck; any other error is retried. */
  compensate?(ctx: StepContext<Data>): Promise<Json | undefined>;
  /**
   * Compensate even when the status query found nothing: for services that leave a tombstone, so that a request still
   * in progress has no effect. Without it, an absent outcome must be final.
   */
  compensateAbsent?: boolean;
  /** Writes the effect of the outcome, in the transaction that records it. It may run more than once. */
  record?(tx: Tx, saga: SagaFacts<Data>, outcome: Recorded): Promise<void>;
}

/**
 * A step that only writes to the service's own database, in the same transaction that records the step before it: it
 * needs no extra commit. Throwing a permanent RpcError is a rejection.
 */
export interface LocalStep<Data> {
  name: string;
  pivot?: boolean;
  local: true;
  record(tx: Tx, saga: SagaFacts<Data>): Promise<void>;
}

export type Step<Data> = RemoteStep<Data> | LocalStep<Data>;

/** The retry limits of a command with an unknown outcome or a failed compensation. */
export interface RetryPolicy {
  /** The first pause; it doubles with every try, with jitter. */
  readonly initialBackoffMs: number;
  /** The longest pause. */
  readonly maxBackoffMs: number;
  /**
   * After the pivot and during compensation: the command is stuck once it has failed for this long, counted from its
   * first failed try by the clock of the database. Before the pivot the time limit of the saga ends the tries instead.
   */
  readonly maxElapsedMs: number;
}

/** The result of a finished saga. */
export type SagaResult = Result;
export type SagaFailure = Failure;

export interface SagaInit<Data> {
  name: string;
  /**
   * Whole number from 1, stored with each saga. The behaviour of a version never changes: another order of steps or
   * another request is a new version, and the old one stays registered until no saga of it is left.
   */
  version: number;
  steps: readonly Step<Data>[];
  /**
   * Limit for the time until the pivot is done: then the saga compensates, once the outcome of its current step is
   * known.
   */
  timeLimitMs: number | 'none';
  /**
   * The saga only goes forward, from its first step: neither a time limit nor an operator nor a cancel request ends it.
   */
  mustComplete?: boolean;
  /** Defaults: 100 ms, 30 s and 24 hours. */
  retry?: Partial<RetryPolicy>;
  /**
   * Whether compensations wait for one another. 'in-order' is for versions that began before compensations were
   * independent of each other.
   */
  compensation?: 'independent' | 'in-order';
  /**
   * Fields of the data that operators may see: no personal data and no payment credentials. All others are redacted.
   */
  nonSensitive?: readonly (keyof Data & string)[];
  /** Fields of the data that are removed from the row in the transaction that ends the saga, such as payment tokens. */
  secrets?: readonly (keyof Data & string)[];
  /**
   * Writes the effect of the end, in the transaction that ends the saga, whether a worker, an operator or a cancel
   * request ends it. It may run more than once.
   */
  finished?(tx: Tx, saga: SagaFacts<Data>, result: SagaResult): Promise<void>;
}

/** A saga that a worker has leased: its row, and the end of the lease. */
export interface LeasedSaga {
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

/** Milliseconds since the saga began: the time that the core uses. */
export const elapsedMs = ({ startedAt }: Pick<LeasedSaga, 'startedAt'>): number =>
  Math.round(performance.now() - startedAt);

/** A worker in this process, as `startSaga` sees it. */
export interface Handover {
  /** Returns the lease under which a new saga of this definition may be inserted, or null when no slot is free. */
  offer(definition: SagaDefinition): { holder: string; leaseMs: number } | null;
  /** Takes over a saga that was inserted under that lease and has committed. */
  adopt(definition: SagaDefinition, saga: LeasedSaga): void;
  /** Called when a saga may be due. */
  wake(): void;
}

export interface SagaDefinition<Data = AnyData> {
  readonly name: string;
  readonly version: number;
  readonly steps: readonly Step<Data>[];
  /** Null: none. */
  readonly timeLimitMs: number | null;
  readonly core: CoreDefinition;
  readonly nonSensitive: readonly string[];
  readonly secrets: readonly string[];
  readonly finished: SagaInit<Data>['finished'];
  /** The workers of this process that run it. */
  readonly workers: Set<Handover>;
}

const defaultRetry: RetryPolicy = { initialBackoffMs: 100, maxBackoffMs: 30_000, maxElapsedMs: 86_400_000 };
export const defaultTimeoutMs = 5_000;
const namePattern = /^[a-z][a-z0-9_-]{0,63}$/;

export const isLocal = <Data>(step: Step<Data>): step is LocalStep<Data> => step.local === true;

/** Returns the data that an ended saga keeps, as in its row; null when all of it is kept. */
export function withoutSecrets({ secrets }: SagaDefinition, data: unknown): string | null {
  if (secrets.length === 0 || data === null || typeof data !== 'object') return null;
  return JSON.stringify(Object.fromEntries(Object.entries(data).filter(([field]) => !secrets.includes(field))));
}

/** Checks a saga definition and prepares it. Throws when its parts do not match. */
export function defineSaga<Data>(init: SagaInit<Data>): SagaDefinition<Data> {
  const { name, version, timeLimitMs, mustComplete = false, compensation = 'independent' } = init;
  const retry = { ...defaultRetry, ...init.retry };
  check(init, retry);
  return {
    name,
    version,
    steps: init.steps,
    timeLimitMs: timeLimitMs === 'none' ? null : timeLimitMs,
    core: { name, version, steps: init.steps.map(coreStep), mustComplete, compensation, retry },
    nonSensitive: init.nonSensitive ?? [],
    secrets: init.secrets ?? [],
    finished: init.finished,
    workers: new Set(),
  };
}

const coreStep = <Data>(step: Step<Data>): CoreStep => ({
  name: step.name,
  local: isLocal(step),
  pivot: step.pivot === true,
  queryable: !isLocal(step) && step.query !== undefined,
  compensable: !isLocal(step) && step.compensate !== undefined,
  compensateAbsent: !isLocal(step) && step.compensateAbsent === true,
  ...(!isLocal(step) && step.group !== undefined ? { group: step.group } : {}),
});

function check<Data>(init: SagaInit<Data>, retry: RetryPolicy): void {
  const { name, version, timeLimitMs, mustComplete, nonSensitive = [], secrets = [] } = init;
  const fail = (rule: string) => {
    throw new Error(`saga ${name}: ${rule}`);
  };
  if (!namePattern.test(name)) fail('name must be lower case letters, digits, _ and -, at most 64');
  if (!isPositive(version) || version > versionMax) fail(`version must be a whole number from 1 to ${versionMax}`);
  if (timeLimitMs !== 'none' && !isPositive(timeLimitMs)) fail("timeLimitMs must be a whole number above 0, or 'none'");
  if (mustComplete && timeLimitMs !== 'none') fail("mustComplete needs timeLimitMs: 'none', since no time ends it");
  for (const [field, value] of Object.entries(retry)) {
    if (!isPositive(value)) fail(`retry.${field} must be a whole number above 0`);
  }
  for (const field of secrets) {
    if (nonSensitive.includes(field)) fail(`data field ${field} is non-sensitive and secret at the same time`);
  }
  checkSteps(init, fail);
}

const versionMax = 1_000_000;
const isPositive = (value: number): boolean => Number.isSafeInteger(value) && value >= 1;

function checkSteps<Data>({ steps, mustComplete }: SagaInit<Data>, fail: (rule: string) => void): void {
  if (steps.length === 0 || steps.length > 50) fail('steps must be 1 to 50');
  if (new Set(steps.map((step) => step.name)).size !== steps.length) fail('steps must have names of their own');
  if (steps.filter((step) => step.pivot).length > 1) fail('steps must have one pivot at most');
  const pivot = mustComplete ? -1 : steps.findIndex((step) => step.pivot);
  const closed = new Set<string>();
  for (const [index, step] of steps.entries()) {
    const failStep = (rule: string) => fail(`step ${step.name}: ${rule}`);
    if (!namePattern.test(step.name)) failStep('name must be lower case letters, digits, _ and -');
    const before = index > 0 ? groupOf(steps[index - 1]!) : undefined;
    if (before !== undefined && before !== groupOf(step)) closed.add(before);
    if (isLocal(step)) continue;
    if (step.compensateAbsent && !step.compensate) failStep('compensateAbsent needs a compensate');
    if (mustComplete && step.compensate) failStep('a saga that must complete compensates nothing');
    if (step.dependency !== undefined && !namePattern.test(step.dependency)) failStep('dependency must be a name');
    if (step.group === undefined) continue;
    if (!namePattern.test(step.group)) failStep('group must be a name');
    if (!mustComplete && (pivot < 0 || index <= pivot)) failStep('group is for steps after the pivot');
    if (closed.has(step.group)) failStep(`the steps of group ${step.group} must follow one another`);
  }
}

const groupOf = <Data>(step: Step<Data>): string | undefined => (isLocal(step) ? undefined : step.group);

/** The request id of a step's call: the same for every try, in any process. */
export function stepKey(sagaId: string, step: string, action: 'run' | 'compensate', round: number): string {
  const parts = [sagaId, step];
  if (action === 'compensate') parts.push('compensate');
  if (round > 0) parts.push(String(round));
  return derivedId(parts.join('/'));
}
