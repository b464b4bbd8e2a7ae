import { InventoryErrorReason, InventoryServiceContract } from '@armature/proto/inventory/v1/contract.ts';
import { type Reservation, ReservationState } from '@armature/proto/inventory/v1/inventory.ts';
import { PaymentErrorReason, PaymentServiceContract } from '@armature/proto/payments/v1/contract.ts';
import { type Payment, PaymentState } from '@armature/proto/payments/v1/payments.ts';
import {
  absentIfNotFound,
  type Client,
  type Config,
  defineSaga,
  done,
  newId,
  type Parts,
  RpcError,
  rejected,
  requestCancel,
  type SagaDefinition,
  type StatusAnswer,
  type StepOutcome,
  startSaga,
  type Tx,
} from '@armature/runtime';
import type { config } from './config.ts';
import { cancelledBecause, confirmed, type Fact, money, noRefund, type Order } from './order.ts';
import { customerReason, nameList } from './reason.ts';
import type { OrderStore } from './store.ts';

/** What a checkout needs to know; amounts as text, because it is kept as JSON. */
type CheckoutData = {
  customerId: string;
  lines: { sku: string; quantity: string }[];
  currencyCode: string;
  totalMinor: string;
  paymentMethod: string;
  reservationId: string;
  paymentId: string;
};

type CancellationData = Pick<CheckoutData, 'currencyCode' | 'totalMinor' | 'reservationId' | 'paymentId'> & {
  /** Why the card was not charged after all; undefined where it was. */
  uncharged?: Uncharged;
};

type Uncharged = { reason: string; detail: string };

export interface CheckoutSagas {
  definitions: readonly SagaDefinition<any>[];
  /** Begins to bring an order to its end; part of the transaction that accepts it. */
  startCheckout(tx: Tx, order: Order, paymentMethod: string): Promise<void>;
  /** Asks a checkout that is not past its pivot to go back. */
  cancelCheckout(tx: Tx, orderId: string): Promise<void>;
  /** Begins to undo a completed order. */
  startCancellation(tx: Tx, order: Order): Promise<void>;
}

/** The sagas of orders: the checkout, and the cancellation of what the checkout completed. */
export function checkoutSagas(parts: {
  config: Pick<Config<typeof config>, 'inventory' | 'payments' | 'checkoutLimitMs'>;
  connect: Parts<unknown>['connect'];
  store: OrderStore;
}): CheckoutSagas {
  const { config, connect, store } = parts;
  const others = {
    inventory: connect(InventoryServiceContract, 'inventory', config.inventory),
    payments: connect(PaymentServiceContract, 'payments', config.payments),
  };
  const cancellation = cancellationSaga(others, store);
  const startCancellation = async (tx: Tx, order: Order, uncharged?: Uncharged) => {
    const { orderId, currencyCode, reservationId, paymentId } = order;
    const data = { currencyCode, totalMinor: String(order.totalMinor), reservationId, paymentId, uncharged };
    await startSaga(tx, cancellation, { sagaId: newId(), subjectId: orderId, data });
  };
  const checkout = checkoutSaga(others, store, config.checkoutLimitMs, startCancellation);
  return {
    definitions: [checkout, cancellation],
    async startCheckout(tx, order, paymentMethod) {
      const { customerId, currencyCode, reservationId, paymentId } = order;
      const lines = order.lines.map(({ sku, quantity }) => ({ sku, quantity: String(quantity) }));
      const totalMinor = String(order.totalMinor);
      const data = { customerId, lines, currencyCode, totalMinor, paymentMethod, reservationId, paymentId };
      await startSaga(tx, checkout, { sagaId: newId(), subjectId: order.orderId, data });
    },
    async cancelCheckout(tx, orderId) {
      await requestCancel(tx, checkout, orderId, { reason: 'CUSTOMER_REQUEST' });
    },
    startCancellation,
  };
}

interface Others {
  inventory: Client<typeof InventoryServiceContract>;
  payments: Client<typeof PaymentServiceContract>;
}

