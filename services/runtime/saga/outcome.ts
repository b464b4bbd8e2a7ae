import { type Code, RpcError } from '../errors/errors.ts';
import type { Input } from './core.ts';
import type { Json, StatusOutcome, StepOutcome } from './definition.ts';

/**
 * The codes by which a service refuses a request for good, after checking it. A keyed method gives the same refusal to
 * every duplicate.
 *
 * PERMISSION_DENIED, UNAUTHENTICATED, UNIMPLEMENTED and INTERNAL are not among them. They describe the mesh (a policy,
 * a certificate, a version that is not deployed yet, a fault), not the order, and an earlier try may have acted before
 * they began. An operator repairs their cause, so they are retried with growing pauses and are visible as sagas that
 * grow old.
 */
const refusals = new Set<Code>([
  'INVALID_ARGUMENT',
  'NOT_FOUND',
  'FAILED_PRECONDITION',
  'ALREADY_EXISTS',
  'OUT_OF_RANGE',
]);

/**
 * Returns the error when it is a refusal. REQUEST_ID_REUSED is not: it means that an earlier request under this key was
 * different, and that one may have acted.
 */
export function refusal(error: unknown): RpcError | null {
  if (!(error instanceof RpcError) || !refusals.has(error.code)) return null;
  return error.reason === 'REQUEST_ID_REUSED' ? null : error;
}

export const done = (result?: Json): StepOutcome => ({ kind: 'done', result });

export const rejected = (reason: string, detail = ''): StepOutcome => ({ kind: 'rejected', reason, detail });

/** For status queries: NOT_FOUND means that the step has not acted. Throws any other error again. */
export function absentIfNotFound(error: unknown): StatusOutcome {
  if (error instanceof RpcError && error.code === 'NOT_FOUND') return { kind: 'absent' };
  throw error;
}

/** Describes a failure for the log of a saga: never the cause, which may contain anything. */
export function describe(error: unknown): string {
  if (error instanceof RpcError) return `${error.code} ${error.reason} ${error.message}`.slice(0, 500);
  return error instanceof Error ? error.name : 'not an error';
}

/** Converts the outcome of `run` or `query` to an input of the core. */
export function inputOf(outcome: StatusOutcome, epoch: number): Input {
  switch (outcome.kind) {
    case 'rejected':
      return { kind: 'rejected', epoch, reason: outcome.reason.slice(0, 64), detail: outcome.detail.slice(0, 500) };
    case 'unknown':
      return { kind: 'unknown', epoch, detail: outcome.detail.slice(0, 500) };
    default:
      return { kind: outcome.kind, epoch };
  }
}

/** Converts an exception of `run`, `query` or `compensate` to an input of the core. */
export function thrown(action: 'run' | 'query' | 'compensate', error: unknown, epoch: number): Input {
  const no = refusal(error);
  if (action === 'compensate') {
    const reason = (no?.reason ?? '').slice(0, 64);
    return { kind: 'uncompensated', epoch, permanent: no !== null, reason, detail: describe(error), ...pauseOf(error) };
  }
  if (no && action === 'run') return inputOf({ kind: 'rejected', reason: no.reason, detail: no.message }, epoch);
  return { kind: 'unknown', epoch, detail: describe(error), ...pauseOf(error) };
}

/** Returns the pause that a service requests (google.rpc.RetryInfo). */
function pauseOf(error: unknown): { retryAfterMs?: number } {
  const { retryDelayMs = 0 } = error instanceof RpcError ? error.details : {};
  return Number.isFinite(retryDelayMs) && retryDelayMs > 0 ? { retryAfterMs: Math.ceil(retryDelayMs) } : {};
}

/** Adds the time of the failure to the input of a try that may be repeated. */
export function failedAt(input: Input, at: number): Input {
  return input.kind === 'unknown' || input.kind === 'absent' || input.kind === 'uncompensated'
    ? { ...input, at }
    : input;
}
