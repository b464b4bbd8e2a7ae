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
import { checkoutDefinitions, isFree, type StartCancellation } from './checkout.ts';
import type { config } from './config.ts';
import type { Order } from './order.ts';
import type { OrderStore } from './store.ts';

export interface CheckoutSagas {
  /** Every version of every saga that this process runs. */
  definitions: readonly SagaDefinition[];
  /** Begins to bring an order to its end; part of the transaction that accepts it. */
  startCheckout(tx: Tx, order: Order, paymentMethod: string): Promise<void>;
  /**
   * Asks the checkout of an order to go back. One that has passed its pivot meanwhile completes the order first, which
   * then begins the cancellation. Throws where no checkout of the order is known to this process.
   */
  cancelCheckout(tx: Tx, order: Order): Promise<void>;
  /** Begins to undo a completed order. */
  startCancellation: StartCancellation;
  /** Restarts a cancellation that an earlier release ended although its order was not cancelled. True: it runs again. */
  restartCancellation(tx: Tx, sagaId: string): Promise<boolean>;
}

/** The sagas of orders: the checkout, and the cancellation of what the checkout completed. */
export function checkoutSagas(parts: {
  config: Pick<
    Config<typeof config>,
    'inventory' | 'payments' | 'checkoutLimitMs' | 'checkoutVersion' | 'cancellationVersion'
  >;
  connect: ServiceDependencies<unknown>['connect'];
  store: OrderStore;
}): CheckoutSagas {
  const { config, connect, store } = parts;
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
      const answer = await requestCancel(tx, isFree(order) ? free : paid, orderId, { reason: 'CUSTOMER_REQUEST' });
      if (answer === 'unknown_saga') throw new Error(`order ${orderId} is pending and has no checkout`);
    },
    startCancellation,
    restartCancellation: async (tx, sagaId) => (await restartFailedSaga(tx, cancellations, sagaId)) === 'accepted',
  };
}

/** The version that new sagas begin with. */
function versionOf<Data>(versions: readonly SagaDefinition<Data>[], version: number): SagaDefinition<Data> {
  const found = versions.find((definition) => definition.version === version);
  if (!found) throw new Error(`version ${version} is not defined`);
  return found;
}
