import { PolicyError, parsePolicy, policyOf, type RuleScope, roleGraph, versionOf } from '@armature/runtime/authz';
import { limitReached, roleCycle, ruleConflict } from './errors.ts';

export interface Rule {
  /** A role, or a workload that has rules of its own. */
  subject: string;
  permission: string;
  scope: RuleScope;
}

/** Whether a grant counts in the policy in force. */
export type GrantState = 'WAITING' | 'LIVE' | 'ENDED';

/** The columns of a grant that the policy depends on. */
export interface GrantRow {
  member: string;
  role: string;
  state: Exclude<GrantState, 'ENDED'>;
  /** Whether it ends only by being revoked. */
  lasting: boolean;
}

/** The rows from which the policy is compiled. */
export interface Contents {
  rules: readonly Rule[];
  grants: readonly GrantRow[];
  denied: readonly string[];
}

/** A policy that may come into force. */
export interface Compiled {
  text: string;
  digest: string;
  /** Whether a user may change roles and grants by grants without an end. */
  administered: boolean;
}

/** Far below the limits of the runtime, so that every service accepts a policy that is accepted here. */
export const limits = { rules: 25_000, grants: 50_000, denied: 100_000, textLength: 8 * 1024 * 1024 } as const;

const administration = ['access.grant', 'access.write'] as const;

/** The policy's text, in the order of its rows: the same contents make the same text, and so the same digest. */
export function textOf({ rules, grants, denied }: Contents): string {
  const lines = [
    ...rows(rules.map(({ subject, permission, scope }) => `p, ${subject}, ${permission}, ${scope}`)),
    ...rows(grants.map(({ member, role }) => `g, ${member}, ${role}`)),
    ...rows(denied.map((subject) => `d, ${subject}`)),
  ];
  return `${lines.join('\n')}\n`;
}

/**
 * Changes the denials in a text that `textOf` made: these subjects are denied, or not denied any more. The result is
 * what `textOf` would make, without parsing the rules. Throws LIMIT_REACHED.
 */
export function withDenials(
  text: string,
  subjects: readonly string[],
  denied: boolean,
): { text: string; digest: string } {
  const at = text.search(/^d, /m);
  const [rules, denials] = at < 0 ? [text, ''] : [text.slice(0, at), text.slice(at)];
  const changed = new Set(denials.split('\n').filter((row) => row !== ''));
  for (const subject of subjects) {
    if (denied) changed.add(`d, ${subject}`);
    else changed.delete(`d, ${subject}`);
  }
  if (changed.size > limits.denied) throw limitReached('denied', limits.denied);
  const next =
    rules +
    rows([...changed])
      .map((row) => `${row}\n`)
      .join('');
  if (next.length > limits.textLength) throw limitReached('characters', limits.textLength);
  return { text: next, digest: versionOf(next) };
}

/** Sorted by code units, which no locale changes. Two grants of one role to one member make one row. */
const rows = (lines: string[]): string[] => [...new Set(lines)].sort();

/**
 * Compiles the policy. Grants that have not begun are checked too, so that the policy is still valid once they begin:
 * more grants can only add problems. Throws LIMIT_REACHED, RULE_CONFLICT and ROLE_CYCLE, which name the rows.
 */
export function compile(contents: Contents): Compiled {
  refuseOverLimits(contents);
  const live = contents.grants.filter(({ state }) => state === 'LIVE');
  const text = textOf({ ...contents, grants: live });
  if (text.length > limits.textLength) throw limitReached('characters', limits.textLength);
  const { version } = accepted(text);
  if (live.length < contents.grants.length) accepted(textOf(contents));
  return { text, digest: version, administered: isAdministered({ ...contents, grants: live }) };
}

function refuseOverLimits(contents: Contents): void {
  for (const what of ['rules', 'grants', 'denied'] as const) {
    if (contents[what].length > limits[what]) throw limitReached(what, limits[what]);
  }
}

/** Parses the text as services do. Throws the refusal when they would reject it. */
function accepted(text: string) {
  try {
    return policyOf(text);
  } catch (error) {
    if (!(error instanceof PolicyError)) throw error;
    throw refusalOf(text, error);
  }
}

/** ROLE_CYCLE for cycles of roles; RULE_CONFLICT for rules that their members cannot use, and for invalid rows. */
function refusalOf(text: string, error: PolicyError) {
  const lines = text.split('\n');
  const named = ({ line, text: problem }: { line: number; text: string }) => `${lines[line - 1]}: ${problem}`;
  try {
    const { rules, grants } = parsePolicy(text, 'policy');
    const chains = roleGraph({ rules: [], grants }).problems;
    if (chains.length > 0) return roleCycle(chains.map(named));
    const conflicts = roleGraph({ rules, grants }).problems;
    if (conflicts.length > 0) return ruleConflict(conflicts.map(named));
  } catch (cause) {
    if (!(cause instanceof PolicyError)) throw cause;
  }
  return ruleConflict([error.message]);
}

