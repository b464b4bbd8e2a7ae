import { hash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { type Caller, type Subject, subjectOf } from '../context/call-context.ts';
import { isInScope } from '../context/token-scope.ts';
import { lruMap } from '../credentials/lru.ts';
import { administration, reservedPermissions } from './administration.ts';
import { askCasbin } from './enforcer.ts';
import {
  clientPattern,
  PolicyError,
  parseDenials,
  parsePolicy,
  type Rule,
  type RuleScope,
  refuse,
  type Scope,
  splitDenials,
  userPattern,
  workloadPattern,
} from './policy-text.ts';
import { type RoleGraph, roleGraph, roleManager } from './roles.ts';

export interface Allowed {
  readonly allowed: true;
  readonly scope: Scope;
  readonly policyVersion: string;
}

export interface Denied {
  readonly allowed: false;
  /** For logs; never sent to the caller. */
  readonly reason: string;
  /**
   * What the caller lacks. A token: the workload may make this call on behalf of users only, and there is none. A scope:
   * workload and user may, but the token was not issued for this. The target: the call changes an account whose rights
   * the caller does not administer.
   */
  readonly lacks: 'permission' | 'token' | 'scope' | 'target';
  readonly policyVersion: string;
}

export type Decision = Allowed | Denied;

/** One version of the policy. It never changes; a new version is a new object. */
export interface Policy {
  /** A hash of the policy's text. */
  readonly version: string;
  /**
   * Decides whether a caller has a permission, and for which resources:
   *
   *     caller                       workload's scope   user's scope   resulting scope
   *     workload alone               any                -              any
   *     workload with a user         any or on-behalf   any or own     the user's
   *     workload with a client       any or on-behalf   any            any
   *
   * Every user has role:customer; a client that signed in by itself has only its grants. Everything else is denied,
   * and so is every permission of a denied subject.
   *
   * The scope of the token must name the permission as well, except where a service has the permission by itself: such a
   * call is part of another one, and the scope was checked where that came in (ADR 0052).
   *
   * With a target, such as "user:ada", the call changes that account. Where the resulting scope is any, the caller must
   * administer the rights of the target: have each permission that the target has for everything, or both permissions
   * of `administration` and the permission is not reserved. Otherwise who may change accounts could take over one that
   * may more.
   */
  decide(caller: Caller, permission: string, target?: string): Decision;
  /** Decides whether a service may publish events of this permission, by the workload alone. */
  mayPublish(publisher: string, permission: string): Decision;
}

/** Contains the policy in use; the watcher replaces it here. */
export interface PolicyHolder {
  current(): Policy | null;
  /** Replaces the whole policy between two decisions. With null there is no policy, and everything is denied. */
  swap(policy: Policy | null): void;
  decide(caller: Caller, permission: string, target?: string): Decision;
}

const rememberedScopes = 65_536;
// Represents every user that no row names; no real subject begins with a dash.
const unnamedUser = 'user:-';
const subjectPatterns: Readonly<Record<Subject['kind'], RegExp>> = { user: userPattern, client: clientPattern };
const width: Readonly<Record<RuleScope, number>> = { any: 0, own: 1, 'on-behalf': 2 };

/** Reads a policy file. Throws when it is missing, empty or wrong in any row; see policy-text.ts. */
export async function loadPolicy(file: string): Promise<Policy> {
  const bytes = await readFile(file);
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new PolicyError(`${file} is not UTF-8 text`, { cause });
  }
  return policyOf(text, basename(file));
}

/** The version of a policy: a hash of its text. */
export const versionOf = (text: string): string => hash('sha256', text, 'hex').slice(0, 16);

/** The compiled rules and grants of a policy, without its denials. */
interface Compiled {
  /** Digest of the rows before the denials; empty when other rows follow the first denial. */
  readonly digest: string;
  readonly scopeOf: ReturnType<typeof scopes>;
  /** Every permission that a rule names. */
  readonly permissions: ReadonlySet<string>;
  readonly roles: RoleGraph;
  readonly named: ReadonlySet<string>;
}

const compiledOf = new WeakMap<Policy, Compiled>();

/**
 * Compiles a policy from its text. Throws PolicyError; `name` precedes line numbers. When only the denials at the end
 * differ from those of `before`, its compiled rules are reused: to deactivate an account must not make every service
 * compile every rule.
 */
export function policyOf(text: string, name = 'policy', before: Policy | null = null): Policy {
  const { rules, denials, line } = splitDenials(text);
  const digest = denials === null ? '' : hash('sha256', rules, 'hex');
  const known = before ? compiledOf.get(before) : undefined;
  if (denials !== null && known && known.digest === digest) {
    return policyFrom(text, known, parseDenials(denials, name, line));
  }
  const rows = parsePolicy(text, name);
  const roles = roleGraph(rows);
  refuse(name, roles.problems);
  const named = new Set(rows.rules.map((rule) => rule.subject));
  const permissions = new Set(rows.rules.map((rule) => rule.permission));
  return policyFrom(text, { digest, scopeOf: scopes(rows.rules, roles), permissions, roles, named }, rows.denied);
}

