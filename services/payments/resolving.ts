/**
 * Carries out an operator's decision. First it reads from the acquirer what the decision depends on. Then operation,
 * payment, ledger entry, event, the decision and the response commit together.
 */
import { type CallContext, idempotencyKeyOf, newId, principalOf, runIdempotent, type Tx } from '@armature/runtime';
import { derivedId } from '@armature/runtime/id';
import { explainRefusal } from './acquirer-operations.ts';
import { changeOperation } from './change-store.ts';
import {
  externalOperationInvalid,
  operationChanged,
  operationNotFound,
  refundExceedsCapture,
  resolutionNotApplicable,
} from './errors.ts';
import type { OperationDependencies } from './operation-dependencies.ts';
import { acquirerNames } from './operation-status.ts';
import { inLedger, isDecided, recordDecision, type ShownOperation, shownOperation } from './operation-store.ts';
import type { Outcome } from './payment.ts';
import { applyDecision, type Decision, isApplicable, type Resolution } from './resolution.ts';
import { findByKey } from './store.ts';

export interface ResolveRequest {
  operationId: string;
  resolution: Resolution;
  reason: string;
  /** The acquirer's operation; for DONE_AT_ACQUIRER only. */
  externalId: string;
}

/** Resolves an operation by an operator's decision. `respond` makes the response, which is stored with it. */
export async function resolveOperation<R>(
  dependencies: OperationDependencies,
  call: CallContext,
  request: ResolveRequest,
  respond: (after: ShownOperation) => R,
): Promise<R> {
  const { db } = dependencies;
  const { operationId, resolution } = request;
  const resolutionId = resolutionIdOf(call, operationId);
  // In this order, so that a decision that commits in between is seen in `decided`, never in the operation alone.
  const { operation, decided: before } = await db.read(call, async (sql) => ({
    operation: await shownOperation(sql, operationId),
    decided: await isDecided(sql, resolutionId),
  }));
  if (!operation) throw operationNotFound(operationId);
  // A repeat must not send a request to the acquirer: the current key may be the one that this request created.
  if (before) return runIdempotent(db, call, () => Promise.resolve(respond(operation)));
  if (!isApplicable(resolution, operation)) {
    throw resolutionNotApplicable(operation, `${resolution} cannot end a ${operation.kind} that is ${operation.state}`);
  }
  if ((request.externalId !== '') !== (resolution === 'DONE_AT_ACQUIRER')) {
    throw externalOperationInvalid(request.externalId, 'external_id is required for DONE_AT_ACQUIRER, and only there');
  }
  const decided = await decisions[resolution](dependencies, call, operation, { ...request, resolutionId });
  return runIdempotent(db, call, async (tx) =>
    respond(await commitDecision(tx, call, operation, { ...request, resolutionId }, decided)),
  );
}

/** The same for each repeat of a request. */
export function resolutionIdOf(call: CallContext, operationId: string): string {
  const idempotencyKey = idempotencyKeyOf(call);
  if (!idempotencyKey) throw new Error(`${call.name} decides about money without an idempotency key`);
  const { principal, method, key } = idempotencyKey;
  return derivedId(`${principal}\n${method}\n${key}\n${operationId}`);
}

type Identified = ResolveRequest & { resolutionId: string };

/** Reads from the acquirer what each resolution depends on. Changes nothing in the database. */
const decisions: Record<
  Resolution,
  (
    dependencies: OperationDependencies,
    call: CallContext,
    operation: ShownOperation,
    request: Identified,
  ) => Promise<Decision>
> = {
  async ASK_AGAIN(dependencies, call, operation) {
    const outcome = await findOutcome(dependencies, call, operation);
    if (!outcome)
      throw resolutionNotApplicable(operation, 'the acquirer has no record of it', { acquirer: 'unrecorded' });
    return { resolution: 'outcome', outcome };
  },
  async DONE_AT_ACQUIRER(dependencies, call, operation, { externalId }) {
    await assertDone(dependencies, call, operation, externalId);
    await assertNeverActs(dependencies, call, operation, externalId);
    return { resolution: 'outcome', outcome: { kind: 'acted', externalId, chargeId: operation.chargeId } };
  },
  async REFUNDED_OUTSIDE(dependencies, call, operation, { resolutionId }) {
    await assertNeverActs(dependencies, call, operation);
    return { resolution: 'refunded_outside', externalId: `resolution:${resolutionId}` };
  },
  async NOTHING_HELD({ db, store, acquirer }, call, operation, { resolutionId }) {
    const { chargeId, paymentId, failureCode: code } = operation;
    const payment = await db.read(call, (sql) => store.payment(sql, paymentId));
    // A capture that payments did not request is recorded and refunded.
    if (payment?.state === 'REFUNDED') return { resolution: 'outcome', outcome: { kind: 'unneeded' } };
    const status = await acquirer.chargeStatus(call, chargeId);
    if (status === 'authorized' || status === 'pending') {
      throw resolutionNotApplicable(operation, 'the acquirer still holds the amount', { acquirer: status });
    }
    if (status === 'captured' || status === 'refunded') {
      const why =
        'the acquirer has captured the amount: record that with RecordAcquirerOperation, and refund it, first';
      throw resolutionNotApplicable(operation, why, { acquirer: status });
    }
    const ended = status === null ? null : await acquirer.holdEnd(call, chargeId);
    if (ended) return { resolution: 'outcome', outcome: { kind: 'ended', end: ended.end, code } };
    const end = { how: 'nothing_held', externalId: `resolution:${resolutionId}` } as const;
    return { resolution: 'outcome', outcome: { kind: 'ended', end, code } };
  },
  async TRY_AGAIN(dependencies, call, operation) {
    await assertNeverActs(dependencies, call, operation);
    return { resolution: 'try_again', key: newId() };
  },
  async GIVE_UP(dependencies, call, operation) {
    if (operation.kind === 'authorize') return giveUpAuthorization(dependencies, call, operation);
    await assertNeverActs(dependencies, call, operation);
    return { resolution: 'give_up' };
  },
};

