export { administration, reservedPermissions } from './administration.ts';
export { decisionCounter } from './authorize.ts';
export { denials } from './denials.ts';
export { modelText } from './enforcer.ts';
export { type Decision, type Policy, policyOf, versionOf } from './policy.ts';
export type { PolicySource } from './policy-source.ts';
export {
  type Grant,
  PolicyError,
  type PolicyRows,
  parsePolicy,
  type Rule,
  type RuleScope,
  userPattern,
} from './policy-text.ts';
export { everyUser, roleGraph } from './roles.ts';
