import { integer, oneOf, runtimeVariables, text } from '@armature/runtime';

export const config = {
  ...runtimeVariables,
  seedFile: text('ARMATURE_POLICY_SEED_FILE', 'file of the first policy of a new schema, Casbin CSV', {
    fallback: '',
  }),
  reservedPermissions: oneOf(
    'ARMATURE_RESERVED_PERMISSIONS',
    'whether calls may give reserved permissions, such as those of operators: refused or grantable',
    ['refused', 'grantable'],
    'refused',
  ),
  dueIntervalMs: integer('ARMATURE_GRANT_SWEEP_MS', 'interval of the job that begins and ends grants, milliseconds', {
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
