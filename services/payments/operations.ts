/**
 * How money moves. Each request is an operation with three parts: the intent is committed, the acquirer is
 * asked outside any transaction under the operation's id, and the outcome is committed together with the
 * ledger, the event and the answer. Whoever finds an operation without an outcome (the same request again,
 * or the sweeper) asks under the same id and so gets the same outcome, however often the middle part ran.
 */
import type { Payment as PaymentMessage } from '@armature/proto/payments/v1/payments.ts';
import {
  type CallContext,
  type Database,
  idempotencyKeyOf,
  isDuplicateKey,
  type RpcError,
  runIdempotent,
  type Tx,
} from '@armature/runtime';
import { requestIdReused } from '@armature/runtime/errors';
import { derivedId } from '@armature/runtime/id';
import type { RequestHash } from '@armature/runtime/idempotency';
import { crashPoint } from '@armature/runtime/sync';
import type { Acquirer } from './acquirer.ts';
import { holdEndedCodes } from './answer.ts';
import { keyTooOld, type Work } from './change-store.ts';
import {
  acquirerUnavailable,
  operationChanged,
  operationNeedsOperator,
  paymentExists,
  paymentNotFound,
  paymentState,
  paymentVoided,
  refusal,
} from './errors.ts';
import {
  alreadyCaptured,
  movedBy,
  type Operation,
  type Outcome,
  type Payment,
  type Plan,
  planExclusive,
  planRefund,
  type RefundAmount,
} from './payment.ts';
import { toMessage } from './payment-message.ts';
import { type Asked, findOperation, type NewPayment, type PaymentStore } from './store.ts';

export interface OperationParts {
  db: Database;
  store: PaymentStore;
  acquirer: Acquirer;
  /** For how long after its key came into use an operation may be sent. The acquirer remembers keys for longer. */
  sendAgainMs: number;
  /** The keyed digest that stands for a payment method wherever it is stored. */
  hashMethod: (paymentMethod: string) => RequestHash;
}

export interface Authorization extends Omit<NewPayment, 'methodHash'> {
  paymentMethod: string;
}

export interface Refund {
  paymentId: string;
  amount: RefundAmount;
}

export type Operations = ReturnType<typeof operations>;

export function operations(parts: OperationParts) {
  return {
    async authorize(call: CallContext, wish: Authorization): Promise<PaymentMessage> {
      const operation = await intendAuthorization(parts, call, wish);
      return finish(parts, call, operation, () => performAuthorization(parts, call, operation, wish));
    },

    async capture(call: CallContext, paymentId: string): Promise<PaymentMessage> {
      const asked = await askedBy(parts, call);
      const plan = (payment: Payment) => planExclusive('capture', payment, asked.operationId);
      const work = await intend(parts, call, { kind: 'capture', paymentId, asked, plan });
      return finish(parts, call, work.operation, () => perform(parts, call, work));
    },

    async refund(call: CallContext, { paymentId, amount }: Refund): Promise<PaymentMessage> {
      const asked = await askedBy(parts, call);
      const plan = (payment: Payment) => planRefund(payment, amount);
      const same = ({ currencyCode }: Payment, { rest, amountMinor }: Operation) =>
        amount === 'rest' ? rest : !rest && amountMinor === amount.amountMinor && currencyCode === amount.currencyCode;
      const intent = { kind: 'refund', paymentId, asked, plan, same, rest: amount === 'rest' } as const;
      const work = await intend(parts, call, intent);
      return finish(parts, call, work.operation, () => perform(parts, call, work));
    },

    async void(
      call: CallContext,
      { paymentId, orderId }: { paymentId: string; orderId: string },
    ): Promise<PaymentMessage> {
      const asked = await askedBy(parts, call);
      const plan = (payment: Payment) => planExclusive('void', payment, asked.operationId);
      const insertMissing = (tx: Tx) => parts.store.insertTombstone(tx, paymentId, orderId);
      const work = await intend(parts, call, { kind: 'void', paymentId, asked, plan, insertMissing });
      return finish(parts, call, work.operation, () => perform(parts, call, work));
    },
  };
}

/**
 * The operation of a keyed call: the same principal, method and request id always mean the same one. Releases before
 * this one derived its id from the request id in the case that the client sent; an operation of theirs stays the same.
 */
