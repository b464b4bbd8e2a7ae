import type { OpsServiceContract } from '@armature/proto/ops/v1/contract.ts';
import { type Saga, type SagaLogEntry, SagaState } from '@armature/proto/ops/v1/ops.ts';
import type { Database } from '../db/database.ts';
import { type SqlReader, type Tx, utcDate } from '../db/tx.ts';
import { runIdempotent } from '../idempotency/run-idempotent.ts';
import { closePage, openPage } from '../rpc/paging.ts';
import type { Implementation } from '../rpc/server.ts';
import { isPastPivot, type State } from '../saga/core.ts';
import type { SagaDefinition } from '../saga/definition.ts';
import { forceCompensate, resumeSaga } from '../saga/engine.ts';
import { readState } from '../saga/state-format.ts';
import { noDeadline, type Status } from '../saga/store.ts';
import { noteAction } from './actions.ts';
import { bulkResume } from './bulk-resume.ts';
import {
  sagaEnded,
  sagaGoingBack,
  sagaMustComplete,
  sagaNotFound,
  sagaNotStuck,
  sagaPastPivot,
  sagaUndefined,
} from './errors.ts';
import { findSaga, type LogView, listSagas, type SagaView, sagaHistory } from './saga-store.ts';

const pageSize = 50;
const logMax = 200;
const redacted = '[redacted]';

type Sagas = Pick<
  Implementation<typeof OpsServiceContract>,
  'listSagas' | 'getSaga' | 'resumeSaga' | 'resumeSagas' | 'forceCompensateSaga'
>;

/** Shows, resumes and compensates the sagas of this service. A service without sagas responds with empty lists. */
export function sagaOperations(db: Database, definitions: readonly SagaDefinition[]): Sagas {
  const definitionOf = (saga: Pick<SagaView, 'name' | 'definitionVersion'>) =>
    definitions.find(({ name, version }) => name === saga.name && version === saga.definitionVersion);
  const toMessage = (saga: SagaView) => messageOf(saga, definitionOf(saga));
  const find = async (sql: SqlReader, sagaId: string) => {
    const saga = await findSaga(sql, sagaId);
    if (!saga) throw sagaNotFound(sagaId);
    return saga;
  };
  const defined = async (tx: Tx, sagaId: string) => {
    const saga = await find(tx, sagaId);
    const definition = definitionOf(saga);
    if (!definition) throw sagaUndefined(saga);
    return definition;
  };
  return {
    async listSagas({ state, name, olderThanSeconds, ...page }, call) {
      const statuses = statusesOf.get(state) ?? unfinished;
      const opened = openPage<[string]>(page, pageSize, [statuses, name, String(olderThanSeconds)]);
      const rows = await db.read(call, (sql) => listSagas(sql, { statuses, name, olderThanSeconds }, opened));
      const { items, nextPageToken } = closePage(rows, opened, ({ sagaId }): [string] => [sagaId]);
      return { sagas: items.map(toMessage), nextPageToken };
    },

    async getSaga({ sagaId }, call) {
      return db.read(call, async (sql) => {
        const saga = await find(sql, sagaId);
        const log = await sagaHistory(sql, sagaId, logMax);
        const nonSensitive = new Set(definitionOf(saga)?.nonSensitive);
        const shown = Object.entries(saga.data).map(([key, value]) => [key, nonSensitive.has(key) ? value : redacted]);
        return { saga: toMessage(saga), log: log.map(toEntry), inputJson: JSON.stringify(Object.fromEntries(shown)) };
      });
    },

    async resumeSaga({ sagaId }, call) {
      return runIdempotent(db, call, async (tx) => {
        const result = await resumeSaga(tx, await defined(tx, sagaId), sagaId);
        const saga = await find(tx, sagaId);
        if (result !== 'accepted') throw sagaNotStuck(sagaId, saga.status);
        await noteAction(tx, call, '', { ids: [sagaId], more: false });
        return toMessage(saga);
      });
    },

    ...bulkResume({ db, definitions, definitionOf, shownOf: toMessage }),

    async forceCompensateSaga({ sagaId, why }, call) {
      return runIdempotent(db, call, async (tx) => {
        const definition = await defined(tx, sagaId);
        const result = await forceCompensate(tx, definition, sagaId, why);
        const saga = await find(tx, sagaId);
        if (result !== 'accepted') throw refusal(saga, definition);
        await noteAction(tx, call, why, { ids: [sagaId], more: false });
        return toMessage(saga);
      });
    },
  };
}

