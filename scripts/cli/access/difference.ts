import { writeTable } from '../table.ts';
import type { Door } from './doors.ts';
import type { Access, Finding, Row, Standing } from './standing.ts';

/** The contracts and the policy of one commit, or of the working tree. */
export interface Side {
  doors: readonly Door[];
  standing: Standing;
}

export type Verdict = 'OPENED' | 'WIDENED' | 'NARROWED' | 'CLOSED';

/** One principal at one door, and what made the difference. */
export interface Change {
  verdict: Verdict;
  principal: string;
  door: Door;
  before: Access;
  after: Access;
  because: string;
}

export interface Difference {
  changes: readonly Change[];
  added: readonly Door[];
  removed: readonly Door[];
}

const key = ({ kind, name }: Door) => `${kind} ${name}`;
const reach: Readonly<Record<Access, number>> = { deny: 0, 'on-behalf': 1, own: 1, any: 2 };

/**
 * Compares what every principal may effectively do. What a principal may anew only because a role may that it had before
 * is told of the role alone. Doors that are gone are `removed`, and no changes.
 */
export function difference(before: Side, after: Side): Difference {
  const known = new Map(before.doors.map((door) => [key(door), door]));
  const kept = new Set(after.doors.map(key));
  const principals = new Set([...after.standing.principals, ...before.standing.principals]);
  const changes = [...principals].flatMap((principal) => {
    const person = before.standing.isPerson(principal) || after.standing.isPerson(principal);
    return after.doors.flatMap((door) =>
      changeOf({ before, after, principal, person, door, old: known.get(key(door)) }),
    );
  });
  return {
    changes: changes.filter((change) => !isImplied(change, changes, before.standing, after.standing)),
    added: after.doors.filter((door) => !known.has(key(door))),
    removed: before.doors.filter((door) => !kept.has(key(door))),
  };
}

/** Whether a person has to review it: a principal may do what it might not do before. */
export function opens({ changes }: Difference): boolean {
  return changes.some(({ verdict }) => verdict === 'OPENED' || verdict === 'WIDENED');
}

interface Question {
  before: Side;
  after: Side;
  principal: string;
  person: boolean;
  door: Door;
  /** The door as it was; undefined where it is new. */
  old: Door | undefined;
}

function changeOf({ before, after, principal, person, door, old }: Question): Change[] {
  const then: Finding = old ? before.standing.find(principal, old, person) : { access: 'deny', because: [] };
  const now = after.standing.find(principal, door, person);
  const verdict = verdictOf(then.access, now.access);
  if (!verdict) return [];
  const opened = reach[now.access] >= reach[then.access];
  const reasons = [
    ...contractReasons(door, old),
    ...(opened
      ? policyReasons(then, now, before.standing, after.standing)
      : policyReasons(now, then, after.standing, before.standing, ['+', '-'])),
  ];
  const standing = opened && !old ? now.because.map(({ text }) => text) : [];
  const because = [...new Set([...reasons, ...(reasons.length > 1 ? [] : standing)])].join('; ');
  return [{ verdict, principal, door, before: then.access, after: now.access, because }];
}

/** Own and on-behalf are for different holders: one in the place of the other opens access. */
function verdictOf(before: Access, after: Access): Verdict | undefined {
  if (before === after) return undefined;
  if (after === 'deny') return 'CLOSED';
  if (before === 'deny' || reach[before] === reach[after]) return 'OPENED';
  return reach[after] > reach[before] ? 'WIDENED' : 'NARROWED';
}

function contractReasons(door: Door, old: Door | undefined): string[] {
  if (!old) return [`new ${door.kind}`];
  const named = (owner: string) => owner || 'none';
  return [
    ...(old.permission === door.permission ? [] : [`its permission was ${old.permission}, is ${door.permission}`]),
    ...(old.owner === door.owner ? [] : [`its owner was ${named(old.owner)}, is ${named(door.owner)}`]),
  ];
}

/**
 * The rows that only the wider side has, of those that make its access; else the denial that only the narrower one
 * has. `signs` are those of a row that the narrower side has more, and the wider one.
 */
function policyReasons(
  narrow: Finding,
  wide: Finding,
  narrowStanding: Standing,
  wideStanding: Standing,
  signs: readonly [string, string] = ['-', '+'],
): string[] {
  const only = (rows: readonly Row[], other: Standing, sign: string) =>
    rows.filter(({ text }) => !other.rows.has(text)).map(({ text, line }) => `${sign} ${text} (line ${line})`);
  const denial = only(narrow.because, wideStanding, signs[0]).filter((text) => / d, /.test(text));
  return denial.length > 0 ? denial : only(wide.because, narrowStanding, signs[1]);
}

function isImplied(change: Change, changes: readonly Change[], before: Standing, after: Standing): boolean {
  const { principal, door, verdict } = change;
  const person = before.isPerson(principal) || after.isPerson(principal);
  const had = before.rolesOf(principal, person);
  const roles = [...after.rolesOf(principal, person)].filter((role) => role !== principal && had.has(role));
  return roles.some((role) =>
    changes.some(
      (one) =>
        one.principal === role &&
        one.door === door &&
        one.verdict === verdict &&
        one.before === change.before &&
        one.after === change.after,
    ),
  );
}

/** The difference as lines: what is new and gone, then every change under the row that made it, then what to do. */
export function renderDifference(found: Difference, base: string): string[] {
  const doors = [
    ...found.added.map((door) => ['NEW', door.kind, door.name, door.permission]),
    ...found.removed.map((door) => ['REMOVED', door.kind, door.name, door.permission]),
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
  const parts = [...(doors.length > 0 ? [writeTable(doors, 'text')] : []), ...listed, [conclusion(found, base)]];
  return parts.flatMap((part, index) => (index === 0 ? part : ['', ...part]));
}

const rowsOf = (changes: readonly Change[]) =>
  writeTable(
    changes.map(({ door, before, after }) => [`  ${door.name}`, door.permission, `${before} → ${after}`]),
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