export async function askedBy({ db }: OperationParts, call: CallContext): Promise<Asked> {
  const asked = idempotencyKeyOf(call);
  if (!asked) throw new Error(`${call.name} moves money without an idempotency key`);
  const { principal, method, key, receivedKey } = asked;
  const idOf = (requestId: string) => derivedId(`${principal}\n${method}\n${requestId}`);
  const before = receivedKey && (await db.read(call, (sql) => findOperation(sql, idOf(receivedKey))));
  return { operationId: before ? before.operationId : idOf(key), principal, requestHash: asked.hash.digest };
}

async function intendAuthorization(parts: OperationParts, call: CallContext, wish: Authorization): Promise<Operation> {
  const { db, store } = parts;
  const asked = await askedBy(parts, call);
  const methodHash = parts.hashMethod(wish.paymentMethod);
  try {
    return await db.transaction(call, (tx) => store.insertPayment(tx, { ...wish, methodHash }, asked));
  } catch (error) {
    if (!isDuplicateKey(error)) throw error;
  }
  return db.transaction(call, async (tx) => {
    const same = ({ orderId, customerId, currencyCode, amountMinor }: Payment) =>
      orderId === wish.orderId &&
      customerId === wish.customerId &&
      currencyCode === wish.currencyCode &&
      amountMinor === wish.amountMinor;
    const { payment, operation } = await store.lock(tx, wish.paymentId, asked, same);
    if (!payment) throw new Error(`payment ${wish.paymentId} was there and is gone`);
    if (!operation) throw payment.state === 'VOIDED' ? paymentVoided(wish.paymentId) : paymentExists(wish.paymentId);
    // Another card must not get the first one's outcome. A digest under a key that is not known here proves nothing.
    const method = await store.methodHash(tx, operation.operationId);
    if (method && methodHash.compare(method) === 'different') throw requestIdReused('request_id');
    await store.touch(tx, operation.operationId);
    return operation;
  });
}

/** What a request wants of a payment that should exist. */
interface Intent {
  kind: 'capture' | 'void' | 'refund';
  paymentId: string;
  asked: Asked;
  plan: (payment: Payment) => Plan;
  /** Whether an operation under this request id means the same; without it, those about the same payment do. */
  same?: (payment: Payment, operation: Operation) => boolean;
  /** A refund of what is left. */
  rest?: boolean;
  /** What to do about a payment that does not exist; without it, that is an error. */
  insertMissing?: (tx: Tx) => Promise<void>;
}

/** Each attempt that fails finds at least one more row of its own in place, and there are only two. */
const intendAttemptsMax = 3;

/** Commits what is intended with an existing payment, or finds that this request intended it before. */
async function intend({ db, store }: OperationParts, call: CallContext, intent: Intent): Promise<Work> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await db.transaction(call, (tx) => intendOnce(store, tx, intent));
    } catch (error) {
      // The payment or the request id came into use meanwhile; looking again, from the start, finds that.
      if (!isDuplicateKey(error) || attempt >= intendAttemptsMax) throw error;
    }
  }
}

async function intendOnce(store: PaymentStore, tx: Tx, intent: Intent): Promise<Work> {
  const { kind, paymentId, asked, rest = false, same = () => true } = intent;
  let standing = await store.lock(tx, paymentId, asked, same);
  if (!standing.payment && intent.insertMissing) {
    await intent.insertMissing(tx);
    standing = await store.lock(tx, paymentId, asked, same);
  }
  const { payment, operation: known } = standing;
  if (!payment) throw paymentNotFound(paymentId);
  if (known) {
    await store.touch(tx, known.operationId);
    return { payment, operation: known };
  }
  const plan = intent.plan(payment);
  if (plan.kind === 'refuse') throw refusal[plan.because](payment);
  const fresh = { asked, paymentId, kind, rest };
  if (plan.kind === 'same') return { payment, operation: await store.insertDone(tx, fresh) };
  const { amountMinor } = plan;
  const operation = await store.insertIntent(tx, plan.payment, { ...fresh, amountMinor });
  return { payment: plan.payment, operation };
}