/** The rule of the saga's core that forbids compensation. */
function refusal(saga: SagaView, definition: SagaDefinition) {
  if (definition.core.mustComplete) return sagaMustComplete(saga.sagaId);
  const state = readState(saga.state, definition.core);
  if (state.end !== null) return sagaEnded(saga.sagaId);
  if (!isPastPivot(definition.core, state)) return sagaGoingBack(saga.sagaId);
  return sagaPastPivot(saga.sagaId, definition.steps.find((step) => step.pivot)?.name ?? '');
}

const unfinished: readonly Status[] = ['RUNNING', 'WAITING', 'STUCK'];
const statusesOf = new Map<Saga['state'], readonly Status[]>([
  [SagaState.SAGA_STATE_RUNNING, ['RUNNING', 'WAITING']],
  [SagaState.SAGA_STATE_STUCK, ['STUCK']],
  [SagaState.SAGA_STATE_COMPLETED, ['COMPLETED']],
  [SagaState.SAGA_STATE_FAILED, ['FAILED']],
]);

const states: Record<Status, Saga['state']> = {
  RUNNING: SagaState.SAGA_STATE_RUNNING,
  WAITING: SagaState.SAGA_STATE_RUNNING,
  STUCK: SagaState.SAGA_STATE_STUCK,
  COMPLETED: SagaState.SAGA_STATE_COMPLETED,
  FAILED: SagaState.SAGA_STATE_FAILED,
};

function messageOf(saga: SagaView, definition: SagaDefinition | undefined): Saga {
  const state = shownState(saga.state, definition);
  const createTime = utcDate(saga.createdAt);
  const branches = (state?.branches ?? []).map(({ step, phase, attempt, stuck, failingSince }) => ({
    step: definition?.steps[step]?.name ?? String(step),
    action: phase,
    attempt,
    stuckReason: stuck?.reason ?? '',
    failingSinceTime: failingSince === null ? undefined : new Date(createTime.getTime() + failingSince),
  }));
  const first = branches.find(({ stuckReason }) => stuckReason !== '') ?? branches[0];
  const reasons = branches.map(({ stuckReason }) => stuckReason).filter((reason) => reason !== '');
  return {
    sagaId: saga.sagaId,
    name: saga.name,
    version: saga.definitionVersion,
    known: definition !== undefined,
    subjectId: saga.subjectId,
    state: states[saga.status],
    step: first?.step ?? '',
    action: first?.action ?? '',
    attempt: first?.attempt ?? 0,
    stuckReason: reasons.join('; '),
    failureReason: state?.failure?.reason ?? '',
    createTime,
    updateTime: utcDate(saga.updatedAt),
    deadlineTime: saga.deadlineAt.startsWith(noDeadline) ? undefined : utcDate(saga.deadlineAt),
    pastPivot: state !== null && (state.end === 'completed' || isPastPivotOf(definition, state)),
    branches,
  };
}

const isPastPivotOf = (definition: SagaDefinition | undefined, state: State): boolean =>
  definition !== undefined && isPastPivot(definition.core, state);

/** Null for a state that a later version has written: the rest of the row is shown without it. */
function shownState(text: string, definition: SagaDefinition | undefined): State | null {
  try {
    return readState(text, definition?.core);
  } catch {
    return null;
  }
}

function toEntry({ position, step, kind, outcome, attempt, input, at }: LogView): SagaLogEntry {
  const reason = 'reason' in input ? input.reason : '';
  const detail = 'detail' in input ? input.detail : '';
  return { position, step, due: kind, outcome, attempt, reason, detail, time: utcDate(at) };
}
