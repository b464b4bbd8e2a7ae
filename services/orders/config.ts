import { integer, peer, runtimeVariables } from '@armature/runtime';

/**
 * The version that new sagas use; running sagas keep theirs. During a deployment that adds a version, set the old
 * version, so that every instance can run new sagas.
 */
const startVersion = (variable: string, saga: string) =>
  integer(variable, `version of the ${saga} that new sagas use`, { min: 1, max: 2, fallback: 2 });

export const config = {
  ...runtimeVariables,
  catalog: peer('catalog'),
  inventory: peer('inventory'),
  payments: peer('payments'),
  checkoutLimitMs: integer('ARMATURE_CHECKOUT_LIMIT_MS', 'how long an order may take to be confirmed, milliseconds', {
    min: 1_000,
    max: 600_000,
    fallback: 120_000,
  }),
  checkoutVersion: startVersion('ARMATURE_CHECKOUT_VERSION', 'checkout'),
  cancellationVersion: startVersion('ARMATURE_CANCELLATION_VERSION', 'cancellation'),
} as const;
