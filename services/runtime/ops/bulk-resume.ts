import type { OpsServiceContract } from '@armature/proto/ops/v1/contract.ts';
import type { Saga } from '@armature/proto/ops/v1/ops.ts';
import { ResumeOutcome, type ResumeResult, type StuckSagaFilter } from '@armature/proto/ops/v1/resume_sagas.ts';
import type { CallContext } from '../context/call-context.ts';
import type { Database } from '../db/database.ts';
import type { SqlReader } from '../db/tx.ts';
import { runIdempotent } from '../idempotency/run-idempotent.ts';
import { reasonOf } from '../messaging/retry.ts';
import type { Implementation } from '../rpc/server.ts';
import type { SagaDefinition } from '../saga/definition.ts';
import { resumeSaga } from '../saga/engine.ts';
import { crashPoint } from '../sync/crash-point.ts';
import { chooseOnce } from './actions.ts';
import { sagaFilterMissing, sagaUndefined } from './errors.ts';
import { chooseStuck, type SagaView, sagasById } from './saga-store.ts';

const resumeLimit = 100;
/** Reserved before the deadline for storing the response. */
const responseMs = 2_000;

interface BulkResumeParts {
  db: Database;
  definitions: readonly SagaDefinition[];
  definitionOf(saga: Pick<SagaView, 'name' | 'definitionVersion'>): SagaDefinition | undefined;
  shownOf(saga: SagaView): Saga;
}

/** Resumes stuck sagas by filter: after an outage longer than their retries many are stuck at the same step. */
export function bulkResume(parts: BulkResumeParts): Pick<Implementation<typeof OpsServiceContract>, 'resumeSagas'> {
  const { db, definitions } = parts;
  return {
    async resumeSagas({ filter, apply, limit }, call) {
      if (!filter || !saysSomething(filter)) throw sagaFilterMissing();
      const { name, reason, olderThanSeconds } = filter;
      const steps = placesOf(definitions, filter.step);
      const wanted = { known: definitions, name, reason, olderThanSeconds, steps };
      const choose = (sql: SqlReader) => chooseStuck(sql, wanted, limit || resumeLimit);
      if (!apply) {
        return runIdempotent(db, call, async (tx) => {
          const { ids, more } = await choose(tx);
          const sagas = await sagasById(tx, ids);
          return {
            results: sagas.map((saga) => resultOf(parts, saga, ResumeOutcome.RESUME_OUTCOME_WOULD_RESUME)),
            more,
          };
        });
      }
      const { ids, more } = await db.transaction(call, (tx) => chooseOnce(tx, call, () => choose(tx)));
      const results = await resumeAll(parts, call, ids);
      return runIdempotent(db, call, async () => ({ results, more }));
    },
  };
}

const saysSomething = ({ all, name, step, reason, olderThanSeconds }: StuckSagaFilter): boolean =>
  all || name !== '' || step !== '' || reason !== '' || olderThanSeconds > 0n;

/** The index of a step in each version of each definition; null where any step matches. */
function placesOf(definitions: readonly SagaDefinition[], step: string) {
  if (step === '') return null;
  return definitions.flatMap(({ name, version, steps }) => {
    const index = steps.findIndex((one) => one.name === step);
    return index < 0 ? [] : [{ name, version, index }];
  });
}

/** One after another, oldest first, each in its own transaction. */
async function resumeAll(parts: BulkResumeParts, call: CallContext, ids: readonly string[]): Promise<ResumeResult[]> {
  const { db, definitionOf } = parts;
  const results: ResumeResult[] = [];
  for (const saga of await db.read(call, (sql) => sagasById(sql, ids))) {
    const note = (outcome: ResumeResult['outcome'], reason = '') =>
      results.push(resultOf(parts, saga, outcome, reason));
    if (call.signal.aborted || Date.now() > call.deadline - responseMs) {
      note(ResumeOutcome.RESUME_OUTCOME_NOT_TRIED);
      continue;
    }
    try {
      const definition = definitionOf(saga);
      if (!definition) throw sagaUndefined(saga);
      const result = await db.transaction(call, (tx) => resumeSaga(tx, definition, saga.sagaId));
      crashPoint('resume-sagas.resumed');
      const resumed = result === 'accepted';
      note(resumed ? ResumeOutcome.RESUME_OUTCOME_RESUMED : ResumeOutcome.RESUME_OUTCOME_NOT_STUCK);
    } catch (error) {
      call.log.warn({ err: error, saga: saga.sagaId, name: saga.name }, 'a saga could not be resumed');
      note(ResumeOutcome.RESUME_OUTCOME_FAILED, reasonOf(error));
    }
  }
  return results;
}

function resultOf(
  { shownOf }: BulkResumeParts,
  saga: SagaView,
  outcome: ResumeResult['outcome'],
  reason = '',
): ResumeResult {
  const { sagaId, name, version, subjectId, stuckReason, branches } = shownOf(saga);
  const steps = branches.filter((branch) => branch.stuckReason !== '').map(({ step }) => step);
  return { sagaId, name, version, subjectId, steps: steps.join(', '), stuckReason, outcome, reason };
}
