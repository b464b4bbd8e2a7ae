import { GetSagaResponse, Saga, SagaState } from '@armature/proto/ops/v1/ops.ts';
import { ResumeOutcome, ResumeSagasResponse } from '@armature/proto/ops/v1/resume_sagas.ts';
import { UsageError } from '../exit-codes.ts';
import { printJson } from '../json.ts';
import {
  type Caller,
  callOps,
  callOpsOfAll,
  noteOmissions,
  printTable,
  serviceNamed,
  servicesNamed,
  time,
  valueName,
} from './ops-client.ts';

const pageSize = 200;

const states: Readonly<Record<string, Saga['state']>> = {
  running: SagaState.SAGA_STATE_RUNNING,
  stuck: SagaState.SAGA_STATE_STUCK,
  completed: SagaState.SAGA_STATE_COMPLETED,
  failed: SagaState.SAGA_STATE_FAILED,
};

const stateName = ({ state }: Saga) => valueName(SagaState, state, 'SAGA_STATE_');

/** Lists sagas that have not ended, or those in one state, of one service or of all. */
export async function listSagas(options: { service?: string; state?: string }, caller: Caller): Promise<void> {
  const state = options.state === undefined ? SagaState.SAGA_STATE_UNSPECIFIED : states[options.state];
  const found = await callOpsOfAll(
    servicesNamed(options.service),
    caller,
    async (client) => (await client.listSagas({ state, pageSize })).sagas,
  );
  if (caller.invocation.json) {
    printJson(found.map(({ service, item }) => ({ service, ...(Saga.toJSON(item) as object) })));
    return;
  }
  if (found.length === 0) {
    if (!process.exitCode) console.log('No such sagas.');
    return;
  }
  const rows = found.map(({ service, item }) => [
    ...[service, item.sagaId, `${item.name} ${item.version}${item.known ? '' : ' (unknown)'}`, item.subjectId],
    ...[stateName(item), item.step || '-', item.action || '-'],
    ...[time(item.createTime), item.stuckReason || item.failureReason],
  ]);
  printTable(['SERVICE', 'ID', 'SAGA', 'ABOUT', 'STATE', 'STEP', 'ACTION', 'SINCE (UTC)', 'REASON'], rows);
}

/** Shows one saga with its history. */
export async function showSaga(sagaId: string, service: string, caller: Caller): Promise<void> {
  const response = await callOps(serviceNamed(service), caller, (client) => client.getSaga({ sagaId }));
  if (caller.invocation.json) {
    printJson(GetSagaResponse.toJSON(response));
    return;
  }
  printSaga(response.saga!);
  console.log(`began with  ${response.inputJson}\n`);
  const rows = response.log.map((entry) => [
    ...[String(entry.position), time(entry.time), entry.step, entry.due, entry.outcome, entry.reason, entry.detail],
  ]);
  printTable(['NUMBER', 'TIME (UTC)', 'STEP', 'DUE', 'OUTCOME', 'REASON', 'DETAIL'], rows);
}

export interface ResumeOptions {
  service: string;
  saga?: string;
  step?: string;
  reason?: string;
  /** Seconds. */
  olderThan?: number;
  apply?: boolean;
}

/** Resumes one stuck saga by its id, or those that match a filter; a filter without `apply` only lists them. */
export async function resumeSagas(sagaId: string | undefined, options: ResumeOptions, caller: Caller): Promise<void> {
  const service = serviceNamed(options.service);
  if (sagaId !== undefined) {
    printChanged(await callOps(service, caller, (client) => client.resumeSaga({ sagaId })), caller);
    return;
  }
  const { saga, step, reason, olderThan, apply = false } = options;
  if ([saga, step, reason, olderThan].every((one) => one === undefined)) {
    throw new UsageError('name a saga by its id, or choose some by --saga, --step, --reason and --older-than');
  }
  const filter = {
    ...{ name: saga ?? '', step: step ?? '', reason: reason ?? '' },
    olderThanSeconds: BigInt(olderThan ?? 0),
  };
  const response = await callOps(service, caller, (client) => client.resumeSagas({ filter, apply }));
  const { results, more } = response;
  const failed: number[] = [ResumeOutcome.RESUME_OUTCOME_FAILED, ResumeOutcome.RESUME_OUTCOME_NOT_TRIED];
  if (results.length === 0 || results.some(({ outcome }) => failed.includes(outcome))) process.exitCode = 1;
  if (caller.invocation.json) {
    printJson({ applied: apply, ...(ResumeSagasResponse.toJSON(response) as object) });
    return;
  }
  const rows = results.map((one) => [
    ...[one.sagaId, `${one.name} ${one.version}`, one.subjectId, one.steps, one.stuckReason],
    ...[valueName(ResumeOutcome, one.outcome, 'RESUME_OUTCOME_'), one.reason],
  ]);
  printTable(['ID', 'SAGA', 'ABOUT', 'STUCK AT', 'BECAUSE OF', 'OUTCOME', 'REASON'], rows);
  noteOmissions(results, { of: 'saga', more, apply });
}

/** Turns a saga back before its pivot. */
export async function compensateSaga(
  sagaId: string,
  { service, why }: { service: string; why: string },
  caller: Caller,
): Promise<void> {
  const compensate = () =>
    callOps(serviceNamed(service), caller, (client) => client.forceCompensateSaga({ sagaId, why }));
  printChanged(await compensate(), caller);
}

function printChanged(saga: Saga, { invocation }: Caller): void {
  if (invocation.json) printJson(Saga.toJSON(saga));
  else printSaga(saga);
}

function printSaga(saga: Saga): void {
  const turn = saga.pastPivot ? 'past its pivot: only forward' : 'not past its pivot: can be turned back';
  const unknown = saga.known ? '' : ', which this process does not know and never runs';
  console.log(`${saga.name} ${saga.sagaId} about ${saga.subjectId}, version ${saga.version}${unknown}`);
  console.log(`${stateName(saga)}${saga.step ? ` at ${saga.step} (${saga.action})` : ''}, ${turn}`);
  const reason = saga.stuckReason || saga.failureReason;
  if (reason) console.log(`because of ${reason}`);
  if (saga.branches.length < 2) return;
  const rows = saga.branches.map(({ step, action, attempt, stuckReason, failingSinceTime }) => [
    ...[step, action, stuckReason ? 'stuck' : 'due', String(attempt), time(failingSinceTime), stuckReason],
  ]);
  printTable(['BRANCH', 'ACTION', 'STATE', 'TRIES', 'FAILING SINCE (UTC)', 'REASON'], rows);
}
