/**
 * Records a capture or refund that the acquirer did without a request of this service, at the request of an operator.
 * Its kind and amount are read from the acquirer's log. Operation, payment, ledger entry, event, the operator's
 * decision and the response commit together.
 */
import { type CallContext, principalOf, runIdempotent, type Tx } from '@armature/runtime';
import { derivedId } from '@armature/runtime/id';
import type { LoggedOperation } from './acquirer-page.ts';
import { changeOperation } from './change-store.ts';
import { externalOperationInvalid, operationNotFound, refusal } from './errors.ts';
import type { OperationRequest } from './intent-store.ts';
import type { OperationDependencies } from './operation-dependencies.ts';
import { acquirerNames } from './operation-status.ts';
import { inLedger, recordDecision, type ShownOperation, shownOperation } from './operation-store.ts';
import { operationRequestOf } from './operations.ts';
import { completeOperation, planRecorded } from './payment.ts';
import { resolutionIdOf } from './resolving.ts';
import { findByKey, findOperation } from './store.ts';

export interface RecordRequest {
  /** The acquirer's id of the operation. */
  externalId: string;
  reason: string;
}

/** An operation of the acquirer's log that can be recorded. */
interface Recordable {
  readonly paymentId: string;
  readonly kind: 'capture' | 'refund';
  readonly chargeId: string;
  readonly amountMinor: bigint;
  readonly currencyCode: string;
}

/** Records an operation of the acquirer. The response, made by `respond`, is stored with it. */
export async function recordAcquirerOperation<R>(
  dependencies: OperationDependencies,
  call: CallContext,
  request: RecordRequest,
  respond: (recorded: ShownOperation) => R,
): Promise<R> {
  const { db, acquirer } = dependencies;
  const { externalId } = request;
  // The id is derived from the acquirer's id, so that a second request finds the record of the first one.
  const operationRequest: OperationRequest = {
    ...(await operationRequestOf(dependencies, call)),
    operationId: derivedId(`operation of the acquirer\n${externalId}`),
  };
  const recorded = await db.read(call, (sql) => shownOperation(sql, operationRequest.operationId));
  if (recorded) return runIdempotent(db, call, () => Promise.resolve(respond(recorded)));
  const [logged] = await acquirer.lookUp(call, [externalId]);
  const found = await recordable(dependencies, call, externalId, logged);
  return runIdempotent(db, call, async (tx) =>
    respond(await commitRecorded(dependencies, tx, call, { ...request, operationRequest, found })),
  );
}

/**
 * Throws unless the acquirer's log has a capture or refund of a payment that no operation of this service requested.
 */
async function recordable(
  { db, store }: OperationDependencies,
  call: CallContext,
  externalId: string,
  logged: LoggedOperation | undefined,
): Promise<Recordable> {
  const invalid = (why: string) => externalOperationInvalid(externalId, why);
  if (!logged) throw invalid('the acquirer has no such operation');
  const { status, chargeId, amountMinor, currencyCode } = logged;
  const kind = (['capture', 'refund'] as const).find((one) => acquirerNames[one].kind === logged.kind);
  if (!kind || acquirerNames[kind].status !== status || amountMinor === null || currencyCode === null) {
    throw invalid(`it is ${logged.kind} ${status} at the acquirer; only captures and refunds that acted are recorded`);
  }
  const { payment, own, known } = await db.read(call, async (sql) => ({
    payment: await store.paymentOfCharge(sql, chargeId),
    own: await findByKey(sql, logged.key),
    known: await inLedger(sql, externalId),
  }));
  if (known) throw invalid('the ledger has it already');
  if (own) throw invalid(`operation ${own.operationId} of payments requested it: resolve that operation`);
  if (!payment) throw invalid('no payment has its charge');
  return { paymentId: payment.paymentId, kind, chargeId, amountMinor: BigInt(amountMinor), currencyCode };
}

async function commitRecorded(
  { store }: OperationDependencies,
  tx: Tx,
  call: CallContext,
  request: RecordRequest & { operationRequest: OperationRequest; found: Recordable },
): Promise<ShownOperation> {
  const { operationRequest, externalId, reason, found } = request;
  const { paymentId, kind, chargeId } = found;
  const { operationId } = operationRequest;
  const { payment, operation: known } = await store.lock(tx, paymentId, operationRequest, () => true);
  if (!payment) throw new Error(`payment ${paymentId} does not exist`);
  if (!known) {
    // Another operator may have resolved an operation with this external id in the meantime.
    if (await inLedger(tx, externalId)) throw externalOperationInvalid(externalId, 'the ledger has it already');
    const { exclusiveOperationId } = payment;
    const exclusive = exclusiveOperationId === null ? null : await findOperation(tx, exclusiveOperationId);
    const plan = planRecorded(payment, kind, found, exclusive);
    if (plan.kind === 'refuse' && plan.because === 'state' && kind === 'capture') {
      throw externalOperationInvalid(externalId, notRecordable);
    }
    if (plan.kind !== 'act') throw refusal[plan.kind === 'refuse' ? plan.because : 'exceeds'](payment);
    const newOperation = { request: operationRequest, paymentId, kind, amountMinor: plan.amountMinor, rest: false };
    const operation = await store.insertIntent(tx, plan.payment, newOperation);
    await changeOperation(tx, operation, (current, pending) =>
      completeOperation(current, pending, { kind: 'acted', externalId, chargeId }),
    );
    const states = { stateBefore: 'PENDING', stateAfter: 'DONE' } as const;
    const resolvedBy = principalOf(call.caller);
    const resolutionId = resolutionIdOf(call, operationId);
    await recordDecision(tx, {
      ...{ resolutionId, operationId, resolution: 'RECORDED', reason, resolvedBy, externalId },
      ...states,
    });
    call.log.info({ operationId, paymentId, kind, externalId }, 'recorded an operation of the acquirer');
  }
  const after = await shownOperation(tx, operationId);
  if (!after) throw operationNotFound(operationId);
  return after;
}

const notRecordable =
  'a capture is recorded only while a void of its payment needs an operator, or a capture of another amount; ' +
  'one of the full amount is the outcome of the capture that its order requests: resolve that one with ' +
  'DONE_AT_ACQUIRER and this external_id';
