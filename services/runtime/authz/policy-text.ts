/** What a decision allows: all resources, or only the caller's own. */
export type Scope = 'any' | 'own';

/** What a rule grants: all resources, only own resources (users), or only calls on behalf of a user (workloads). */
export type RuleScope = Scope | 'on-behalf';

export interface Rule {
  readonly subject: string;
  readonly permission: string;
  readonly scope: RuleScope;
  readonly line: number;
}

/** `member` has everything that `role` has. */
export interface Grant {
  readonly member: string;
  readonly role: string;
  readonly line: number;
}

export interface PolicyRows {
  readonly rules: readonly Rule[];
  readonly grants: readonly Grant[];
  /** Users and clients that are denied everything, regardless of their grants. */
  readonly denied: ReadonlySet<string>;
}

/** Names the places where a policy is invalid, all at once (the first twenty): "policy.csv:12: …". */
export class PolicyError extends Error {
  override readonly name = 'PolicyError';
}

export interface Problem {
  readonly line: number;
  readonly text: string;
}

export const userPattern = /^user:[a-z0-9][a-z0-9._-]{0,63}$/;
export const clientPattern = /^client:[a-z0-9][a-z0-9._-]{0,63}$/;
export const workloadPattern = /^(?:service|workload):[a-z0-9-]{1,63}$/;
const rolePattern = /^role:[a-z][a-z0-9-]{0,63}$/;
const memberPatterns = [workloadPattern, userPattern, clientPattern, rolePattern];
const permissionPattern = /^[a-z][a-z0-9_]{0,31}(?:\.[a-z][a-z0-9_]{0,31}){1,2}$/;
const subjectRule = 'is not of the form user:id, client:id, service:name, workload:name or role:name';
const scopes: ReadonlySet<string> = new Set<RuleScope>(['any', 'own', 'on-behalf']);

const maxTextLength = 16 * 1024 * 1024;
const maxLineLength = 512;
const maxLines = 200_000;
const maxProblems = 20;

/**
 * Reads `p` and `g` rows in the form that Casbin's own file adapter reads, but strictly: a row that the adapter would
 * skip or alter is an error here. `d` rows are an extension, because Casbin can only allow. Throws PolicyError.
 */
export function parsePolicy(text: string, name: string): PolicyRows {
  if (text.length > maxTextLength) throw new PolicyError(`${name} is longer than ${maxTextLength} characters`);
  const reader: Reader = { rules: [], grants: [], denied: new Set(), seen: new Map(), problems: [] };
  for (const [index, row] of text.split('\n').entries()) {
    const trimmed = row.trim();
    if (trimmed === '' || trimmed.startsWith('#')) continue;
    const problem = readRow(reader, trimmed, index + 1);
    if (problem) reader.problems.push({ line: index + 1, text: problem });
    if (index >= maxLines) {
      throw new PolicyError(`${name} has more than ${maxLines} lines`);
    }
  }
  refuse(name, reader.problems);
  if (reader.rules.length === 0)
    throw new PolicyError(`${name} has no rule; an empty policy is taken for a broken one`);
  return { rules: reader.rules, grants: reader.grants, denied: reader.denied };
}

/** A policy's text in two parts: the rows before its denials, and the rows from its first denial on. */
export interface SplitPolicy {
  readonly rules: string;
  /** Null where other rows follow the first denial. */
  readonly denials: string | null;
  /** The number of lines before the denials. */
  readonly line: number;
}

const firstDenial = /^d *,/m;
const otherRow = /^(?!d *,)[^\n]+$/m;

/** Splits a text before its first denial. */
export function splitDenials(text: string): SplitPolicy {
  const at = text.search(firstDenial);
  if (at < 0) return { rules: text, denials: '', line: 0 };
  const [rules, denials] = [text.slice(0, at), text.slice(at)];
  if (otherRow.test(denials)) return { rules, denials: null, line: 0 };
  return { rules, denials, line: rules.split('\n').length - 1 };
}