/**
 * Only for an authorization that needs an operator, who has checked that nothing is held. Callers complete the others.
 */
async function giveUpAuthorization(
  { acquirer }: OperationDependencies,
  call: CallContext,
  operation: ShownOperation,
): Promise<Decision> {
  if (!operation.needsOperator) throw resolutionNotApplicable(operation, 'it is pending and needs no operator');
  const outcome = await acquirer.cancel(call, 'authorize', operation.key);
  if (outcome.kind === 'cancelled') return { resolution: 'outcome', outcome };
  const why = 'the acquirer has a record of it; ASK_AGAIN records that';
  throw resolutionNotApplicable(operation, why, { acquirer: outcome.kind });
}

async function commitDecision(
  tx: Tx,
  call: CallContext,
  seen: ShownOperation,
  request: Identified,
  decision: Decision,
): Promise<ShownOperation> {
  const { operationId, resolutionId, resolution, reason } = request;
  const { operation } = await changeOperation(tx, seen, (payment, current) => {
    if (current.state !== seen.state || current.key !== seen.key) throw operationChanged(operationId);
    const change = applyDecision(payment, current, decision);
    if (!change) throw refundExceedsCapture(payment);
    return change;
  });
  const { state: stateAfter, externalId } = operation;
  const states = { stateBefore: seen.state, stateAfter };
  const resolvedBy = principalOf(call.caller);
  await recordDecision(tx, { resolutionId, operationId, resolution, reason, resolvedBy, ...states, externalId });
  call.log.info({ operationId, resolution, ...states }, 'an operator has resolved an operation');
  const after = await shownOperation(tx, operationId);
  if (!after) throw operationNotFound(operationId);
  return after;
}

/** The operation's outcome in the acquirer's log. Sends no mutation. */
async function findOutcome(
  { acquirer }: OperationDependencies,
  call: CallContext,
  operation: ShownOperation,
): Promise<Outcome | null> {
  const { kind, key, chargeId } = operation;
  if (kind === 'authorize' || chargeId === '') return acquirer.find(call, kind, key);
  const found = await acquirer.findOnCharge(call, kind, key, chargeId);
  // The hold may have ended since the refusal.
  const ended = kind === 'refund' || found?.kind === 'acted' ? null : await acquirer.holdEnd(call, chargeId);
  if (!ended) return found && explainRefusal(acquirer, call, operation, chargeId, found);
  const code = ended.end.how === 'expired' ? 'charge_expired' : 'charge_voided';
  return explainRefusal(acquirer, call, operation, chargeId, { kind: 'refused', code });
}

/**
 * Throws unless the operation can never act: the acquirer has refused it, or this function cancels its key. The outcome
 * of an operation that acted must be recorded instead. A refused refund is checked too, because the refusal may be of
 * an earlier key. `except` is the external id under which it may have acted.
 */
async function assertNeverActs(
  { acquirer }: OperationDependencies,
  call: CallContext,
  operation: ShownOperation,
  except = '',
): Promise<void> {
  const { kind, key, chargeId, state } = operation;
  if (kind === 'authorize') return;
  const found = (await acquirer.findOnCharge(call, kind, key, chargeId)) ?? (await acquirer.cancel(call, kind, key));
  if (found.kind !== 'acted' || found.externalId === except) return;
  const recordedBy = state === 'PENDING' ? 'ASK_AGAIN' : 'DONE_AT_ACQUIRER';
  throw resolutionNotApplicable(operation, `the acquirer has done it; ${recordedBy} records that`, {
    acquirer: 'acted',
    external_id: found.externalId,
  });
}

/** Throws unless the acquirer's log has this operation on the charge, and the ledger does not have it yet. */
async function assertDone(
  { db, acquirer }: OperationDependencies,
  call: CallContext,
  { kind, amountMinor, currencyCode, chargeId, operationId }: ShownOperation,
  externalId: string,
): Promise<void> {
  const invalid = (why: string) => externalOperationInvalid(externalId, why);
  const [logged] = /^op_[0-9a-f]{32}$/.test(externalId) ? await acquirer.lookUp(call, [externalId]) : [];
  if (!logged || logged.chargeId !== chargeId) throw invalid('the charge has no such operation at the acquirer');
  const expected = acquirerNames[kind];
  const { kind: theirKind, status, amountMinor: theirMinor, currencyCode: theirCurrency } = logged;
  if (theirKind !== expected.kind || status !== expected.status) {
    throw invalid(`it is ${theirKind} ${status} at the acquirer, not ${expected.kind} ${expected.status}`);
  }
  if (BigInt(theirMinor ?? -1) !== amountMinor || theirCurrency !== currencyCode) {
    throw invalid(`it is of ${theirMinor} ${theirCurrency} at the acquirer, not ${amountMinor} ${currencyCode}`);
  }
  const { known, recorded } = await db.read(call, async (sql) => ({
    known: await findByKey(sql, logged.key),
    recorded: await inLedger(sql, externalId),
  }));
  if (recorded || (known && known.operationId !== operationId)) throw invalid('the ledger has it already');
}