/** reserve → authorize → confirm (pivot) → commit → capture → complete. */
function checkoutSaga(
  { inventory, payments }: Others,
  store: OrderStore,
  timeLimitMs: number,
  startCancellation: (tx: Tx, order: Order, uncharged?: Uncharged) => Promise<void>,
): SagaDefinition<CheckoutData> {
  const append = store.change;
  return defineSaga<CheckoutData>({
    name: 'checkout',
    version: 1,
    timeLimitMs,
    retry,
    // Sagas of this version that are under way compensate one step after another.
    compensation: 'in-order',
    secrets: ['paymentMethod'],
    harmless: ['lines', 'currencyCode', 'totalMinor', 'reservationId', 'paymentId'],
    steps: [
      {
        name: 'reserve-stock',
        dependency: 'inventory',
        compensateAbsent: true,
        async run({ call, data, key, subjectId }) {
          const lines = data.lines.map(({ sku, quantity }) => ({ sku, quantity: BigInt(quantity) }));
          const request = { requestId: key, reservationId: data.reservationId, orderId: subjectId, lines };
          return inventory.reserveStock(request, { parent: call }).then(fromReservation, nameSkus);
        },
        query: ({ call, data }) =>
          inventory
            .getReservation({ reservationId: data.reservationId }, { parent: call })
            .then(fromReservation, absentIfNotFound),
        async compensate({ call, data, key, subjectId }) {
          const request = { requestId: key, reservationId: data.reservationId, orderId: subjectId };
          await inventory.releaseReservation(request, { parent: call });
        },
        async record(tx, { subjectId, data }, outcome) {
          const value = { orderId: subjectId, reservationId: data.reservationId };
          if (outcome.kind === 'done') await append(tx, subjectId, () => [{ $case: 'stockReserved', value }]);
          if (outcome.kind === 'compensated' && outcome.acted)
            await append(tx, subjectId, () => [{ $case: 'stockReleased', value }]);
        },
      },
      {
        name: 'authorize-payment',
        dependency: 'payments',
        compensateAbsent: true,
        timeoutMs: paymentTimeoutMs,
        async run({ call, data, key, subjectId }) {
          const { paymentId, customerId, paymentMethod, currencyCode, totalMinor } = data;
          const amount = money(currencyCode, BigInt(totalMinor));
          const request = { requestId: key, paymentId, orderId: subjectId, customerId, amount, paymentMethod };
          return fromAuthorization(
            await payments.authorizePayment(request, { parent: call, timeoutMs: paymentTimeoutMs }),
          );
        },
        query: ({ call, data }) =>
          payments.getPayment({ paymentId: data.paymentId }, { parent: call }).then(asFarAsItGot, absentIfNotFound),
        async compensate({ call, data, key, subjectId }) {
          const request = { requestId: key, paymentId: data.paymentId, orderId: subjectId };
          await payments.voidPayment(request, { parent: call });
        },
        async record(tx, { subjectId, data }, outcome) {
          const value = { orderId: subjectId, paymentId: data.paymentId };
          if (outcome.kind === 'done') await append(tx, subjectId, () => [{ $case: 'paymentAuthorized', value }]);
          if (outcome.kind === 'compensated' && outcome.acted)
            await append(tx, subjectId, () => [{ $case: 'paymentVoided', value }]);
        },
      },
      {
        name: 'confirm',
        pivot: true,
        local: true,
        async record(tx, { subjectId }) {
          await append(tx, subjectId, (order) => [confirmed(order)]);
        },
      },
      {
        name: 'commit-reservation',
        dependency: 'inventory',
        async run({ call, data, key }) {
          const request = { requestId: key, reservationId: data.reservationId };
          return inventory.commitReservation(request, { parent: call }).then(() => done(), expiredMeanwhile);
        },
        async record(tx, { subjectId, data }, outcome) {
          const value = { orderId: subjectId, reservationId: data.reservationId };
          if (outcome.kind === 'done' && outcome.result === null)
            await append(tx, subjectId, () => [{ $case: 'stockCommitted', value }]);
        },
      },
      {
        name: 'capture-payment',
        dependency: 'payments',
        timeoutMs: paymentTimeoutMs,
        async run({ call, data, key, results }) {
          // There is nothing to charge for.
          if (results['commit-reservation']) return done(results['commit-reservation']);
          const request = { requestId: key, paymentId: data.paymentId };
          const captured = payments.capturePayment(request, { parent: call, timeoutMs: paymentTimeoutMs });
          return captured.then(() => done(), refusedByAcquirer);
        },
        async record(tx, { subjectId, data }, outcome) {
          const amount = money(data.currencyCode, BigInt(data.totalMinor));
          const value = { orderId: subjectId, paymentId: data.paymentId, amount };
          if (outcome.kind === 'done' && outcome.result === null)
            await append(tx, subjectId, () => [{ $case: 'paymentCaptured', value }]);
        },
      },
      {
        name: 'complete',
        local: true,
        async record(tx, { subjectId: orderId, results }) {
          const uncharged = results['capture-payment'] as Uncharged | null | undefined;
          // There is no way back past the pivot, but there is one onward: the order is undone, as if it were complete.
          if (uncharged) return startCancellation(tx, await store.find(tx, orderId), uncharged);
          const order = await append(tx, orderId, () => [{ $case: 'completed', value: { orderId } }]);
          // Somebody asked too late to stop it: now that it is complete, it is undone.
          if (order.cancelRequested) await startCancellation(tx, order);
        },
      },
    ],
    async finished(tx, { subjectId: orderId, results }, result) {
      if (result.kind === 'completed') return;
      const why = customerReason(result.failure.reason, result.failure.detail);
      const held = 'reserve-stock' in results;
      await append(tx, orderId, (order) => [
        order.cancelRequested || held
          ? cancelledBecause(order, why, noRefund)
          : { $case: 'rejected', value: { orderId, ...why } },
      ]);
    },
  });
}

