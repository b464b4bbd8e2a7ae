import { type Saga, SagaState } from '@armature/proto/ops/v1/ops.ts';
import { ResumeOutcome } from '@armature/proto/ops/v1/resume_sagas.ts';
import { asked, askedOfAll, needed, type Ops, say, servicesOf, table, time, valueName } from './asking.ts';

const { S = '', STATE = '', ID = '', SAGA = '', STEP = '', REASON = '', OLDER = '', APPLY = '' } = process.env;
const pageSize = 200;

const states: Readonly<Record<string, Saga['state']>> = {
  '': SagaState.SAGA_STATE_UNSPECIFIED,
  running: SagaState.SAGA_STATE_RUNNING,
  stuck: SagaState.SAGA_STATE_STUCK,
  completed: SagaState.SAGA_STATE_COMPLETED,
  failed: SagaState.SAGA_STATE_FAILED,
};

const stateName = ({ state }: Saga) => valueName(SagaState, state, 'SAGA_STATE_');

/** Sagas that have not ended, or those in STATE=…, of one service or of all. */
export async function listSagas(): Promise<void> {
  const state = states[STATE];
  if (state === undefined) throw new Error(`STATE=${STATE} is not one of running, stuck, completed, failed`);
  const found = await askedOfAll(servicesOf(S), async (ops) => (await ops.listSagas({ state, pageSize })).sagas);
  if (found.length === 0) {
    if (!process.exitCode) console.log('No such sagas.');
    return;
  }
  const rows = found.map(({ service, item }) => [
    ...[
      service,
      item.sagaId,
      `${item.name} ${item.version}${item.known ? '' : ' (unknown)'}`,
      item.subjectId,
      stateName(item),
      item.step || '-',
      item.action || '-',
    ],
    ...[time(item.createTime), item.stuckReason || item.failureReason],
  ]);
  const headings = ['SERVICE', 'ID', 'SAGA', 'ABOUT', 'STATE', 'STEP', 'ACTION', 'SINCE (UTC)', 'REASON'];
  for (const line of table(headings, rows)) console.log(line);
}

/** One saga with its history. */
export async function showSaga(): Promise<void> {
  const sagaId = needed('ID', 'make saga S=orders ID=<id of make sagas>');
  const { saga, log, inputJson } = await asked(oneService(), (ops) => ops.getSaga({ sagaId }));
  show(saga!);
  console.log(`began with  ${inputJson}\n`);
  const rows = log.map((entry) => [
    ...[String(entry.position), time(entry.time), entry.step, entry.due, entry.outcome, entry.reason, entry.detail],
  ]);
  for (const line of table(['', 'TIME (UTC)', 'STEP', 'DUE', 'CAME', 'REASON', 'DETAIL'], rows)) console.log(line);
}

/** Resumes one saga by ID=…, or those that fit SAGA, STEP, REASON and OLDER (seconds), which only APPLY=1 does. */
export async function resume(): Promise<void> {
  if (ID !== '') return change((ops, sagaId) => ops.resumeSaga({ sagaId }), 'make resume S=orders ID=<id>');
  if (SAGA + STEP + REASON + OLDER === '') {
    throw new Error('say which: ID=<id>, or SAGA=<name>, STEP=<step>, REASON=<part of it>, OLDER=<seconds> together');
  }
  if (!/^\d{0,8}$/.test(OLDER)) throw new Error(`OLDER=${OLDER} is not a number of seconds`);
  const apply = APPLY === '1';
  const filter = { name: SAGA, step: STEP, reason: REASON, olderThanSeconds: BigInt(OLDER || 0) };
  const { results, more } = await asked(oneService(), (ops) => ops.resumeSagas({ filter, apply }));
  const rows = results.map((one) => [
    ...[one.sagaId, `${one.name} ${one.version}`, one.subjectId, one.steps, one.stuckReason],
    ...[valueName(ResumeOutcome, one.outcome, 'RESUME_OUTCOME_'), one.reason],
  ]);
  for (const line of table(['ID', 'SAGA', 'ABOUT', 'STUCK AT', 'BECAUSE OF', 'OUTCOME', 'REASON'], rows)) {
    console.log(line);
  }
  if (results.length === 0) say('none fits');
  if (more) say('there are more that fit; run it again for those');
  if (!apply && results.length > 0) say('nothing was done; APPLY=1 does it');
  const bad: number[] = [ResumeOutcome.RESUME_OUTCOME_FAILED, ResumeOutcome.RESUME_OUTCOME_NOT_TRIED];
  if (results.length === 0 || results.some(({ outcome }) => bad.includes(outcome))) process.exitCode = 1;
}

export async function compensate(): Promise<void> {
  const example = "make compensate S=orders ID=<id> WHY='ticket 123'";
  const why = needed('WHY', example);
  await change((ops, sagaId) => ops.forceCompensateSaga({ sagaId, why }), example);
}

async function change(order: (ops: Ops, sagaId: string) => Promise<Saga>, example: string): Promise<void> {
  const sagaId = needed('ID', example);
  show(await asked(oneService(), (ops) => order(ops, sagaId)));
}

function show(saga: Saga): void {
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
  for (const line of table(['BRANCH', 'ACTION', '', 'TRIES', 'FAILING SINCE (UTC)', 'REASON'], rows)) console.log(line);
}

function oneService() {
  const [service] = servicesOf(needed('S', 'S=orders'));
  return service!;
}