/** Reads the denials of a split text. Throws PolicyError. */
export function parseDenials(denials: string, name: string, line: number): ReadonlySet<string> {
  const reader: Reader = { rules: [], grants: [], denied: new Set(), seen: new Map(), problems: [] };
  for (const [index, row] of denials.split('\n').entries()) {
    if (row === '') continue;
    if (line + index >= maxLines) throw new PolicyError(`${name} has more than ${maxLines} lines`);
    const problem = readRow(reader, row.trim(), line + index + 1);
    if (problem) reader.problems.push({ line: line + index + 1, text: problem });
  }
  refuse(name, reader.problems);
  return reader.denied;
}

/** Throws PolicyError when there are problems. */
export function refuse(name: string, problems: readonly Problem[]): void {
  if (problems.length === 0) return;
  const shown = problems.slice(0, maxProblems).map(({ line, text }) => `${name}:${line}: ${text}`);
  if (problems.length > maxProblems) shown.push(`… and ${problems.length - maxProblems} more`);
  throw new PolicyError(shown.join('\n'));
}

interface Reader {
  rules: Rule[];
  grants: Grant[];
  denied: Set<string>;
  /** The statements read so far, each with its line. */
  seen: Map<string, number>;
  problems: Problem[];
}

/** Adds a row, or returns what is wrong with it. */
function readRow(reader: Reader, row: string, line: number): string | null {
  if (row.length > maxLineLength) return `is longer than ${maxLineLength} characters`;
  const [kind, ...fields] = row.split(',').map((field) => field.trim());
  if (kind === 'p') return readRule(reader, fields, line);
  if (kind === 'g') return readGrant(reader, fields, line);
  if (kind === 'd') return readDenial(reader, fields, line);
  return `begins with ${quote(kind)}; a row begins with p, g, d or #`;
}

function readRule(reader: Reader, fields: string[], line: number): string | null {
  const [subject = '', permission = '', scope = ''] = fields;
  if (fields.length !== 3) return 'a p row is: p, subject, permission, scope';
  const workload = workloadPattern.test(subject);
  const user = userPattern.test(subject);
  const client = clientPattern.test(subject);
  if (!workload && !user && !client && !rolePattern.test(subject)) return `subject ${quote(subject)} ${subjectRule}`;
  if (!permissionPattern.test(permission)) {
    return `permission ${quote(permission)} is not two or three lower-case words joined by dots`;
  }
  if (!scopes.has(scope)) return `scope ${quote(scope)} is not any, own or on-behalf`;
  if (workload && scope === 'own') return `${subject} is a workload and owns nothing; scope own is for users`;
  if (client && scope !== 'any') return `${subject} is a client and has only scope any, not ${scope}`;
  if (user && scope === 'on-behalf') return `${subject} is a user; scope on-behalf is for workloads`;
  const before = statedBefore(reader, `p ${subject} ${permission}`, line);
  if (before) return `${subject} was given ${permission} before, on line ${before}`;
  reader.rules.push({ subject, permission, scope: scope as RuleScope, line });
  return null;
}

function readGrant(reader: Reader, fields: string[], line: number): string | null {
  const [member = '', role = ''] = fields;
  if (fields.length !== 2) return 'a g row is: g, member, role';
  if (!memberPatterns.some((pattern) => pattern.test(member))) return `member ${quote(member)} ${subjectRule}`;
  if (!rolePattern.test(role)) return `role ${quote(role)} is not of the form role:name`;
  const before = statedBefore(reader, `g ${member} ${role}`, line);
  if (before) return `${member} was granted ${role} before, on line ${before}`;
  reader.grants.push({ member, role, line });
  return null;
}

/** Only people and programs that sign in can be denied. A workload is denied by revoking its certificate. */
function readDenial(reader: Reader, fields: string[], line: number): string | null {
  const [subject = ''] = fields;
  if (fields.length !== 1) return 'a d row is: d, subject';
  if (!userPattern.test(subject) && !clientPattern.test(subject)) {
    return `subject ${quote(subject)} is not of the form user:id or client:id`;
  }
  const before = statedBefore(reader, `d ${subject}`, line);
  if (before) return `${subject} was denied before, on line ${before}`;
  reader.denied.add(subject);
  return null;
}

/** Returns the line that has the same statement, if there is one. */
function statedBefore(reader: Reader, statement: string, line: number): number | undefined {
  const before = reader.seen.get(statement);
  if (before === undefined) reader.seen.set(statement, line);
  return before;
}

function quote(text: string | undefined): string {
  return JSON.stringify((text ?? '').slice(0, 80));
}
