import type { RuleScope } from '@armature/runtime/authz';
import { defineEntity, type InferEntity, p } from '@mikro-orm/mysql';
import type { GrantState } from './policy.ts';

export const PolicyRole = defineEntity({
  name: 'PolicyRole',
  properties: {
    name: p.string().primary(),
    updatedAt: p.datetime(6),
  },
});

export const PolicyRule = defineEntity({
  name: 'PolicyRule',
  properties: {
    subject: p.string().primary(),
    permission: p.string().primary(),
    scope: p.string().$type<RuleScope>(),
  },
});

export const RoleGrant = defineEntity({
  name: 'RoleGrant',
  properties: {
    grantId: p.string().primary(),
    member: p.string(),
    role: p.string(),
    state: p.string().$type<GrantState>(),
    startAt: p.datetime(6).nullable(),
    endAt: p.datetime(6).nullable(),
    grantedBy: p.string(),
    createdAt: p.datetime(6),
    revokedAt: p.datetime(6).nullable(),
    revokedBy: p.string(),
    /** The version of the policy that its last change made. */
    version: p.bigint(),
  },
});

export type PolicyRoleRow = InferEntity<typeof PolicyRole>;
export type PolicyRuleRow = InferEntity<typeof PolicyRule>;
export type RoleGrantRow = InferEntity<typeof RoleGrant>;

export const entities = [PolicyRole, PolicyRule, RoleGrant];
