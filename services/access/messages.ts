import {
  type Grant as GrantMessage,
  type PolicyVersion as PolicyVersionMessage,
  type Role as RoleMessage,
  type Rule as RuleMessage,
  Scope,
} from '@armature/proto/access/v1/access.ts';
import type { Decision, RuleScope } from '@armature/runtime/authz';
import { type Caller, tokenScopeOf } from '@armature/runtime/context';
import { fieldsInvalid } from '@armature/runtime/errors';
import type { RoleGrantRow } from './entities.ts';
import type { VersionRow } from './history-store.ts';
import type { Rule } from './policy.ts';
import type { Role } from './role-store.ts';

const scopes: Record<RuleScope, Scope> = {
  any: Scope.SCOPE_ANY,
  own: Scope.SCOPE_OWN,
  'on-behalf': Scope.SCOPE_ON_BEHALF,
};

/** Converts rules that the contract's validator has accepted. */
export function fromRules(rules: readonly RuleMessage[]): Omit<Rule, 'subject'>[] {
  return rules.map(({ permission, scope }) => {
    const found = Object.entries(scopes).find(([, value]) => value === scope);
    if (!found) throw new Error(`scope ${scope} passed the contract's checks`);
    return { permission, scope: found[0] as RuleScope };
  });
}

export function toRole({ name, rules, updatedAt }: Role): RoleMessage {
  return {
    name,
    rules: rules.map(({ permission, scope }) => ({ permission, scope: scopes[scope] })),
    updateTime: updatedAt,
  };
}

export function toGrant(row: RoleGrantRow): GrantMessage {
  return {
    grantId: row.grantId,
    member: row.member,
    role: row.role,
    startTime: row.startAt ?? undefined,
    endTime: row.endAt ?? undefined,
    grantedBy: row.grantedBy,
    createTime: row.createdAt,
    revokeTime: row.revokedAt ?? undefined,
    revokedBy: row.revokedBy,
    policyVersion: row.version,
  };
}

export function toPolicyVersion({ version, digest, changedBy, change, changedAt }: VersionRow): PolicyVersionMessage {
  return { version, digest, changedBy, change, changeTime: changedAt };
}

export function toDecision(decision: Decision): { allowed: boolean; scope: Scope } {
  if (!decision.allowed) return { allowed: false, scope: Scope.SCOPE_UNSPECIFIED };
  return { allowed: true, scope: scopes[decision.scope] };
}

/** A caller as requests name it; empty: no user, or a token for everything. */
interface CallerInQuestion {
  workload: string;
  subject: string;
  scope: string;
}

/** The caller that a request asks about, as another service would see it. Throws FIELDS_INVALID. */
export function callerOf({ workload, subject, scope }: CallerInQuestion): Caller {
  if (!subject) return { workload: workload || null, user: null };
  const [kind, ...rest] = subject.split(':');
  if (kind !== 'user' && kind !== 'client') {
    throw fieldsInvalid([{ field: 'subject', description: 'must be user:id or client:id', reason: 'subject' }]);
  }
  return {
    workload: workload || null,
    user: { kind, subject: rest.join(':'), token: '', scope: tokenScopeOf(scope || 'all') },
  };
}
