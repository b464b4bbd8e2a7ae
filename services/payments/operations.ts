/**
 * The requests that move money. Each one is an operation with three steps:
 *
 * 1. The intent is committed.
 * 2. The acquirer receives the request outside any transaction, with the operation's id as its idempotency key.
 * 3. The outcome is committed together with the ledger entry, the event and the stored response.
 *
 * A retry of the request and the periodic job repeat step 2 under the same key, so they get the same outcome.
 */
import type { Payment as PaymentMessage } from '@armature/proto/payments/v1/payments.ts';
import {
  type CallContext,
  idempotencyKeyOf,
  isDuplicateKey,
  type RpcError,
  runIdempotent,
  type Tx,
} from '@armature/runtime';
import { requestIdReused } from '@armature/runtime/errors';
import { derivedId } from '@armature/runtime/id';
import { crashPoint } from '@armature/runtime/sync';
import { perform, sendOrFindAuthorization } from './acquirer-operations.ts';
import type { PaymentAndOperation } from './change-store.ts';
import {
  operationChanged,
  operationNeedsOperator,
  paymentExists,
  paymentNotFound,
  paymentState,
  paymentVoided,
  refusal,
} from './errors.ts';
import type { NewPayment, OperationRequest } from './intent-store.ts';
import type { OperationDependencies } from './operation-dependencies.ts';
import {
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
import { findOperation, type PaymentStore } from './store.ts';

export interface Authorization extends Omit<NewPayment, 'methodHash'> {
  paymentMethod: string;
}

export interface Refund {
  paymentId: string;
  amount: RefundAmount;
}

export type Operations = ReturnType<typeof operations>;

export function operations(dependencies: OperationDependencies) {
  return {
    async authorize(call: CallContext, request: Authorization): Promise<PaymentMessage> {
      const operation = await recordAuthorizationIntent(dependencies, call, request);
      return completeRequest(dependencies, call, operation, () =>
        sendOrFindAuthorization(dependencies, call, operation, request),
      );
    },

    async capture(call: CallContext, paymentId: string): Promise<PaymentMessage> {
      const request = await operationRequestOf(dependencies, call);
      const plan = (payment: Payment) => planExclusive('capture', payment, request.operationId);
      const work = await recordIntent(dependencies, call, { kind: 'capture', paymentId, request, plan });
      return completeRequest(dependencies, call, work.operation, () => perform(dependencies, call, work));
    },

    async refund(call: CallContext, { paymentId, amount }: Refund): Promise<PaymentMessage> {
      const request = await operationRequestOf(dependencies, call);
      const plan = (payment: Payment) => planRefund(payment, amount);
      const same = ({ currencyCode }: Payment, { rest, amountMinor }: Operation) =>
        amount === 'rest' ? rest : !rest && amountMinor === amount.amountMinor && currencyCode === amount.currencyCode;
      const intent = { kind: 'refund', paymentId, request, plan, same, rest: amount === 'rest' } as const;
      const work = await recordIntent(dependencies, call, intent);
      return completeRequest(dependencies, call, work.operation, () => perform(dependencies, call, work));
    },

    async void(
      call: CallContext,
      { paymentId, orderId }: { paymentId: string; orderId: string },
    ): Promise<PaymentMessage> {
      const request = await operationRequestOf(dependencies, call);
      const plan = (payment: Payment) => planExclusive('void', payment, request.operationId);
      const insertMissing = (tx: Tx) => dependencies.store.insertTombstone(tx, paymentId, orderId);
      const work = await recordIntent(dependencies, call, { kind: 'void', paymentId, request, plan, insertMissing });
      return completeRequest(dependencies, call, work.operation, () => perform(dependencies, call, work));
    },
  };
}

/**
 * The operation of a keyed call. The same principal, method and request id always identify the same operation. Earlier
 * releases derived the operation's id from the request id in the letter case of the client; their operations are found
 * too.
 */
export async function operationRequestOf({ db }: OperationDependencies, call: CallContext): Promise<OperationRequest> {
  const idempotencyKey = idempotencyKeyOf(call);
  if (!idempotencyKey) throw new Error(`${call.name} moves money without an idempotency key`);
  const { principal, method, key, receivedKey, hash } = idempotencyKey;
  const idOf = (requestId: string) => derivedId(`${principal}\n${method}\n${requestId}`);
  const before = receivedKey && (await db.read(call, (sql) => findOperation(sql, idOf(receivedKey))));
  return { operationId: before ? before.operationId : idOf(key), principal, requestHash: hash.digest };
}

async function recordAuthorizationIntent(
  dependencies: OperationDependencies,
  call: CallContext,
  authorization: Authorization,
): Promise<Operation> {
  const { db, store } = dependencies;
  const request = await operationRequestOf(dependencies, call);
  const methodHash = dependencies.hashMethod(authorization.paymentMethod);
  try {
    return await db.transaction(call, (tx) => store.insertPayment(tx, { ...authorization, methodHash }, request));
  } catch (error) {
    if (!isDuplicateKey(error)) throw error;
  }
  return db.transaction(call, async (tx) => {
    const same = ({ orderId, customerId, currencyCode, amountMinor }: Payment) =>
      orderId === authorization.orderId &&
      customerId === authorization.customerId &&
      currencyCode === authorization.currencyCode &&
      amountMinor === authorization.amountMinor;
    const { payment, operation } = await store.lock(tx, authorization.paymentId, request, same);
    if (!payment) throw new Error(`payment ${authorization.paymentId} existed and no longer does`);
    if (!operation)
      throw payment.state === 'VOIDED'
        ? paymentVoided(authorization.paymentId)
        : paymentExists(authorization.paymentId);
    // Another card must not get the outcome of the first one. A digest under an unknown key cannot be compared.
    const method = await store.methodHash(tx, operation.operationId);
    if (method && methodHash.compare(method) === 'different') throw requestIdReused('request_id');
    await store.touch(tx, operation.operationId);
    return operation;
  });
}

/** A request about an existing payment. */
interface Intent {
  kind: 'capture' | 'void' | 'refund';
  paymentId: string;
  request: OperationRequest;
  plan: (payment: Payment) => Plan;
  /** Whether a recorded operation is from this request. Without it, every operation of the same payment is. */
  same?: (payment: Payment, operation: Operation) => boolean;
  /** A refund without an amount: of the rest. */
  rest?: boolean;
  /** Inserts a payment that does not exist. Without it, that is an error. */
  insertMissing?: (tx: Tx) => Promise<void>;
}

/** An attempt fails where another request has just inserted one of two rows, so the third attempt finds both. */
const intentAttemptsMax = 3;

/** Commits the intent, or finds the operation of an earlier attempt of this request. */
async function recordIntent(
  { db, store }: OperationDependencies,
  call: CallContext,
  intent: Intent,
): Promise<PaymentAndOperation> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await db.transaction(call, (tx) => recordIntentOnce(store, tx, intent));
    } catch (error) {
      // Another request has just inserted the payment or the operation. The next attempt finds it.
      if (!isDuplicateKey(error) || attempt >= intentAttemptsMax) throw error;
    }
  }
}

