import { writeTable } from '../table.ts';
import type { Access, EffectiveAccess, Finding, Row } from './effective-access.ts';
import type { Operation } from './operations.ts';

/** The contracts and the policy of one commit, or of the working tree. */
export interface Snapshot {
  operations: readonly Operation[];
  effective: EffectiveAccess;
}

export type Verdict = 'OPENED' | 'WIDENED' | 'NARROWED' | 'CLOSED';

/** One principal and one operation, and what made the difference. */
export interface Change {
  verdict: Verdict;
  principal: string;
  operation: Operation;
  before: Access;
  after: Access;
  because: string;
}

export interface Difference {
  changes: readonly Change[];
  added: readonly Operation[];
  removed: readonly Operation[];
}

const key = ({ kind, name }: Operation) => `${kind} ${name}`;
const reach: Readonly<Record<Access, number>> = { deny: 0, 'on-behalf': 1, own: 1, any: 2 };

/**
 * Compares what every principal may effectively do. What a principal may anew only because a role may that it had before
 * is told of the role alone. Operations that are gone are `removed`, and no changes.
 */
export function difference(before: Snapshot, after: Snapshot): Difference {
  const known = new Map(before.operations.map((operation) => [key(operation), operation]));
  const kept = new Set(after.operations.map(key));
  const principals = new Set([...after.effective.principals, ...before.effective.principals]);
  const changes = [...principals].flatMap((principal) => {
    const person = before.effective.isPerson(principal) || after.effective.isPerson(principal);
    return after.operations.flatMap((operation) =>
      changeOf({ before, after, principal, person, operation, old: known.get(key(operation)) }),
    );
  });
  return {
    changes: changes.filter((change) => !isImplied(change, changes, before.effective, after.effective)),
    added: after.operations.filter((operation) => !known.has(key(operation))),
    removed: before.operations.filter((operation) => !kept.has(key(operation))),
  };
}

/** Whether a person has to review it: a principal may do what it might not do before. */
export function opens({ changes }: Difference): boolean {
  return changes.some(({ verdict }) => verdict === 'OPENED' || verdict === 'WIDENED');
}

interface Question {
  before: Snapshot;
  after: Snapshot;
  principal: string;
  person: boolean;
  operation: Operation;
  /** The operation as it was; undefined where it is new. */
  old: Operation | undefined;
}

function changeOf({ before, after, principal, person, operation, old }: Question): Change[] {
  const then: Finding = old ? before.effective.find(principal, old, person) : { access: 'deny', because: [] };
  const now = after.effective.find(principal, operation, person);
  const verdict = verdictOf(then.access, now.access);
  if (!verdict) return [];
  const opened = reach[now.access] >= reach[then.access];
  const reasons = [
    ...contractReasons(operation, old),
    ...(opened
      ? policyReasons(then, now, before.effective, after.effective)
      : policyReasons(now, then, after.effective, before.effective, ['+', '-'])),
  ];
  const effective = opened && !old ? now.because.map(({ text }) => text) : [];
  const because = [...new Set([...reasons, ...(reasons.length > 1 ? [] : effective)])].join('; ');
  return [{ verdict, principal, operation, before: then.access, after: now.access, because }];
}

/** Own and on-behalf are for different holders: one in the place of the other opens access. */
function verdictOf(before: Access, after: Access): Verdict | undefined {
  if (before === after) return undefined;
  if (after === 'deny') return 'CLOSED';
  if (before === 'deny' || reach[before] === reach[after]) return 'OPENED';
  return reach[after] > reach[before] ? 'WIDENED' : 'NARROWED';
}

function contractReasons(operation: Operation, old: Operation | undefined): string[] {
  if (!old) return [`new ${operation.kind}`];
  const named = (owner: string) => owner || 'none';
  return [
    ...(old.permission === operation.permission
      ? []
      : [`its permission was ${old.permission}, is ${operation.permission}`]),
    ...(old.owner === operation.owner ? [] : [`its owner was ${named(old.owner)}, is ${named(operation.owner)}`]),
  ];
}

/**
 * The rows that only the wider side has, of those that make its access; else the denial that only the narrower one
 * has. `signs` are those of a row that the narrower side has more, and the wider one.
 */
function policyReasons(
  narrow: Finding,
  wide: Finding,
  narrowAccess: EffectiveAccess,
  wideAccess: EffectiveAccess,
  signs: readonly [string, string] = ['-', '+'],
): string[] {
  const only = (rows: readonly Row[], other: EffectiveAccess, sign: string) =>
    rows.filter(({ text }) => !other.rows.has(text)).map(({ text, line }) => `${sign} ${text} (line ${line})`);
  const denial = only(narrow.because, wideAccess, signs[0]).filter((text) => / d, /.test(text));
  return denial.length > 0 ? denial : only(wide.because, narrowAccess, signs[1]);
}

function isImplied(
  change: Change,
  changes: readonly Change[],
  before: EffectiveAccess,
  after: EffectiveAccess,
): boolean {
  const { principal, operation, verdict } = change;
  const person = before.isPerson(principal) || after.isPerson(principal);
  const had = before.rolesOf(principal, person);
  const roles = [...after.rolesOf(principal, person)].filter((role) => role !== principal && had.has(role));
  return roles.some((role) =>
    changes.some(
      (one) =>
        one.principal === role &&
        one.operation === operation &&
        one.verdict === verdict &&
        one.before === change.before &&
        one.after === change.after,
    ),
  );
}

/** The difference as lines: what is new and gone, then every change under the row that made it, then what to do. */
export function renderDifference(found: Difference, base: string): string[] {
  const operations = [
    ...found.added.map((operation) => ['NEW', operation.kind, operation.name, operation.permission]),
    ...found.removed.map((operation) => ['REMOVED', operation.kind, operation.name, operation.permission]),
  ];
  const groups = Map.groupBy(
    found.changes,
    ({ verdict, principal, because }) => `${verdict}  ${principal}  ${because}`,
  );
  const verdicts: readonly Verdict[] = ['OPENED', 'WIDENED', 'NARROWED', 'CLOSED'];
  const listed = verdicts.flatMap((verdict) =>
    [...groups]
      .filter(([, [first]]) => first!.verdict === verdict)
      .map(([title, changes]) => [title, ...rowsOf(changes)]),
  );
  const parts = [
    ...(operations.length > 0 ? [writeTable(operations, 'text')] : []),
    ...listed,
    [conclusion(found, base)],
  ];
  return parts.flatMap((part, index) => (index === 0 ? part : ['', ...part]));
}

const rowsOf = (changes: readonly Change[]) =>
  writeTable(
    changes.map(({ operation, before, after }) => [
      `  ${operation.name}`,
      operation.permission,
      `${before} → ${after}`,
    ]),
    'text',
  );

function conclusion(found: Difference, base: string): string {
  const { changes, added, removed } = found;
  const count = (verdict: Verdict) => changes.filter((change) => change.verdict === verdict).length;
  const counts = [
    `${count('OPENED')} opened`,
    `${count('WIDENED')} widened`,
    `${count('NARROWED')} narrowed`,
    `${count('CLOSED')} closed`,
    `${added.length} new`,
    `${removed.length} removed`,
  ].join(', ');
  return opens(found)
    ? `access diff: since ${base} a principal may do more than before, so a person has to review this: ${counts}`
    : `access diff: no principal may do more than at ${base}: ${counts}`;
}
