import { PaymentErrorReason } from '@armature/proto/payments/v1/contract.ts';
import type { Payment } from '@armature/proto/payments/v1/payments.ts';
import {
  defineSaga,
  done,
  type LocalStep,
  type RemoteStep,
  RpcError,
  type SagaDefinition,
  type Step,
} from '@armature/runtime';
import { derivedId } from '@armature/runtime/id';
import type { CheckoutData } from './checkout.ts';
import { cancelledBecause, type Fact, money, noRefund, type Refund } from './order.ts';
import type { Uncharged } from './outcomes.ts';
import { customerReason } from './reason.ts';
import { isFree, paymentTimeoutMs, retry, type SagaDependencies } from './saga-dependencies.ts';
import type { OrderStore } from './store.ts';

export type CancellationData = Pick<CheckoutData, 'currencyCode' | 'totalMinor' | 'reservationId' | 'paymentId'> & {
  /** Why the card was not charged; undefined where it was. */
  uncharged?: Uncharged;
};

/**
 * The result of refund-payment: the sum of the refunds of this cancellation, including those that an operator
 * completed, and the sum of all refunds of the payment. Null where nothing was charged, and in version 1 where the
 * total was refunded.
 */
type Refunded = { refundedMinor: string; refundedTotalMinor: string } | null;

/**
 * The versions of the cancellation, oldest first. It refunds the rest of the charge, or voids the hold where nothing
 * was charged, returns the units and cancels the order. It has no compensation and cannot be abandoned.
 */
export function cancellationVersions(
  dependencies: SagaDependencies,
  store: OrderStore,
): [v1: SagaDefinition<CancellationData>, v2: SagaDefinition<CancellationData>] {
  const decide: LocalStep<CancellationData> = { name: 'decide', local: true, pivot: true, async record() {} };
  const [total, rest] = [refundTotal(dependencies), refundRest(dependencies)];
  const returnUnits = returnStock(dependencies, store);
  const cancelled = cancelOrder(store);
  const define = (version: number, ...steps: readonly Step<CancellationData>[]): SagaDefinition<CancellationData> =>
    defineSaga<CancellationData>({
      name: 'cancellation',
      version,
      timeLimitMs: 'none',
      mustComplete: true,
      retry,
      nonSensitive: ['currencyCode', 'totalMinor', 'reservationId', 'paymentId'],
      steps,
    });
  return [
    define(1, decide, refundPayment(dependencies, store, total), returnUnits, cancelled),
    // Steps of one group do not wait for each other: units return to stock while a refund waits for an operator.
    define(
      2,
      decide,
      { ...refundPayment(dependencies, store, rest), group: 'undo' },
      { ...returnUnits, group: 'undo' },
      cancelled,
    ),
  ];
}

type Run = RemoteStep<CancellationData>['run'];
type Context = Parameters<Run>[0];
/** Refunds a charge. The result contains the sum that this cancellation has refunded. */
type RefundCharge = (ctx: Context) => Promise<Payment>;

const toPayments = ({ call }: Context) => ({ parent: call, timeoutMs: paymentTimeoutMs });

/** Payments computes the rest under its row lock, so earlier and concurrent refunds never exceed the charge. */
const refundRest =
  ({ payments }: SagaDependencies): RefundCharge =>
  (ctx) =>
    payments.refundPayment({ requestId: ctx.key, paymentId: ctx.data.paymentId }, toPayments(ctx));

/** The idempotency key of the request by which version 1 refunds the rest after earlier refunds. */
export const restKey = (key: string): string => derivedId(`${key}/rest`);

/** Version 1 requests a refund of the total. Where earlier refunds make that exceed the charge, it refunds the rest. */
const refundTotal =
  ({ payments }: SagaDependencies): RefundCharge =>
  async (ctx) => {
    const { data, key } = ctx;
    const amount = money(data.currencyCode, BigInt(data.totalMinor));
    try {
      return await payments.refundPayment({ requestId: key, paymentId: data.paymentId, amount }, toPayments(ctx));
    } catch (error) {
      const tooMuch = error instanceof RpcError && error.reason === PaymentErrorReason.REFUND_EXCEEDS_CAPTURE;
      if (!tooMuch) throw error;
      return payments.refundPayment({ requestId: restKey(key), paymentId: data.paymentId }, toPayments(ctx));
    }
  };

