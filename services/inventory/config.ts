import { integer, runtimeVariables } from '@armature/runtime';

export const config = {
  ...runtimeVariables,
  reservationTtlMs: integer('ARMATURE_RESERVATION_TTL_MS', 'how long stock stays reserved for an order, milliseconds', {
    min: 100,
    max: 24 * 60 * 60_000,
    fallback: 15 * 60_000,
  }),
  expireEveryMs: integer('ARMATURE_EXPIRY_SWEEP_MS', 'interval of the job that expires reservations, milliseconds', {
    min: 10,
    max: 60_000,
    fallback: 1_000,
  }),
} as const;
