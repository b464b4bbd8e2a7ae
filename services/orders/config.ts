import { integer, peer, runtimeVariables } from '@armature/runtime';

/**
 * The version that new sagas begin with; the others go on. While a deployment that brings a new version is under way,
 * the old number keeps new sagas runnable by every instance.
 */
const startVersion = (variable: string, saga: string) =>
  integer(variable, `version of the ${saga} that new ones begin with`, { min: 1, max: 2, fallback: 2 });

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
