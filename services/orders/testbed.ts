import type { CoreDefinition } from '@armature/runtime/saga';
import { type CheckoutSagas, checkoutSagas } from './saga.ts';
import { orderStore } from './store.ts';

/** The sagas of orders as the service defines them, to be started or looked at: their steps have nobody to call. */
export function idleSagas(store = orderStore()): CheckoutSagas {
  const nobody = new Proxy(
    {},
    {
      get() {
        throw new Error('nobody is called while sagas are only looked at');
      },
    },
  );
  const config = { inventory: [], payments: [], checkoutLimitMs: 120_000, checkoutVersion: 2, cancellationVersion: 2 };
  return checkoutSagas({ config, connect: () => nobody as never, store });
}

/** What those sagas are made of. */
export const sagaDefinitions = (): CoreDefinition[] => idleSagas().definitions.map(({ core }) => core);
