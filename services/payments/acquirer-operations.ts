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
 * Looks an authorization up that is too old to be sent. The acquirer may have forgotten its key, so one that it has no
 * record of may hold the amount: it needs an operator, and cancelling its key would prove nothing.
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

/** Asks the acquirer for a capture, void or refund. Asking again under the same key gets the same outcome. */
export async function perform(
  dependencies: OperationDependencies,
  call: CallContext,
  { payment, operation }: PaymentAndOperation,
): Promise<Outcome> {
  const { kind } = operation;
  if (kind === 'authorize') throw new Error('only the caller of an authorization can ask for it: it has the card');
  const current = kind === 'void' ? await cancelIfPending(dependencies, call, payment) : payment;
  if (kind === 'void' && current.state !== 'AUTHORIZED') return outcomeWithoutHold(current);
  const outcome = await sendOrFind(dependencies, call, operation, current.chargeId);
  return explainRefusal(dependencies.acquirer, call, operation, current.chargeId, outcome);
}

/**
 * The outcome of a void that finds no hold. It is refused while the customer is charged, because an operator recorded
 * the capture of another request: an operator refunds that first. Otherwise the payment was declined, its authorization
 * was cancelled before it acted, the hold has ended, or the charge was refunded, and nothing is left to void.
 */
const outcomeWithoutHold = ({ state }: Payment): Outcome =>
  state === 'CAPTURED' ? { kind: 'refused', code: alreadyCaptured } : { kind: 'unneeded' };

/**
 * Sends an operation while its key is surely remembered: sent again after that it could act twice. From then on, and
 * while it waits for an operator, it is only looked up; one that the acquirer has no record of needs an operator.
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
  // Without a hold it can never act: nothing is left for an operator to decide.
  const ended = kind === 'capture' ? await acquirer.holdEnd(call, chargeId) : null;
  if (ended) return { kind: 'ended', end: ended.end, code: holdEndCodes[ended.end.how] };
  await db.transaction(call, (tx) => store.markTooOld(tx, operation));
  throw operationNeedsOperator({ ...operation, failureCode: operation.failureCode || keyTooOld });
}

/** What the acquirer would refuse the capture with. */
const holdEndCodes = {
  expired: 'charge_expired',
  voided_externally: 'charge_voided',
  nothing_held: 'charge_voided',
} as const;

/**
 * The outcome of a capture or void that was refused because the hold has ended says how, by the acquirer's log. A
 * capture that was refused because another request captured the whole amount has that capture's outcome: the customer
 * is charged as the order wants it. Every other outcome stays as it is.
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
  if (!ended) throw acquirerUnavailable(new Error(`${code}, and no operation of ${chargeId} says how`));
  // An earlier key of this void has acted after all.
  const own = kind === 'void' && (ended.key === operationId || ended.key === key);
  return own ? { kind: 'acted', externalId: ended.end.externalId, chargeId } : { kind: 'ended', end: ended.end, code };
}

/**
 * A void overtakes an authorization that is still under way: its key is cancelled, so that it never acts,
 * or, if it has acted, its outcome is recorded and there is something to void.
 */
async function cancelIfPending(
  dependencies: OperationDependencies,
  call: CallContext,
  payment: Payment,
): Promise<Payment> {
  const { authorizeOperationId, state } = payment;
  if (state !== 'PENDING' || authorizeOperationId === null) return payment;
  const operation = await dependencies.db.read(call, (sql) => findOperation(sql, authorizeOperationId));
  if (!operation) throw new Error(`operation ${authorizeOperationId} of payment ${payment.paymentId} is gone`);
  return cancelAuthorization(dependencies, call, operation);
}

/** Cancels an authorization at the acquirer, or looks it up where it is too old for that, and records the outcome. */
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
