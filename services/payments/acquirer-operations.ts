/** How an operation is performed at the acquirer: sent under its key, or looked up where its key is too old. */
import type { CallContext } from '@armature/runtime';
import type { Acquirer, AuthorizationRequest } from './acquirer.ts';
import { keyTooOld, type PaymentAndOperation } from './change-store.ts';
import { acquirerUnavailable, operationNeedsOperator } from './errors.ts';
import type { OperationDependencies } from './operation-dependencies.ts';
import { holdEndedCodes } from './operation-status.ts';
import { alreadyCaptured, type Operation, type Outcome, type Payment } from './payment.ts';
import { findOperation } from './store.ts';

export async function sendOrFindAuthorization(
  dependencies: OperationDependencies,
  call: CallContext,
  operation: Operation,
  request: AuthorizationRequest,
): Promise<Outcome> {
  if (operation.keyAgeMs < dependencies.sendAgainMs)
    return dependencies.acquirer.authorize(call, operation.key, request);
  return findAuthorization(dependencies, call, operation);
}

/**
 * Looks up an authorization that is too old to be sent. The acquirer may have deleted its key, so an authorization
 * without a record may still hold the amount. It needs an operator, because cancelling a deleted key proves nothing.
 */
async function findAuthorization(
  { db, store, acquirer }: OperationDependencies,
  call: CallContext,
  operation: Operation,
): Promise<Outcome> {
  const found = await acquirer.find(call, 'authorize', operation.key);
  if (found) return found;
  await db.transaction(call, (tx) => store.markTooOld(tx, operation));
  throw operationNeedsOperator({ ...operation, failureCode: operation.failureCode || keyTooOld });
}

/** Requests a capture, void or refund at the acquirer. A repeat under the same key gets the same outcome. */
export async function perform(
  dependencies: OperationDependencies,
  call: CallContext,
  { payment, operation }: PaymentAndOperation,
): Promise<Outcome> {
  const { kind } = operation;
  if (kind === 'authorize')
    throw new Error('an authorization needs the payment method, which only its request contains');
  const current = kind === 'void' ? await cancelIfPending(dependencies, call, payment) : payment;
  if (kind === 'void' && current.state !== 'AUTHORIZED') return outcomeWithoutHold(current);
  const outcome = await sendOrFind(dependencies, call, operation, current.chargeId);
  return explainRefusal(dependencies.acquirer, call, operation, current.chargeId, outcome);
}

/**
 * The outcome of a void of a payment without a hold. In the state CAPTURED it is refused: an operator has recorded a
 * capture that payments did not request, and must refund it first. In every other state nothing is left to void: the
 * payment was declined or refunded, its authorization was cancelled before it acted, or the hold has ended.
 */
const outcomeWithoutHold = ({ state }: Payment): Outcome =>
  state === 'CAPTURED' ? { kind: 'refused', code: alreadyCaptured } : { kind: 'unneeded' };

/**
 * Sends an operation while the acquirer is sure to remember its key: later, a second request could act twice. An older
 * operation, and one that waits for an operator, is only looked up. Without a record it needs an operator.
 */
async function sendOrFind(
  { db, store, acquirer, sendAgainMs }: OperationDependencies,
  call: CallContext,
  operation: Operation,
  chargeId: string,
): Promise<Outcome> {
  const { kind, key, keyAgeMs, amountMinor } = operation;
  if (kind === 'authorize') throw new Error('an authorization has no charge yet');
  if (keyAgeMs < sendAgainMs && !operation.needsOperator) {
    return acquirer.operate(call, kind, key, { chargeId, amountMinor });
  }
  const found = await acquirer.findOnCharge(call, kind, key, chargeId);
  if (found) return found;
  // Without a hold a capture can never act, so it needs no operator.
  const ended = kind === 'capture' ? await acquirer.holdEnd(call, chargeId) : null;
  if (ended) return { kind: 'ended', end: ended.end, code: holdEndCodes[ended.end.how] };
  await db.transaction(call, (tx) => store.markTooOld(tx, operation));
  throw operationNeedsOperator({ ...operation, failureCode: operation.failureCode || keyTooOld });
}

/** The codes with which the acquirer refuses a capture without a hold. */
const holdEndCodes = {
  expired: 'charge_expired',
  voided_externally: 'charge_voided',
  nothing_held: 'charge_voided',
} as const;

/**
 * Replaces a refusal by what the acquirer's log says. Where the hold has ended, the outcome names how. A capture that
 * was refused because the full amount was captured under another key gets the outcome of that capture: the customer is
 * charged what the order requires. Every other outcome is returned unchanged.
 */
export async function explainRefusal(
  acquirer: Acquirer,
  call: CallContext,
  { kind, operationId, key, amountMinor }: Operation,
  chargeId: string,
  outcome: Outcome,
): Promise<Outcome> {
  if (outcome.kind !== 'refused') return outcome;
  if (kind === 'capture' && outcome.code === alreadyCaptured) {
    const capture = await acquirer.captureOf(call, chargeId);
    return capture?.amountMinor === amountMinor ? { kind: 'acted', externalId: capture.externalId, chargeId } : outcome;
  }
  if (!holdEndedCodes.has(outcome.code)) return outcome;
  if (kind !== 'capture' && kind !== 'void') return outcome;
  const { code } = outcome;
  const ended = await acquirer.holdEnd(call, chargeId);
  if (!ended) throw acquirerUnavailable(new Error(`${code}, but no operation of ${chargeId} has ended the hold`));
  // An earlier key of this void has acted.
  const own = kind === 'void' && (ended.key === operationId || ended.key === key);
  return own ? { kind: 'acted', externalId: ended.end.externalId, chargeId } : { kind: 'ended', end: ended.end, code };
}

/**
 * Cancels the pending authorization of a payment that is to be voided. Its key never acts then; where it has acted, its
 * outcome is recorded, and the hold can be voided.
 */
async function cancelIfPending(
  dependencies: OperationDependencies,
  call: CallContext,
  payment: Payment,
): Promise<Payment> {
  const { authorizeOperationId, state } = payment;
  if (state !== 'PENDING' || authorizeOperationId === null) return payment;
  const operation = await dependencies.db.read(call, (sql) => findOperation(sql, authorizeOperationId));
  if (!operation) throw new Error(`operation ${authorizeOperationId} of payment ${payment.paymentId} does not exist`);
  return cancelAuthorization(dependencies, call, operation);
}

/** Cancels an authorization at the acquirer, or looks it up where its key is too old, and records the outcome. */
export async function cancelAuthorization(
  dependencies: OperationDependencies,
  call: CallContext,
  operation: Operation,
): Promise<Payment> {
  const { db, store, acquirer, sendAgainMs } = dependencies;
  const outcome =
    operation.keyAgeMs < sendAgainMs
      ? await acquirer.cancel(call, 'authorize', operation.key)
      : await findAuthorization(dependencies, call, operation);
  const { payment } = await db.transaction(call, (tx) => store.completeOperation(tx, operation, outcome));
  return payment;
}
