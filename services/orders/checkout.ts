import {
  absentIfNotFound,
  defineSaga,
  done,
  type Json,
  type LocalStep,
  type RemoteStep,
  type SagaDefinition,
  type Step,
  type Tx,
} from '@armature/runtime';
import { cancelledBecause, confirmed, money, noRefund, type Order, type Refund } from './order.ts';
import {
  expiredAfterConfirmation,
  fromAuthorization,
  fromCommit,
  fromPayment,
  fromReservation,
  refusedSkus,
  type Uncharged,
  uncharged,
} from './outcomes.ts';
import { customerReason } from './reason.ts';
import { paymentTimeoutMs, retry, type SagaDependencies } from './saga-dependencies.ts';
import type { OrderStore } from './store.ts';

/** The data of a checkout. Amounts are text, because the data is stored as JSON. */
export type CheckoutData = {
  customerId: string;
  lines: { sku: string; quantity: string }[];
  currencyCode: string;
  totalMinor: string;
  paymentMethod: string;
  reservationId: string;
  /** Empty for a free order, which has no payment. */
  paymentId: string;
};

/** Starts the cancellation of a confirmed order. `why` says why the order was not charged, where it was not. */
export type StartCancellation = (tx: Tx, order: Order, why?: Uncharged) => Promise<void>;

export interface Checkouts {
  /** The versions of the checkout, oldest first. Sagas of each version may be running. */
  paid: [v1: SagaDefinition<CheckoutData>, v2: SagaDefinition<CheckoutData>];
  /** The checkout of free orders. It has no payment steps, so an outage of payments does not delay it. */
  free: [v1: SagaDefinition<CheckoutData>];
}

/** The checkouts, built from the same step objects. */
export function checkoutDefinitions(input: {
  dependencies: SagaDependencies;
  store: OrderStore;
  timeLimitMs: number;
  startCancellation: StartCancellation;
}): Checkouts {
  const { dependencies, store, timeLimitMs } = input;
  const reserve = reserveStock(dependencies, store);
  const authorize = authorizePayment(dependencies, store);
  const commit = commitReservation(dependencies, store);
  const confirm = confirmOrder(store);
  const capture = capturePayment(dependencies, store);
  const complete = completeOrder(store, input.startCancellation);
  const define = (
    name: string,
    version: number,
    compensation: 'independent' | 'in-order',
    ...steps: readonly Step<CheckoutData>[]
  ): SagaDefinition<CheckoutData> =>
    defineSaga<CheckoutData>({
      name,
      version,
      timeLimitMs,
      retry,
      compensation,
      secrets: ['paymentMethod'],
      nonSensitive: ['lines', 'currencyCode', 'totalMinor', 'reservationId', 'paymentId'],
      steps,
      finished: endUnconfirmed(store),
    });
  const commitLate = commitAfterPivot(dependencies, store);
  return {
    paid: [
      define('checkout', 1, 'in-order', reserve, authorize, confirm, commitLate, capture, complete),
      // The reservation is committed before the order is confirmed, so the reservation of a confirmed order cannot
      // expire.
      define('checkout', 2, 'independent', reserve, authorize, commit, confirm, capture, complete),
    ],
    free: [define('free-checkout', 1, 'independent', reserve, commit, confirm, complete)],
  };
}

function reserveStock({ inventory }: SagaDependencies, store: OrderStore): RemoteStep<CheckoutData> {
  return {
    name: 'reserve-stock',
    dependency: 'inventory',
    compensateAbsent: true,
    async run({ call, data, key, subjectId }) {
      const lines = data.lines.map(({ sku, quantity }) => ({ sku, quantity: BigInt(quantity) }));
      const request = { requestId: key, reservationId: data.reservationId, orderId: subjectId, lines };
      return inventory.reserveStock(request, { parent: call }).then(fromReservation, refusedSkus);
    },
    query: ({ call, data }) =>
      inventory
        .getReservation({ reservationId: data.reservationId }, { parent: call })
        .then(fromReservation, absentIfNotFound),
    // Also returns units that commit-reservation has committed.
    async compensate({ call, data, key, subjectId }) {
      const request = { requestId: key, reservationId: data.reservationId, orderId: subjectId };
      await inventory.releaseReservation(request, { parent: call });
    },
    async record(tx, { subjectId, data }, outcome) {
      const value = { orderId: subjectId, reservationId: data.reservationId };
      if (outcome.kind === 'done') await store.change(tx, subjectId, () => [{ $case: 'stockReserved', value }]);
      if (outcome.kind === 'compensated' && outcome.acted)
        await store.change(tx, subjectId, () => [{ $case: 'stockReleased', value }]);
    },
  };
}

function authorizePayment({ payments }: SagaDependencies, store: OrderStore): RemoteStep<CheckoutData> {
  return {
    name: 'authorize-payment',
    dependency: 'payments',
    compensateAbsent: true,
    timeoutMs: paymentTimeoutMs,
    async run({ call, data, key, subjectId }) {
      const { paymentId, customerId, paymentMethod, currencyCode, totalMinor } = data;
      const amount = money(currencyCode, BigInt(totalMinor));
      const request = { requestId: key, paymentId, orderId: subjectId, customerId, amount, paymentMethod };
      return fromAuthorization(await payments.authorizePayment(request, { parent: call, timeoutMs: paymentTimeoutMs }));
    },
    query: ({ call, data }) =>
      payments.getPayment({ paymentId: data.paymentId }, { parent: call }).then(fromPayment, absentIfNotFound),
    async compensate({ call, data, key, subjectId }) {
      const request = { requestId: key, paymentId: data.paymentId, orderId: subjectId };
      const { refunded } = await payments.voidPayment(request, { parent: call });
      return refunded?.amountMinor ? { refundedTotalMinor: String(refunded.amountMinor) } : undefined;
    },
    async record(tx, { subjectId, data, results }, outcome) {
      const value = { orderId: subjectId, paymentId: data.paymentId };
      if (outcome.kind === 'done') await store.change(tx, subjectId, () => [{ $case: 'paymentAuthorized', value }]);
      if (outcome.kind === 'compensated' && outcome.acted && refundOf(results) === noRefund)
        await store.change(tx, subjectId, () => [{ $case: 'paymentVoided', value }]);
    },
  };
}

