import { type Saga, SagaState } from '@armature/proto/ops/v1/ops.ts';
import { asked, askedOfAll, needed, type Ops, servicesOf, table, time, valueName } from './asking.ts';

const { S = '', STATE = '' } = process.env;
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
    ...[service, item.sagaId, item.name, item.subjectId, stateName(item), item.step || '-', item.action || '-'],
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

export async function resume(): Promise<void> {
  await change((ops, sagaId) => ops.resumeSaga({ sagaId }), 'make resume S=orders ID=<id>');
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
  console.log(`${saga.name} ${saga.sagaId} about ${saga.subjectId}`);
  console.log(`${stateName(saga)}${saga.step ? ` at ${saga.step} (${saga.action})` : ''}, ${turn}`);
  const reason = saga.stuckReason || saga.failureReason;
  if (reason) console.log(`because of ${reason}`);
}

function oneService() {
  const [service] = servicesOf(needed('S', 'S=orders'));
  return service!;
}