/** Brings a request's operation to its end, unless it was brought there before, and stores the answer with it. */
async function finish(
  { db, store }: OperationParts,
  call: CallContext,
  operation: Operation,
  ask: () => Promise<Outcome>,
): Promise<PaymentMessage> {
  let outcome: Outcome | null = null;
  if (operation.state === 'PENDING') {
    if (operation.needsOperator) throw operationNeedsOperator(operation);
    crashPoint('payments.before-acquirer');
    outcome = await ask();
    crashPoint('payments.after-acquirer');
    if (isRefusal(operation, outcome)) {
      // The refusal is committed by itself: the error that the caller gets would roll it back.
      await db.transaction(call, (tx) => store.settle(tx, operation, outcome));
      outcome = null;
    }
  }
  const reply = await runIdempotent(db, call, async (tx) => {
    const settled = await store.settle(tx, operation, outcome);
    const error = rejection(settled, operation);
    if (error) throw error;
    crashPoint('payments.before-ledger-commit');
    const principal = idempotencyKeyOf(call)?.principal ?? '';
    const refunded = operation.kind === 'refund' ? await store.refundedBy(tx, principal, operation) : undefined;
    return toMessage(settled.payment, movedBy(settled.payment, settled.operation), refunded);
  });
  crashPoint('payments.after-ledger-commit');
  return reply;
}

/** An outcome that leaves the caller with an error. A declined card is a response. */
function isRefusal({ kind }: Operation, outcome: Outcome): boolean {
  if (outcome.kind === 'ended') return kind === 'capture';
  return outcome.kind === 'cancelled' || (outcome.kind === 'refused' && kind !== 'authorize');
}

function rejection({ payment, operation }: Work, { key }: Operation): RpcError | null {
  // An operator has it tried under another key: a retry gets the outcome of that one.
  if (operation.state === 'PENDING' && operation.key !== key) return operationChanged(operation.operationId);
  if (operation.state === 'PENDING') return operationNeedsOperator(operation);
  if (operation.state === 'CANCELLED') return paymentVoided(payment.paymentId);
  if (operation.state === 'REFUSED') return paymentState(payment, operation.failureCode);
  // An earlier release ended voids of charged payments as if nothing were held.
  if (operation.kind === 'void' && payment.state === 'CAPTURED') return paymentState(payment);
  return null;
}

async function performAuthorization(
  parts: OperationParts,
  call: CallContext,
  operation: Operation,
  wish: Authorization,
): Promise<Outcome> {
  if (operation.keyAgeMs < parts.sendAgainMs) return parts.acquirer.authorize(call, operation.key, wish);
  return findAuthorization(parts, call, operation);
}

/**
 * Looks an authorization up that is too old to be sent. The acquirer may have forgotten its key, so one that it has no
 * record of may hold the amount: it needs an operator, and cancelling its key would prove nothing.
 */
async function findAuthorization(
  { db, store, acquirer }: OperationParts,
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
  parts: OperationParts,
  call: CallContext,
  { payment, operation }: Work,
): Promise<Outcome> {
  const { kind } = operation;
  if (kind === 'authorize') throw new Error('only the caller of an authorization can ask for it: it has the card');
  const held = kind === 'void' ? await cancelIfPending(parts, call, payment) : payment;
  if (kind === 'void' && held.state !== 'AUTHORIZED') return outcomeWithoutHold(held);
  const outcome = await sendOrFind(parts, call, operation, held.chargeId);
  return explainRefusal(parts.acquirer, call, operation, held.chargeId, outcome);
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
  { db, store, acquirer, sendAgainMs }: OperationParts,
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
async function cancelIfPending(parts: OperationParts, call: CallContext, payment: Payment): Promise<Payment> {
  const { authorizeOperationId, state } = payment;
  if (state !== 'PENDING' || authorizeOperationId === null) return payment;
  const operation = await parts.db.read(call, (sql) => findOperation(sql, authorizeOperationId));
  if (!operation) throw new Error(`operation ${authorizeOperationId} of payment ${payment.paymentId} is gone`);
  return settleCancelled(parts, call, operation);
}

/** Cancels an authorization at the acquirer, or looks it up where it is too old for that, and records the outcome. */
export async function settleCancelled(
  parts: OperationParts,
  call: CallContext,
  operation: Operation,
): Promise<Payment> {
  const { db, store, acquirer, sendAgainMs } = parts;
  const outcome =
    operation.keyAgeMs < sendAgainMs
      ? await acquirer.cancel(call, 'authorize', operation.key)
      : await findAuthorization(parts, call, operation);
  const { payment } = await db.transaction(call, (tx) => store.settle(tx, operation, outcome));
  return payment;
}
