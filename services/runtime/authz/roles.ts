import type { RoleManager } from 'casbin';
import {
  clientPattern,
  type Grant,
  type PolicyRows,
  type Problem,
  type RuleScope,
  userPattern,
  workloadPattern,
} from './policy-text.ts';

/** The role of every token of a user; a client has only its grants. */
export const everyUser = 'role:customer';

// Casbin's own role manager silently stops after ten steps. Longer chains are refused here.
const maxChain = 10;

/** The roles of each subject. It is immutable. */
export interface RoleGraph {
  /** The subject itself and every role it has, directly or through another role. */
  principalsOf(subject: string): ReadonlySet<string>;
  /** Whether a grant names this member. */
  hasGrants(member: string): boolean;
  readonly problems: readonly Problem[];
}

/** Resolves grants, and reports cyclic chains and rules that their holders cannot use. */
export function roleGraph({ rules, grants }: Pick<PolicyRows, 'rules' | 'grants'>): RoleGraph {
  const problems: Problem[] = [];
  const direct = new Map<string, Grant[]>();
  for (const grant of grants) {
    const known = direct.get(grant.member);
    if (known) known.push(grant);
    else direct.set(grant.member, [grant]);
  }
  problems.push(...chainProblems(direct));
  const resolved = new Map<string, ReadonlySet<string>>();
  const resolve = (role: string): ReadonlySet<string> => {
    let principals = resolved.get(role);
    if (!principals) {
      principals = closure(role, direct);
      resolved.set(role, principals);
    }
    return principals;
  };
  if (problems.length === 0) {
    const byUser = reachedBy(userPattern, direct, resolve);
    for (const role of resolve(everyUser)) byUser.set(role, byUser.get(role) ?? 'every user');
    const byClient = reachedBy(clientPattern, direct, resolve);
    const byWorkload = reachedBy(workloadPattern, direct, resolve);
    const useless: Record<RuleScope, readonly ReadonlyMap<string, string>[]> = {
      any: [],
      own: [byWorkload, byClient],
      'on-behalf': [byUser, byClient],
    };
    for (const { subject, scope, line } of rules) {
      const holder = useless[scope].find((holders) => holders.has(subject))?.get(subject);
      if (holder) problems.push({ line, text: `scope ${scope} is not for ${holder}, which has ${subject}` });
    }
  }
  return {
    problems,
    hasGrants: (member) => direct.has(member),
    principalsOf(subject) {
      if (!subject.startsWith('user:')) return direct.has(subject) ? resolve(subject) : new Set([subject]);
      const principals = new Set([subject]);
      for (const role of resolve(everyUser)) principals.add(role);
      if (direct.has(subject)) for (const role of resolve(subject)) principals.add(role);
      return principals;
    },
  };
}

function closure(from: string, direct: ReadonlyMap<string, Grant[]>): Set<string> {
  // A Set that grows while it is walked is a breadth-first search that visits each role once.
  const found = new Set([from]);
  for (const member of found) {
    for (const { role } of direct.get(member) ?? []) found.add(role);
  }
  return found;
}

/** Maps every role that such members have to one of these members. */
function reachedBy(
  pattern: RegExp,
  direct: ReadonlyMap<string, Grant[]>,
  resolve: (role: string) => ReadonlySet<string>,
): Map<string, string> {
  const reached = new Map<string, string>();
  for (const [member, grants] of direct) {
    if (!pattern.test(member)) continue;
    for (const grant of grants) {
      // The grants of a role that was reached before were followed already.
      if (reached.has(grant.role)) continue;
      for (const role of resolve(grant.role)) if (!reached.has(role)) reached.set(role, member);
    }
  }
  return reached;
}

/** Reports roles that contain themselves, and chains longer than Casbin follows. */
function chainProblems(direct: ReadonlyMap<string, Grant[]>): Problem[] {
  const problems: Problem[] = [];
  const height = new Map<string, number>();
  const open = new Set<string>();
  const heightOf = (member: string): number => {
    const known = height.get(member);
    if (known !== undefined) return known;
    open.add(member);
    let highest = 1;
    for (const { role, line } of direct.get(member) ?? []) {
      if (open.has(role)) problems.push({ line, text: `${role} would have itself through ${member}` });
      else if (open.size > maxChain)
        problems.push({ line, text: `${role} ends a chain of more than ${maxChain} grants` });
      else highest = Math.max(highest, 1 + heightOf(role));
    }
    open.delete(member);
    if (highest === maxChain + 2) {
      const line = direct.get(member)?.[0]?.line ?? 0;
      problems.push({ line, text: `${member} begins a chain of more than ${maxChain} grants` });
    }
    height.set(member, highest);
    return highest;
  };
  for (const member of direct.keys()) heightOf(member);
  return problems;
}

/** The role graph in the form that Casbin uses. It is read-only: a policy in use never changes. */
export function roleManager(graph: RoleGraph): RoleManager {
  const refuseChange = (): Promise<never> => Promise.reject(new Error('a policy never changes; load a new one'));
  const holds = (member: string, role: string): boolean => graph.principalsOf(member).has(role);
  return {
    syncedHasLink: holds,
    hasLink: async (member, role) => holds(member, role),
    getRoles: async (member) => [...graph.principalsOf(member)].filter((role) => role !== member),
    clear: refuseChange,
    addLink: refuseChange,
    deleteLink: refuseChange,
    getUsers: refuseChange,
    printRoles: async () => undefined,
    getDomains: async () => [],
    getAllDomains: async () => [],
  };
}