function refundPayment(
  { payments }: SagaDependencies,
  store: OrderStore,
  refundCharge: RefundCharge,
): RemoteStep<CancellationData> {
  return {
    name: 'refund-payment',
    dependency: 'payments',
    timeoutMs: paymentTimeoutMs,
    async run(ctx) {
      const { data, key, subjectId: orderId } = ctx;
      if (isFree(data)) return done();
      if (data.uncharged) {
        const request = { requestId: key, paymentId: data.paymentId, orderId };
        const { refunded } = await payments.voidPayment(request, toPayments(ctx));
        // The acquirer captured it without a request of payments, and an administrator refunded it.
        return refunded?.amountMinor ? done(refundedNow(0n, refunded)) : done();
      }
      const { moved, refunded, refundedByCaller = moved } = await refundCharge(ctx);
      return done(refundedNow(refundedByCaller?.amountMinor ?? 0n, refunded));
    },
    async record(tx, { subjectId, data }, outcome) {
      if (outcome.kind !== 'done' || isFree(data)) return;
      const facts = refundFacts(subjectId, data, refundOf(data, outcome.result as Refunded));
      if (facts.length > 0) await store.change(tx, subjectId, () => facts);
    },
  };
}

const refundedNow = (minor: bigint, total: Payment['refunded']): Refunded => ({
  refundedMinor: String(minor),
  refundedTotalMinor: String(total?.amountMinor ?? 0n),
});

/** The facts of a finished refund-payment: none where earlier refunds have left nothing to refund. */
function refundFacts(orderId: string, data: CancellationData, refund: Refund): Fact[] {
  const { paymentId, currencyCode } = data;
  const voided = data.uncharged && refund.refundedTotalMinor === 0n;
  if (voided) return [{ $case: 'paymentVoided', value: { orderId, paymentId } }];
  if (refund.refundedMinor === 0n) return [];
  const amount = money(currencyCode, refund.refundedMinor);
  const refundedTotal = money(currencyCode, refund.refundedTotalMinor);
  return [{ $case: 'paymentRefunded', value: { orderId, paymentId, amount, refundedTotal } }];
}

/** The refund to the customer. Before results were stored, a refund was always of the total. */
function refundOf(data: CancellationData, result: Refunded | undefined): Refund {
  if (isFree(data) || (data.uncharged && !result)) return noRefund;
  const { refundedMinor, refundedTotalMinor } = result ?? {
    refundedMinor: data.totalMinor,
    refundedTotalMinor: data.totalMinor,
  };
  return { refundedMinor: BigInt(refundedMinor), refundedTotalMinor: BigInt(refundedTotalMinor) };
}

function returnStock({ inventory }: SagaDependencies, store: OrderStore): RemoteStep<CancellationData> {
  return {
    name: 'return-stock',
    dependency: 'inventory',
    async run({ call, data, key, subjectId }) {
      const request = { requestId: key, reservationId: data.reservationId, orderId: subjectId };
      await inventory.releaseReservation(request, { parent: call });
      return done();
    },
    async record(tx, { subjectId, data }, outcome) {
      const value = { orderId: subjectId, reservationId: data.reservationId };
      if (outcome.kind === 'done') await store.change(tx, subjectId, () => [{ $case: 'stockReleased', value }]);
    },
  };
}

function cancelOrder(store: OrderStore): LocalStep<CancellationData> {
  return {
    name: 'cancelled',
    local: true,
    async record(tx, { subjectId, data, results }) {
      const { uncharged } = data;
      const why = uncharged
        ? customerReason(uncharged.reason, uncharged.detail)
        : ({ reason: 'CUSTOMER_REQUEST', reasonDetail: '' } as const);
      const refund = refundOf(data, results['refund-payment'] as Refunded | undefined);
      await store.change(tx, subjectId, (order) => [cancelledBecause(order, why, refund)]);
    },
  };
}