/** Commits the reservation. The compensation of reserve-stock also returns committed units. */
function commitReservation({ inventory }: SagaDependencies, store: OrderStore): RemoteStep<CheckoutData> {
  return {
    name: 'commit-reservation',
    dependency: 'inventory',
    async run({ call, data, key }) {
      await inventory.commitReservation({ requestId: key, reservationId: data.reservationId }, { parent: call });
      return done();
    },
    query: ({ call, data }) =>
      inventory
        .getReservation({ reservationId: data.reservationId }, { parent: call })
        .then(fromCommit, absentIfNotFound),
    record: stockCommitted(store),
  };
}

/** Version 1 commits the reservation after the order is confirmed. An expired reservation cancels the order. */
function commitAfterPivot({ inventory }: SagaDependencies, store: OrderStore): RemoteStep<CheckoutData> {
  return {
    name: 'commit-reservation',
    dependency: 'inventory',
    async run({ call, data, key }) {
      const request = { requestId: key, reservationId: data.reservationId };
      return inventory.commitReservation(request, { parent: call }).then(() => done(), expiredAfterConfirmation);
    },
    record: stockCommitted(store),
  };
}

const stockCommitted =
  (store: OrderStore): NonNullable<RemoteStep<CheckoutData>['record']> =>
  async (tx, { subjectId, data }, outcome) => {
    const value = { orderId: subjectId, reservationId: data.reservationId };
    if (outcome.kind === 'done' && outcome.result === null)
      await store.change(tx, subjectId, () => [{ $case: 'stockCommitted', value }]);
  };

function confirmOrder(store: OrderStore): LocalStep<CheckoutData> {
  return {
    name: 'confirm',
    pivot: true,
    local: true,
    async record(tx, { subjectId }) {
      await store.change(tx, subjectId, (order) => [confirmed(order)]);
    },
  };
}

function capturePayment({ payments }: SagaDependencies, store: OrderStore): RemoteStep<CheckoutData> {
  return {
    name: 'capture-payment',
    dependency: 'payments',
    timeoutMs: paymentTimeoutMs,
    async run({ call, data, key, results }) {
      // The reservation has expired, so nothing is charged. Only version 1 reaches this step without a reservation.
      if (results['commit-reservation']) return done(results['commit-reservation']);
      const request = { requestId: key, paymentId: data.paymentId };
      const captured = payments.capturePayment(request, { parent: call, timeoutMs: paymentTimeoutMs });
      return captured.then(() => done(), uncharged);
    },
    async record(tx, { subjectId, data }, outcome) {
      const amount = money(data.currencyCode, BigInt(data.totalMinor));
      const value = { orderId: subjectId, paymentId: data.paymentId, amount };
      if (outcome.kind === 'done' && outcome.result === null)
        await store.change(tx, subjectId, () => [{ $case: 'paymentCaptured', value }]);
    },
  };
}

function completeOrder(store: OrderStore, startCancellation: StartCancellation): LocalStep<CheckoutData> {
  return {
    name: 'complete',
    local: true,
    async record(tx, { subjectId: orderId, results }) {
      const why = results['capture-payment'] as Uncharged | null | undefined;
      // A checkout cannot compensate after its pivot, so a cancellation undoes an order that was not charged.
      if (why) return startCancellation(tx, await store.find(tx, orderId), why);
      const order = await store.change(tx, orderId, () => [{ $case: 'completed', value: { orderId } }]);
      // A cancellation that the customer requested after the pivot starts now.
      if (order.cancelRequested) await startCancellation(tx, order);
    },
  };
}

/**
 * The refund to the customer of a compensated checkout. The checkout itself refunds nothing. A charge can only come
 * from a capture that payments did not request: an operator recorded it, and an administrator refunded it.
 */
function refundOf(results: Readonly<Record<string, Json>>): Refund {
  const compensated = results['authorize-payment'] as { refundedTotalMinor?: string } | null | undefined;
  const minor = compensated?.refundedTotalMinor;
  return minor === undefined ? noRefund : { refundedMinor: 0n, refundedTotalMinor: BigInt(minor) };
}

/** Ends the order of a compensated checkout: REJECTED where no stock was reserved, CANCELLED otherwise. */
const endUnconfirmed =
  (store: OrderStore): NonNullable<SagaDefinition<CheckoutData>['finished']> =>
  async (tx, { subjectId: orderId, results }, result) => {
    if (result.kind === 'completed') return;
    const why = customerReason(result.failure.reason, result.failure.detail);
    const reserved = 'reserve-stock' in results;
    await store.change(tx, orderId, (order) => [
      order.cancelRequested || reserved
        ? cancelledBecause(order, why, refundOf(results))
        : { $case: 'rejected', value: { orderId, ...why } },
    ]);
  };
