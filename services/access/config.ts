import { integer, runtimeVariables, text } from '@armature/runtime';

export const config = {
  ...runtimeVariables,
  seedFile: text('ARMATURE_POLICY_SEED_FILE', 'the policy, Casbin CSV, that a new schema begins with', {
    fallback: '',
  }),
  policyAgeMaxMs: integer('ARMATURE_POLICY_AGE_MAX_MS', 'how long a policy is trusted without a look, milliseconds', {
    min: 1_000,
    max: 24 * 60 * 60_000,
    fallback: 300_000,
  }),
  grantSweepMs: integer('ARMATURE_GRANT_SWEEP_MS', 'how often grants that begin or end are looked for, milliseconds', {
    min: 10,
    max: 5_000,
    fallback: 500,
  }),
} as const;
