import type { Background } from '../context/background.ts';
import { crashPoint } from '../sync/crash-point.ts';
import { untilAborted } from '../time/until-aborted.ts';
import type { Action, Branch } from './core.ts';
import {
  defaultTimeoutMs,
  elapsedMs,
  type LeasedSaga,
  type RemoteStep,
  type SagaDefinition,
  type StepContext,
  stepKey,
} from './definition.ts';
import { failedAt, inputOf, thrown } from './outcome.ts';
import { factsOf, type Given } from './recording.ts';

/** Calls the step once and returns the outcome; it never throws. Once `giveUp` is aborted it stops waiting. */
export async function attempt(
  { background, giveUp }: { background: Background; giveUp: AbortSignal },
  definition: SagaDefinition,
  saga: LeasedSaga,
  step: RemoteStep,
  due: Branch,
): Promise<Given> {
  const { phase: kind, epoch, round } = due;
  const name = `saga ${definition.name} ${kind} ${step.name}`;
  const call = background(name, step.timeoutMs ?? defaultTimeoutMs, saga);
  const ctx: StepContext = {
    ...factsOf(saga, saga.results),
    call,
    key: stepKey(saga.sagaId, step.name, kind === 'compensate' ? 'compensate' : 'run', round),
    runKey: stepKey(saga.sagaId, step.name, 'run', kind === 'compensate' ? 0 : round),
  };
  const stop = () => call.cancel(new Error('the worker is stopping'));
  giveUp.addEventListener('abort', stop, { once: true });
  try {
    crashPoint('saga.before-call');
    const outcome = invoke(step, kind, ctx, epoch);
    // The request leaves this process in the next turn of the event loop, not when the promise is made.
    setImmediate(crashPoint, 'saga.sent');
    // A step may ignore its deadline.
    const given = await untilAborted(outcome, call.signal);
    crashPoint('saga.responded');
    return { ...given, input: failedAt(given.input, elapsedMs(saga)) };
  } catch (error) {
    return { input: failedAt(thrown(kind, error, epoch), elapsedMs(saga)) };
  } finally {
    giveUp.removeEventListener('abort', stop);
    call.close();
  }
}

async function invoke(step: RemoteStep, kind: Action, ctx: StepContext, epoch: number): Promise<Given> {
  if (kind === 'compensate') {
    const result = await step.compensate?.(ctx);
    return { input: { kind: 'compensated', epoch }, result: result ?? null };
  }
  const outcome = kind === 'query' && step.query ? await step.query(ctx) : await step.run(ctx);
  return { input: inputOf(outcome, epoch), result: outcome.kind === 'done' ? (outcome.result ?? null) : null };
}
