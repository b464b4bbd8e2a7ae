import { type Decision, everyUser, type Grant, type PolicyRows, type Rule } from '@armature/runtime/authz';

export interface Question {
  /** "workload:developer"; empty: none. */
  workload: string;
  /** "user:ada" or "client:reports"; empty: the workload calls without a user's token. */
  subject: string;
  permission: string;
  /** The scope of the token, as in its claim; empty or left out: all. */
  scope?: string;
}

export interface Explanation {
  /** One sentence each, in the order in which they were decided. */
  reasons: string[];
  /** The grants that led from a principal to a rule that mattered. */
  grants: Pick<Grant, 'member' | 'role'>[];
}

type Rows = Pick<PolicyRows, 'rules' | 'grants' | 'denied'>;
type Link = Pick<Grant, 'member' | 'role'>;

/** A rule that a principal has, and the chain of grants that gives it. */
interface Found {
  rule: Rule;
  chain: Link[];
}

const width = { any: 0, own: 1, 'on-behalf': 2 } as const;
const namedMax = 5;

/** Explains a decision of the policy in sentences. `rows` are those of the policy's text. */
export function explain(rows: Rows, question: Question, decision: Decision): Explanation {
  const { workload, subject, permission } = question;
  if (!rows.rules.some((rule) => rule.permission === permission)) {
    return { reasons: [`No caller may ${permission}: no rule gives this permission.`], grants: [] };
  }
  const ofWorkload = widest(rows, workload, permission);
  const reasons = [aboutWorkload(rows, question, ofWorkload)];
  const grants = [...(ofWorkload?.chain ?? [])];
  if (subject && carries(ofWorkload)) {
    const ofSubject = widest(rows, subject, permission);
    reasons.push(...aboutSubject(rows, question, ofSubject));
    grants.push(...(ofSubject?.chain ?? []));
  }
  if (!decision.allowed && decision.lacks === 'scope') {
    const named = question.scope?.trim() || 'nothing';
    reasons.push(`The token does not: its scope names ${named}, which does not include ${permission}.`);
  }
  reasons.push(outcome(question, decision));
  const isEveryUsers = ({ member, role }: Link) => member === subject && role === everyUser && !isGranted(rows, member);
  return { reasons, grants: grants.filter((link) => !isEveryUsers(link)) };
}

const isGranted = ({ grants }: Rows, member: string): boolean =>
  grants.some((grant) => grant.member === member && grant.role === everyUser);

const carries = (found: Found | null): boolean => found?.rule.scope === 'any' || found?.rule.scope === 'on-behalf';

function aboutWorkload(rows: Rows, { workload, subject, permission }: Question, found: Found | null): string {
  if (!workload) return 'The call names no workload, and without one nothing is allowed.';
  if (!found) return `${workload} may not ${permission}: ${missing(rows, workload, permission)}`;
  const how = because(workload, found);
  if (found.rule.scope === 'any') return `${workload} may ${permission} by itself: ${how}`;
  if (subject) return `${workload} may carry ${permission} for those who call through it: ${how}`;
  return `${workload} may ${permission} only together with the token of a user who may, and there is none: ${how}`;
}

function aboutSubject(rows: Rows, { subject, permission }: Question, found: Found | null): string[] {
  if (rows.denied.has(subject)) {
    return [`${subject} is denied everything, whatever it was granted: its account was deactivated or erased.`];
  }
  if (!found) return [`${subject} may not ${permission}: ${missing(rows, subject, permission)}`];
  const how = because(subject, found);
  if (found.rule.scope === 'own') return [`${subject} may ${permission} for its own things only: ${how}`];
  return [`${subject} may ${permission}: ${how}`];
}

/** The sentence that states the decision. */
function outcome({ workload, subject, permission }: Question, decision: Decision): string {
  const who = subject ? `${subject} through ${workload || 'no workload'}` : workload || 'The call';
  if (!decision.allowed) return `So ${who} is not allowed ${permission}.`;
  return decision.scope === 'own'
    ? `So ${who} is allowed ${permission}, on what belongs to ${subject}.`
    : `So ${who} is allowed ${permission}.`;
}

function because(principal: string, { rule, chain }: Found): string {
  const gives = `${rule.subject} has the rule ${rule.permission} with scope ${rule.scope}`;
  if (chain.length === 0) return `${gives}.`;
  const links = chain.map(({ member, role }) =>
    member === principal && role === everyUser && principal.startsWith('user:')
      ? `every user has ${role}`
      : `${member} has ${role}`,
  );
  return `${links.join(', ')}, and ${gives}.`;
}

function missing(rows: Rows, principal: string, permission: string): string {
  const roles = [...reach(rows, principal).keys()].filter((name) => name !== principal);
  const has = roles.length > 0 ? `it has ${list(roles)}, and none of them gives it` : 'it has no role';
  const givers = rows.rules.filter((rule) => rule.permission === permission).map((rule) => rule.subject);
  return `${has}. What gives it: ${list(givers)}.`;
}

function list(names: readonly string[]): string {
  const sorted = [...new Set(names)].sort();
  const more = sorted.length - namedMax;
  return `${sorted.slice(0, namedMax).join(', ')}${more > 0 ? ` and ${more} more` : ''}`;
}

/** The widest rule that the principal has for a permission, by the shortest chain. */
function widest(rows: Rows, principal: string, permission: string): Found | null {
  if (!principal) return null;
  const reached = reach(rows, principal);
  const rule = rows.rules
    .filter((one) => one.permission === permission && reached.has(one.subject))
    .sort((a, b) => width[a.scope] - width[b.scope])[0];
  return rule ? { rule, chain: reached.get(rule.subject) ?? [] } : null;
}

/** The principal and all its roles, each with the shortest chain of grants that leads to it. */
function reach({ grants }: Rows, principal: string): Map<string, Link[]> {
  const byMember = Map.groupBy(grants, (grant) => grant.member);
  const reached = new Map<string, Link[]>([[principal, []]]);
  const step = (link: Link, chain: readonly Link[]) => {
    if (!reached.has(link.role)) reached.set(link.role, [...chain, link]);
  };
  // Breadth-first search: a Map iterates over entries that are added during the iteration, and holds each role once.
  for (const [member, chain] of reached) {
    if (member === principal && member.startsWith('user:')) step({ member, role: everyUser }, chain);
    for (const { role } of byMember.get(member) ?? []) step({ member, role }, chain);
  }
  return reached;
}
