import type { RuleScope } from '@armature/runtime/authz';

/** What a role or a workload may do, as rows of a policy say it. */
export interface PolicyRule {
  permission: string;
  scope: RuleScope;
}

/** The policy that access enforces: the rules of each role and workload, and the live grants. */
export interface PolicyInForce {
  rules: ReadonlyMap<string, readonly PolicyRule[]>;
  grants: readonly { grantId: string; member: string; role: string }[];
}

/** The rows of a policy file. */
export interface WantedPolicy {
  rules: readonly (PolicyRule & { subject: string })[];
  grants: readonly { member: string; role: string }[];
  denied: ReadonlySet<string>;
}

/** One call that brings the policy in force nearer to the file. */
export type PolicyChange =
  | { kind: 'put-role'; name: string; rules: readonly PolicyRule[]; added: string[]; removed: string[] }
  | { kind: 'grant'; member: string; role: string }
  | { kind: 'revoke'; member: string; role: string; grantId: string }
  | { kind: 'delete-role'; name: string };

export interface PolicyPlan {
  /** In the order in which they can be made: rules before the grants that need them, and the opposite for removals. */
  changes: PolicyChange[];
  /** What is in force and not in the file, and stays because nothing was to be removed. */
  kept: string[];
  /** Rows of the file for which there is no call, each with the reason. */
  impossible: string[];
}

const ruleText = ({ permission, scope }: PolicyRule) => `${permission} ${scope}`;
const grantText = ({ member, role }: { member: string; role: string }) => `g, ${member}, ${role}`;
/** What PutRole takes. */
const hasRules = /^(role|service|workload):/;

/**
 * Compares a policy file with the policy in force. The file decides about every role and workload that it names; what
 * only the policy in force has is removed where `prune` is set, and kept otherwise.
 */
export function planPolicy(wanted: WantedPolicy, inForce: PolicyInForce, { prune = false } = {}): PolicyPlan {
  const bySubject = Map.groupBy(wanted.rules, ({ subject }) => subject);
  const puts = [...bySubject].flatMap(([name, rules]) => putOf(name, rules, inForce.rules.get(name) ?? []));
  const wantedGrants = new Set(wanted.grants.map(grantText));
  const liveGrants = new Set(inForce.grants.map(grantText));
  const grants = wanted.grants
    .filter((grant) => !liveGrants.has(grantText(grant)))
    .map(({ member, role }): PolicyChange => ({ kind: 'grant', member, role }));
  const surplusGrants = inForce.grants.filter((grant) => !wantedGrants.has(grantText(grant)));
  const surplusRoles = [...inForce.rules.keys()].filter((name) => !bySubject.has(name));
  const removals: PolicyChange[] = [
    ...surplusGrants.map(({ member, role, grantId }) => ({ kind: 'revoke' as const, member, role, grantId })),
    ...surplusRoles.map((name) => ({ kind: 'delete-role' as const, name })),
  ];
  const kept = [...surplusGrants.map(grantText), ...surplusRoles.map((name) => `the rules of ${name}`)];
  return {
    changes: [...puts, ...grants, ...(prune ? removals : [])],
    kept: prune ? [] : kept,
    impossible: impossibleRows(bySubject.keys(), wanted.denied),
  };
}

function putOf(name: string, rules: readonly PolicyRule[], before: readonly PolicyRule[]): PolicyChange[] {
  if (!hasRules.test(name)) return [];
  const [now, then] = [rules, before].map((list) => new Set(list.map(ruleText)));
  const added = [...now!].filter((rule) => !then!.has(rule));
  const removed = [...then!].filter((rule) => !now!.has(rule));
  if (added.length + removed.length === 0) return [];
  return [
    { kind: 'put-role', name, rules: rules.map(({ permission, scope }) => ({ permission, scope })), added, removed },
  ];
}

function impossibleRows(subjects: Iterable<string>, denied: ReadonlySet<string>): string[] {
  const personal = [...subjects].filter((subject) => !hasRules.test(subject));
  return [
    ...personal.map(
      (subject) => `p, ${subject}: rules are given to roles and workloads; grant ${subject} a role instead`,
    ),
    ...[...denied].map((subject) => `d, ${subject}: a subject is denied when its account is deactivated`),
  ];
}

/** A change as a row: what is done, to what, and the details. */
export function changeRow(change: PolicyChange): [string, string, string] {
  switch (change.kind) {
    case 'put-role':
      return [
        'put role',
        change.name,
        [...change.added.map((rule) => `+ ${rule}`), ...change.removed.map((rule) => `- ${rule}`)].join(', '),
      ];
    case 'grant':
      return ['grant', change.member, `+ ${change.role}`];
    case 'revoke':
      return ['revoke', change.member, `- ${change.role}`];
    case 'delete-role':
      return ['delete role', change.name, ''];
  }
}
