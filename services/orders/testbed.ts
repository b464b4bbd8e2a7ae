import type { CoreDefinition } from '@armature/runtime/saga/core.ts';
import { checkoutSagas } from './saga.ts';
import { orderStore } from './store.ts';

/** The sagas of orders as the service defines them, to be looked at: their steps have nobody to call. */
export function sagaDefinitions(): CoreDefinition[] {
  const nobody = new Proxy(
    {},
    {
      get() {
        throw new Error('nobody is called while sagas are only looked at');
      },
    },
  );
  const config = { inventory: [], payments: [], checkoutLimitMs: 120_000 };
  const { definitions } = checkoutSagas({ config, connect: () => nobody as never, store: orderStore() });
  return definitions.map(({ core }) => core);
}