function policyFrom(text: string, compiled: Compiled, denied: ReadonlySet<string>): Policy {
  const policyVersion = versionOf(text);
  const { scopeOf, permissions, roles, named } = compiled;
  const everything: Decision = Object.freeze({ allowed: true, scope: 'any', policyVersion });
  const ownThings: Decision = Object.freeze({ allowed: true, scope: 'own', policyVersion });
  const deny = (reason: string, lacks: Denied['lacks'] = 'permission'): Denied => ({
    allowed: false,
    reason,
    lacks,
    policyVersion,
  });

  /** Users that no row names have the same rights, which are cached once. */
  const rightOf = (subject: string, permission: string) =>
    scopeOf(
      subject.startsWith('user:') && !named.has(subject) && !roles.hasGrants(subject) ? unnamedUser : subject,
      permission,
    );
  const hasAll = (subject: string, permission: string) => rightOf(subject, permission) === 'any';

  function administers(holder: string, target: string): boolean {
    const decidesAboutRoles = administration.every((permission) => hasAll(holder, permission));
    for (const permission of permissions) {
      if (!hasAll(target, permission) || hasAll(unnamedUser, permission) || hasAll(holder, permission)) continue;
      if (!decidesAboutRoles || reservedPermissions.has(permission)) return false;
    }
    return true;
  }
  const onTarget = (holder: string, target: string | undefined): Decision =>
    target === undefined || administers(holder, target)
      ? everything
      : deny(`${holder} does not administer the rights of ${target}`, 'target');

  function decide({ workload, user }: Caller, permission: string, target?: string): Decision {
    if (!workload) return deny('no workload');
    if (!workloadPattern.test(workload)) return deny('the workload is not of the form service:name or workload:name');
    const workloadScope = scopeOf(workload, permission);
    if (workloadScope !== 'any' && workloadScope !== 'on-behalf') return deny(`${workload} may not ${permission}`);
    if (!user) {
      if (workloadScope === 'any') return onTarget(workload, target);
      return deny(`${workload} may ${permission} only on behalf of a user`, 'token');
    }
    const subject = subjectOf(user);
    if (!subjectPatterns[user.kind]?.test(subject)) return deny('the user has no well-formed subject');
    if (denied.has(subject)) return deny(`${subject} is denied everything`);
    const userScope = rightOf(subject, permission);
    if (userScope !== 'any' && (userScope !== 'own' || user.kind !== 'user')) {
      return deny(`${subject} may not ${permission}`);
    }
    const isOfService = workloadScope === 'any' && workload.startsWith('service:');
    if (!isOfService && !isInScope(user.scope, permission)) {
      return deny(`the token of ${subject} does not have ${permission} in its scope`, 'scope');
    }
    return userScope === 'any' ? onTarget(subject, target) : ownThings;
  }
  const policy: Policy = Object.freeze({
    version: policyVersion,
    decide,
    mayPublish: (publisher: string, permission: string) => decide({ workload: publisher, user: null }, permission),
  });
  compiledOf.set(policy, compiled);
  return policy;
}

/** Returns the widest scope in which a subject has a permission; null when it has none. Results are cached. */
function scopes(rules: readonly Rule[], roles: RoleGraph): (subject: string, permission: string) => RuleScope | null {
  const ask = askCasbin(roleManager(roles));
  const index = new Map<string, Map<string, Rule>>();
  for (const rule of rules) {
    const holders = index.get(rule.permission);
    if (holders) holders.set(rule.subject, rule);
    else index.set(rule.permission, new Map([[rule.subject, rule]]));
  }
  const remembered = lruMap<string, RuleScope | 'none'>(rememberedScopes);
  return (subject, permission) => {
    const holders = index.get(permission);
    if (!holders) return null;
    // Neither a permission that a rule names nor a subject that passed its pattern contains a space.
    const key = `${permission} ${subject}`;
    let scope = remembered.get(key);
    if (scope === undefined) {
      const candidates = rulesFor(roles.principalsOf(subject), holders);
      scope = (candidates.length > 0 && ask(subject, permission, candidates)) || 'none';
      remembered.set(key, scope);
    }
    return scope === 'none' ? null : scope;
  };
}

/** Returns the rules that name one of these principals, widest scope first, so that the first match decides. */
function rulesFor(principals: ReadonlySet<string>, holders: ReadonlyMap<string, Rule>): Rule[] {
  const found: Rule[] = [];
  if (principals.size <= holders.size) {
    for (const principal of principals) {
      const rule = holders.get(principal);
      if (rule) found.push(rule);
    }
  } else {
    for (const [holder, rule] of holders) if (principals.has(holder)) found.push(rule);
  }
  return found.sort((a, b) => width[a.scope] - width[b.scope]);
}

const noPolicy: Denied = Object.freeze({ allowed: false, reason: 'no policy', lacks: 'permission', policyVersion: '' });

/** Makes a holder for the policy in use. Without a policy every decision is a denial. */
export function policyHolder(initial: Policy | null = null): PolicyHolder {
  let current = initial;
  return {
    current: () => current,
    swap(policy) {
      current = policy;
    },
    decide(caller, permission, target) {
      return current?.decide(caller, permission, target) ?? noPolicy;
    },
  };
}
