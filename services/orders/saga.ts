import { InventoryServiceContract } from '@armature/proto/inventory/v1/contract.ts';
import { PaymentServiceContract } from '@armature/proto/payments/v1/contract.ts';
import {
  type Config,
  newId,
  requestCancel,
  restartFailedSaga,
  type SagaDefinition,
  type ServiceDependencies,
  startSaga,
  type Tx,
} from '@armature/runtime';
import { cancellationVersions } from './cancellation.ts';
import { checkoutDefinitions, type StartCancellation } from './checkout.ts';
import type { config } from './config.ts';
import type { Order } from './order.ts';
import { isFree } from './saga-dependencies.ts';
import type { OrderStore } from './store.ts';

export interface OrderSagas {
  /** Every version of every saga that this process runs. */
  definitions: readonly SagaDefinition[];
  /** Starts the checkout of an order, in the transaction that accepts the order. */
  startCheckout(tx: Tx, order: Order, paymentMethod: string): Promise<void>;
  /**
   * Requests that the checkout of an order compensates. A checkout that has passed its pivot completes the order first,
   * and then starts the cancellation. Throws where the order has no checkout of a version that this process knows.
   */
  cancelCheckout(tx: Tx, order: Order): Promise<void>;
  /** Starts the cancellation of a completed order. */
  startCancellation: StartCancellation;
  /** Restarts a cancellation that an earlier release ended without cancelling the order. True where it runs again. */
  restartCancellation(tx: Tx, sagaId: string): Promise<boolean>;
}

/** The sagas of orders: the checkout, and the cancellation of orders that the checkout has completed. */
export function orderSagas(input: {
  config: Pick<
    Config<typeof config>,
    'inventory' | 'payments' | 'checkoutLimitMs' | 'checkoutVersion' | 'cancellationVersion'
  >;
  connect: ServiceDependencies<unknown>['connect'];
  store: OrderStore;
}): OrderSagas {
  const { config, connect, store } = input;
  const dependencies = {
    inventory: connect(InventoryServiceContract, 'inventory', config.inventory),
    payments: connect(PaymentServiceContract, 'payments', config.payments),
  };
  const cancellations = cancellationVersions(dependencies, store);
  const cancellation = versionOf(cancellations, config.cancellationVersion);
  const startCancellation: StartCancellation = async (tx, order, uncharged) => {
    const { orderId, currencyCode, reservationId, paymentId } = order;
    const data = { currencyCode, totalMinor: String(order.totalMinor), reservationId, paymentId, uncharged };
    await startSaga(tx, cancellation, { sagaId: newId(), subjectId: orderId, data });
  };
  const { paid, free } = checkoutDefinitions({
    ...{ dependencies, store, startCancellation },
    timeLimitMs: config.checkoutLimitMs,
  });
  const checkout = versionOf(paid, config.checkoutVersion);
  return {
    definitions: [...paid, ...free, ...cancellations],
    async startCheckout(tx, order, paymentMethod) {
      const { customerId, currencyCode, reservationId, paymentId } = order;
      const lines = order.lines.map(({ sku, quantity }) => ({ sku, quantity: String(quantity) }));
      const totalMinor = String(order.totalMinor);
      const data = { customerId, lines, currencyCode, totalMinor, paymentMethod, reservationId, paymentId };
      await startSaga(tx, isFree(order) ? free[0] : checkout, { sagaId: newId(), subjectId: order.orderId, data });
    },
    async cancelCheckout(tx, order) {
      const { orderId } = order;
      const outcome = await requestCancel(tx, isFree(order) ? free : paid, orderId, { reason: 'CUSTOMER_REQUEST' });
      if (outcome === 'unknown_saga')
        throw new Error(`order ${orderId} is pending but has no checkout that this process knows`);
    },
    startCancellation,
    restartCancellation: async (tx, sagaId) => (await restartFailedSaga(tx, cancellations, sagaId)) === 'accepted',
  };
}

/** The definition of the version that new sagas use. */
function versionOf<Data>(versions: readonly SagaDefinition<Data>[], version: number): SagaDefinition<Data> {
  const found = versions.find((definition) => definition.version === version);
  if (!found) throw new Error(`version ${version} is not defined`);
  return found;
}
