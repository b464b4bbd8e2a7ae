import { integer, peer, runtimeVariables } from '@armature/runtime';

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
} as const;