/**
 * Whether a user who is not denied has both permissions of administration by grants without an end, and a workload may
 * carry this user's calls. `grants` are live.
 */
export function isAdministered({ rules, grants, denied }: Contents): boolean {
  const lasting = grants.filter((grant) => grant.lasting).map((grant) => ({ ...grant, line: 0 }));
  const graph = roleGraph({ rules: rules.map((rule) => ({ ...rule, line: 0 })), grants: lasting });
  const holders = (scopes: readonly RuleScope[]) =>
    administration.map(
      (permission) =>
        new Set(rules.filter((rule) => rule.permission === permission && scopes.includes(rule.scope)).map(subjectOf)),
    );
  const mayAll = (subject: string, needed: ReadonlySet<string>[]) => {
    const principals = graph.principalsOf(subject);
    return needed.every((some) => !some.isDisjointFrom(principals));
  };
  const excluded = new Set(denied);
  const members = new Set(lasting.map(({ member }) => member));
  const byUser = holders(['any']);
  const byWorkload = holders(['any', 'on-behalf']);
  const workloads = [...members, ...rules.map(subjectOf)].filter((subject) => /^(service|workload):/.test(subject));
  return (
    workloads.some((workload) => mayAll(workload, byWorkload)) &&
    [...members].some((member) => member.startsWith('user:') && !excluded.has(member) && mayAll(member, byUser))
  );
}

const subjectOf = ({ subject }: Rule): string => subject;

/** Reads the contents of a seed file. Throws PolicyError. */
export function contentsOf(text: string, name: string): Contents {
  const { rules, grants, denied } = parsePolicy(text, name);
  return {
    rules: rules.map(({ subject, permission, scope }) => ({ subject, permission, scope })),
    grants: grants.map(({ member, role }) => ({ member, role, state: 'LIVE', lasting: true })),
    denied: [...denied],
  };
}

/** One sentence for each permission that is given twice. */
export function givenTwice(subject: string, rules: readonly Pick<Rule, 'permission'>[]): string[] {
  const seen = new Set<string>();
  return rules.flatMap(({ permission }) => {
    if (seen.has(permission)) return [`${subject} is given ${permission} twice`];
    seen.add(permission);
    return [];
  });
}

/** When a grant is live; null: from now, or until it is revoked. */
export interface Period {
  startAt: Date | null;
  endAt: Date | null;
}

/** The last moment that a datetime column and every client can express. */
const endOfTime = Date.UTC(9999, 11, 31);

/** Why these times are not a period from `now` on; null when they are. */
export function periodProblem({ startAt, endAt }: Period, now: Date): string | null {
  for (const [name, at] of [
    ['start_time', startAt],
    ['end_time', endAt],
  ] as const) {
    if (at === null) continue;
    // The negation also rejects an invalid Date, whose time is NaN.
    if (!(at.getTime() <= endOfTime)) return `${name} is later than the year 9999`;
    if (at.getTime() < now.getTime()) return `${name} is in the past`;
  }
  if (endAt && endAt.getTime() <= (startAt ?? now).getTime()) return 'end_time is not after start_time';
  return null;
}

const changesNamed = 12;

/** Describes the change of a subject's rules for the history. */
export function describeRules(subject: string, before: readonly Rule[], after: readonly Rule[]): string {
  const scopeOf = (rules: readonly Rule[]) => new Map(rules.map(({ permission, scope }) => [permission, scope]));
  const [old, now] = [scopeOf(before), scopeOf(after)];
  const changes = [
    ...after.filter((rule) => !old.has(rule.permission)).map((rule) => `may ${rule.permission} (${rule.scope})`),
    ...before.filter((rule) => !now.has(rule.permission)).map((rule) => `may no longer ${rule.permission}`),
    ...after.flatMap(({ permission, scope }) => {
      const was = old.get(permission);
      return was && was !== scope ? [`may ${permission} with scope ${scope}, no longer ${was}`] : [];
    }),
  ];
  if (changes.length === 0) return `${subject} was put without a change`;
  const more = changes.length - changesNamed;
  return `${subject} ${changes.slice(0, changesNamed).join(', ')}${more > 0 ? ` and ${more} more` : ''}`;
}

/** Describes a new grant for the history. */
export function describeGrant(member: string, role: string, { startAt, endAt }: Period): string {
  const from = startAt ? ` from ${startAt.toISOString()}` : '';
  const until = endAt ? ` until ${endAt.toISOString()}` : '';
  return `${member} was given ${role}${from}${until}`;
}
