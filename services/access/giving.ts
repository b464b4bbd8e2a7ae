import { administration, reservedPermissions, roleGraph } from '@armature/runtime/authz';
import { permissionReserved, roleNotAdministered } from './errors.ts';
import type { Contents, GrantRow, Rule } from './policy.ts';

type Link = Pick<GrantRow, 'member' | 'role'>;

/** What a change gives and takes: rules of a role or workload, and grants. */
export interface ChangedRows {
  given: { rules: readonly Rule[]; grants: readonly Link[] };
  taken: { rules: readonly Rule[]; grants: readonly Link[] };
}

export const noRows = { rules: [], grants: [] } as const;

/** Whether calls may give reserved permissions: a switch of the deployment. */
export interface GivingOptions {
  reservedGrantable: boolean;
}

/**
 * Refuses a change that gives a reserved permission, or a role that has one, to whomever: PERMISSION_RESERVED. Refuses a
 * change of roles that the caller does not administer: ROLE_NOT_ADMINISTERED. A caller administers every role when it
 * has both permissions of administration, else those that have no permission beyond its own. `after` is the policy with
 * the change.
 */
export function assertMayGive(
  principal: string,
  after: Contents,
  { given, taken }: ChangedRows,
  { reservedGrantable }: GivingOptions,
): void {
  const all = rightsBy(after.rules, after.grants);
  const gives = [...given.rules, ...given.grants.flatMap(({ role }) => all(role))];
  const reserved = gives
    .map(({ permission }) => permission)
    .filter((permission) => reservedPermissions.has(permission));
  if (reserved.length > 0 && !reservedGrantable) throw permissionReserved([...new Set(reserved)].sort());
  const own = rightsBefore(after, { given, taken })(principal);
  const has = ({ permission, scope }: Pick<Rule, 'permission' | 'scope'>) =>
    own.some((rule) => rule.permission === permission && (rule.scope === 'any' || rule.scope === scope));
  if (administration.every((permission) => has({ permission, scope: 'any' }))) return;
  const changed: [role: string, rules: readonly Rule[]][] = [
    ...[...given.grants, ...taken.grants].map(({ role }): [string, Rule[]] => [role, all(role)]),
    ...[...given.rules, ...taken.rules].map((rule): [string, Rule[]] => [rule.subject, [rule]]),
  ];
  for (const [role, rules] of changed) {
    const lacking = rules.filter((rule) => !has(rule)).map(({ permission }) => permission);
    if (lacking.length > 0) throw roleNotAdministered(role, [...new Set(lacking)].sort());
  }
}

/** The rights in force before the change: a change gives its caller no right to make it. */
function rightsBefore({ rules, grants }: Contents, { given, taken }: ChangedRows): (subject: string) => Rule[] {
  const isSame = (a: Rule, b: Rule) => a.subject === b.subject && a.permission === b.permission && a.scope === b.scope;
  const isGiven = (link: Link) => given.grants.some(({ member, role }) => member === link.member && role === link.role);
  return rightsBy(
    [...rules.filter((rule) => !given.rules.some((one) => isSame(one, rule))), ...taken.rules],
    [...grants.filter((grant) => grant.state === 'LIVE' && !isGiven(grant)), ...taken.grants],
  );
}

/** Returns the rules that a subject has by itself and by its roles. */
function rightsBy(rules: readonly Rule[], grants: readonly Link[]): (subject: string) => Rule[] {
  const graph = roleGraph({ rules: [], grants: grants.map(({ member, role }) => ({ member, role, line: 0 })) });
  return (subject) => {
    const principals = graph.principalsOf(subject);
    return rules.filter((rule) => principals.has(rule.subject));
  };
}