async function recordIntentOnce(store: PaymentStore, tx: Tx, intent: Intent): Promise<PaymentAndOperation> {
  const { kind, paymentId, request, rest = false, same = () => true } = intent;
  let locked = await store.lock(tx, paymentId, request, same);
  if (!locked.payment && intent.insertMissing) {
    await intent.insertMissing(tx);
    locked = await store.lock(tx, paymentId, request, same);
  }
  const { payment, operation: known } = locked;
  if (!payment) throw paymentNotFound(paymentId);
  if (known) {
    await store.touch(tx, known.operationId);
    return { payment, operation: known };
  }
  const plan = intent.plan(payment);
  if (plan.kind === 'refuse') throw refusal[plan.because](payment);
  const newOperation = { request, paymentId, kind, rest };
  if (plan.kind === 'same') return { payment, operation: await store.insertDone(tx, newOperation) };
  const { amountMinor } = plan;
  const operation = await store.insertIntent(tx, plan.payment, { ...newOperation, amountMinor });
  return { payment: plan.payment, operation };
}

/** Completes the operation of a request, unless it has completed before, and stores the response with it. */
async function completeRequest(
  { db, store }: OperationDependencies,
  call: CallContext,
  operation: Operation,
  requestOutcome: () => Promise<Outcome>,
): Promise<PaymentMessage> {
  let outcome: Outcome | null = null;
  if (operation.state === 'PENDING') {
    if (operation.needsOperator) throw operationNeedsOperator(operation);
    crashPoint('payments.before-acquirer');
    outcome = await requestOutcome();
    crashPoint('payments.after-acquirer');
    if (isRefusal(operation, outcome)) {
      // The refusal has its own transaction, because the caller's error would roll it back.
      await db.transaction(call, (tx) => store.completeOperation(tx, operation, outcome));
      outcome = null;
    }
  }
  const response = await runIdempotent(db, call, async (tx) => {
    const completed = await store.completeOperation(tx, operation, outcome);
    const error = rejection(completed, operation);
    if (error) throw error;
    crashPoint('payments.before-ledger-commit');
    const principal = idempotencyKeyOf(call)?.principal ?? '';
    const refunded = operation.kind === 'refund' ? await store.refundedBy(tx, principal, operation) : undefined;
    return toMessage(completed.payment, movedBy(completed.payment, completed.operation), refunded);
  });
  crashPoint('payments.after-ledger-commit');
  return response;
}

/** Whether the caller gets an error. A declined authorization is a response, not an error. */
function isRefusal({ kind }: Operation, outcome: Outcome): boolean {
  if (outcome.kind === 'ended') return kind === 'capture';
  return outcome.kind === 'cancelled' || (outcome.kind === 'refused' && kind !== 'authorize');
}

function rejection({ payment, operation }: PaymentAndOperation, { key }: Operation): RpcError | null {
  // An operator requested a new key. A retry gets the outcome of the new key.
  if (operation.state === 'PENDING' && operation.key !== key) return operationChanged(operation.operationId);
  if (operation.state === 'PENDING') return operationNeedsOperator(operation);
  if (operation.state === 'CANCELLED') return paymentVoided(payment.paymentId);
  if (operation.state === 'REFUSED') return paymentState(payment, operation.failureCode);
  // An earlier release completed voids of charged payments as if there were no hold.
  if (operation.kind === 'void' && payment.state === 'CAPTURED') return paymentState(payment);
  return null;
}
