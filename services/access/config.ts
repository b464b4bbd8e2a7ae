import { integer, runtimeVariables, text } from '@armature/runtime';

export const config = {
  ...runtimeVariables,
  seedFile: text('ARMATURE_POLICY_SEED_FILE', 'the policy, Casbin CSV, that a new schema begins with', {
    fallback: '',
  }),
  grantSweepMs: integer('ARMATURE_GRANT_SWEEP_MS', 'how often grants that begin or end are looked for, milliseconds', {
    min: 10,
    max: 5_000,
    fallback: 500,
  }),
  decisionKeptDays: integer('ARMATURE_DECISION_KEPT_DAYS', 'how long decisions are kept, days', {
    min: 90,
    max: 3_650,
    fallback: 400,
  }),
} as const;
