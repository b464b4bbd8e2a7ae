import { everyUser, parsePolicy, policyOf, type Rule } from '@armature/runtime/authz';
import type { Operation } from './operations.ts';

/** What a principal may do with an operation: on everything, with its own things only, together with a user only, or nothing. */
export type Access = 'any' | 'own' | 'on-behalf' | 'deny';

/** A row of the policy, as it is written, and where. */
export interface Row {
  text: string;
  line: number;
}

/** An access and the rows that together made it: the rule first, then the grants that lead to it. */
export interface Finding {
  access: Access;
  because: readonly Row[];
}

/**
 * What each principal may do by a policy. A call has two principals, the workload and the owner of the token, and
 * policy must allow both. So `find` returns the most that a principal may do: the other principal can limit it further.
 */
export interface EffectiveAccess {
  /** Every principal that the policy names: roles of people, other roles, then workloads, clients and users. */
  readonly principals: readonly string[];
  readonly rows: ReadonlyMap<string, Row>;
  /** Whether this is a user or a role of users, who all have role:customer besides. */
  isPerson(principal: string): boolean;
  /** The principal itself and every role that it has. */
  rolesOf(principal: string, person?: boolean): ReadonlySet<string>;
  find(principal: string, operation: Operation, person?: boolean): Finding;
}

const nothing: Finding = { access: 'deny', because: [] };
const width: Readonly<Record<Access, number>> = { any: 0, own: 1, 'on-behalf': 2, deny: 3 };
const kinds = ['role', 'service', 'workload', 'client', 'user'];
const kindOf = (principal: string) => principal.slice(0, principal.indexOf(':'));
const isWorkload = (principal: string) => /^(service|workload):/.test(principal);

/** Reads a policy. Throws PolicyError where services would refuse it. */
export function effectiveAccessOf(text: string, name: string): EffectiveAccess {
  policyOf(text, name);
  const { rules, grants, denied } = parsePolicy(text, name);
  const granted = Map.groupBy(grants, ({ member }) => member);
  const ruled = Map.groupBy(rules, ({ permission }) => permission);
  const rows = rowsOf(text);
  const rowOf = (words: readonly string[]) => rows.get(words.join(', '))!;

  /** Breadth first, so that each role is reached by the fewest grants. */
  const paths = remembered((principal: string, person: boolean) => {
    const found = new Map<string, readonly Row[]>([[principal, []]]);
    if (person && !found.has(everyUser)) found.set(everyUser, []);
    for (const [member, path] of found) {
      for (const { role } of granted.get(member) ?? []) {
        if (!found.has(role)) found.set(role, [...path, rowOf(['g', member, role])]);
      }
    }
    return found;
  });
  const holders = (kind: (member: string) => boolean) =>
    new Set([...granted.keys()].filter(kind).flatMap((member) => [...paths(member, false).keys()]));
  const byUsers = holders((member) => member.startsWith('user:')).add(everyUser);
  const byPrograms = holders((member) => isWorkload(member) || member.startsWith('client:'));
  const onBehalf = new Set(rules.filter(({ scope }) => scope === 'on-behalf').map(({ subject }) => subject));

  const isPerson = (principal: string): boolean => {
    const kind = kindOf(principal);
    if (kind !== 'role') return kind === 'user';
    if (byUsers.has(principal)) return true;
    // No principal has it yet: what it grants tells whom it is for.
    return !byPrograms.has(principal) && ![...paths(principal, false).keys()].some((role) => onBehalf.has(role));
  };
  const find = (principal: string, operation: Operation, person = isPerson(principal)): Finding => {
    if (denied.has(principal)) return { access: 'deny', because: [rowOf(['d', principal])] };
    const reached = paths(principal, person);
    let best = nothing;
    for (const rule of ruled.get(operation.permission) ?? []) {
      const path = reached.get(rule.subject);
      if (!path) continue;
      const access = accessBy(rule, operation, person || principal.startsWith('client:'));
      const because = [rowOf(['p', rule.subject, rule.permission, rule.scope]), ...path];
      const closer = access === best.access && because.length < best.because.length;
      if (width[access] < width[best.access] || closer) best = { access, because };
    }
    return best.access === 'deny' ? nothing : best;
  };
  const named = [
    everyUser,
    ...rules.map(({ subject }) => subject),
    ...grants.flatMap(({ member, role }) => [role, member]),
    ...denied,
  ];
  const place = (principal: string) => kinds.indexOf(kindOf(principal)) + (isPerson(principal) ? 0 : 0.5);
  const inOrder = (a: string, b: string) => place(a) - place(b);
  return {
    principals: [...new Set(named)].sort(inOrder),
    rows,
    isPerson,
    rolesOf: (principal, person = isPerson(principal)) => new Set(paths(principal, person).keys()),
    find,
  };
}

/** What a rule gives for an operation. Only a workload publishes, and never on behalf of a user. */
function accessBy({ scope }: Rule, { kind, owner }: Operation, bearsToken: boolean): Access {
  if (kind === 'event') return scope === 'any' && !bearsToken ? 'any' : 'deny';
  return scope === 'own' && owner === '' ? 'deny' : scope;
}

/** The rows by their words, in the spelling that reports use. */
function rowsOf(text: string): Map<string, Row> {
  const written = text.split('\n').flatMap((line, index): [string, Row][] => {
    const words = line.split(',').map((word) => word.trim());
    if (!/^[pgd]$/.test(words[0]!)) return [];
    const spelled = words.join(', ');
    return [[spelled, { text: spelled, line: index + 1 }]];
  });
  return new Map(written);
}

function remembered<T>(work: (principal: string, person: boolean) => T): (principal: string, person: boolean) => T {
  const known = new Map<string, T>();
  return (principal, person) => {
    const key = `${principal} ${person}`;
    const before = known.get(key);
    if (before !== undefined) return before;
    const made = work(principal, person);
    known.set(key, made);
    return made;
  };
}
