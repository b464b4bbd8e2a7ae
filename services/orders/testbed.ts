import type { CoreDefinition } from '@armature/runtime/saga';
import { type OrderSagas, orderSagas } from './saga.ts';
import { orderStore } from './store.ts';

/**
 * The sagas of orders as the service defines them, to start or inspect them. Their clients are not connected: each call
 * throws.
 */
export function idleSagas(store = orderStore()): OrderSagas {
  const unconnected = new Proxy(
    {},
    {
      get() {
        throw new Error('these sagas are not connected to inventory and payments');
      },
    },
  );
  const config = { inventory: [], payments: [], checkoutLimitMs: 120_000, checkoutVersion: 2, cancellationVersion: 2 };
  return orderSagas({ config, connect: () => unconnected as never, store });
}

/** The pure definitions of those sagas. */
export const sagaDefinitions = (): CoreDefinition[] => idleSagas().definitions.map(({ core }) => core);