/** Refund, or void where nothing was charged → return the units → cancelled. It only goes forward. */
function cancellationSaga({ inventory, payments }: Others, store: OrderStore): SagaDefinition<CancellationData> {
  const append = store.change;
  return defineSaga<CancellationData>({
    name: 'cancellation',
    version: 1,
    timeLimitMs: 'none',
    mustComplete: true,
    retry,
    harmless: ['currencyCode', 'totalMinor', 'reservationId', 'paymentId'],
    steps: [
      { name: 'decide', local: true, pivot: true, async record() {} },
      {
        name: 'refund-payment',
        dependency: 'payments',
        timeoutMs: paymentTimeoutMs,
        async run({ call, data, key, subjectId }) {
          const amount = money(data.currencyCode, BigInt(data.totalMinor));
          const options = { parent: call, timeoutMs: paymentTimeoutMs };
          const payment = { requestId: key, paymentId: data.paymentId };
          if (data.uncharged === undefined) await payments.refundPayment({ ...payment, amount }, options);
          else await payments.voidPayment({ ...payment, orderId: subjectId }, options);
          return done();
        },
        async record(tx, { subjectId, data }, outcome) {
          const amount = money(data.currencyCode, BigInt(data.totalMinor));
          const value = { orderId: subjectId, paymentId: data.paymentId };
          const undone: Fact =
            data.uncharged === undefined
              ? { $case: 'paymentRefunded', value: { ...value, amount, refundedTotal: amount } }
              : { $case: 'paymentVoided', value };
          if (outcome.kind === 'done') await append(tx, subjectId, () => [undone]);
        },
      },
      {
        name: 'return-stock',
        dependency: 'inventory',
        async run({ call, data, key, subjectId }) {
          const request = { requestId: key, reservationId: data.reservationId, orderId: subjectId };
          await inventory.releaseReservation(request, { parent: call });
          return done();
        },
        async record(tx, { subjectId, data }, outcome) {
          const value = { orderId: subjectId, reservationId: data.reservationId };
          if (outcome.kind === 'done') await append(tx, subjectId, () => [{ $case: 'stockReleased', value }]);
        },
      },
      {
        name: 'cancelled',
        local: true,
        async record(tx, { subjectId, data: { uncharged } }) {
          await append(tx, subjectId, (order) => {
            if (uncharged)
              return [cancelledBecause(order, customerReason(uncharged.reason, uncharged.detail), noRefund)];
            const refund = { refundedMinor: order.totalMinor, refundedTotalMinor: order.totalMinor };
            return [cancelledBecause(order, { reason: 'CUSTOMER_REQUEST', reasonDetail: '' }, refund)];
          });
        },
      },
    ],
  });
}

/** Payments waits for the acquirer; a try must end before the saga's lease does. */
const paymentTimeoutMs = 8_000;

/** A service that is away for days makes orders late, not stuck. */
const retry = { initialBackoffMs: 50, maxBackoffMs: 2_000, maxElapsedMs: 7 * 86_400_000 };

function fromReservation({ state }: Reservation): StepOutcome {
  switch (state) {
    case ReservationState.RESERVATION_STATE_HELD:
    case ReservationState.RESERVATION_STATE_COMMITTED:
      return done();
    case ReservationState.RESERVATION_STATE_EXPIRED:
      return rejected('RESERVATION_EXPIRED');
    default:
      return rejected('RESERVATION_RELEASED');
  }
}

function fromAuthorization({ state, declineCode }: Payment): StepOutcome {
  switch (state) {
    case PaymentState.PAYMENT_STATE_AUTHORIZED:
    case PaymentState.PAYMENT_STATE_CAPTURED:
      return done();
    case PaymentState.PAYMENT_STATE_DECLINED:
      return rejected('PAYMENT_DECLINED', declineCode);
    case PaymentState.PAYMENT_STATE_PENDING:
      return { kind: 'unknown', detail: 'the acquirer has not answered' };
    default:
      return rejected('PAYMENT_VOIDED');
  }
}

/**
 * A payment that is pending may be so for ever: whoever began it has died, and only the request knows the card. So
 * it is requested again, which goes on where it was left, or voided, which overtakes what may still be under way.
 */
function asFarAsItGot(payment: Payment): StatusAnswer {
  return payment.state === PaymentState.PAYMENT_STATE_PENDING ? { kind: 'absent' } : fromAuthorization(payment);
}

/** The acquirer will never let this capture through, so the step is done, and what it has to tell is why. */
function refusedByAcquirer(error: unknown): StepOutcome {
  const refused = error instanceof RpcError && error.reason === PaymentErrorReason.PAYMENT_STATE;
  if (!refused || !error.metadata.acquirer_code) throw error;
  return done({ reason: 'PAYMENT_DECLINED', detail: error.metadata.acquirer_code } satisfies Uncharged);
}

/** The order was confirmed, and then nobody came for its units in time: somebody else may have them now. */
function expiredMeanwhile(error: unknown): StepOutcome {
  if (!(error instanceof RpcError) || error.reason !== InventoryErrorReason.RESERVATION_EXPIRED) throw error;
  return done({ reason: 'RESERVATION_EXPIRED', detail: '' } satisfies Uncharged);
}

/** A refusal that names SKUs hands them on: the customer wants to know which. */
function nameSkus(error: unknown): StepOutcome {
  if (error instanceof RpcError && error.metadata.skus)
    return rejected(error.reason, nameList(error.metadata.skus.split(',')));
  throw error;
}
