import type { MethodContract } from '@armature/proto/contract.ts';
import type { Served } from '../contracts.ts';

/** Callers other than services; services are columns by their names. */
export const strangers = ['anonymous', 'none', 'foreign'] as const;
export const persons = ['own', 'other', 'staff', 'admin', 'client', 'revoked', 'operator', 'scoped'] as const;
/** How an event is published: as the publisher, or in the name of another service. */
export const claims = ['itself', 'the producer', 'its own key'] as const;
export type Claim = (typeof claims)[number];
/** Broker accounts that belong to no service. */
export const outsiders = ['operator', 'stranger'] as const;

export const callCodes = ['A', 'U', 'T', 'S', 'D', 'N', '-'] as const;
export type CallCode = (typeof callCodes)[number];
export const eventCodes = ['A', 'R', 'L', 'X'] as const;
export type EventCode = (typeof eventCodes)[number];

/** One line of the file, by column heading. */
interface Line {
  /** The heading above the table. */
  section: string;
  cells: ReadonlyMap<string, string>;
}

/** The expected result of every call and every event. */
export interface Matrix {
  /** By the method's path and the column. */
  call(method: MethodContract, column: string): CallCode;
  /** By consumer, event, claim and column. */
  event(consumer: string, type: string, claim: Claim, column: string): EventCode;
}

/** What the matrix has to cover. */
export interface Scope {
  contracts: readonly Served[];
  services: readonly string[];
}

/** Reads the file. Throws with all problems at once; for a missing row the message contains the row to add. */
export function readMatrix(text: string, scope: Scope): Matrix {
  const { lines, problems } = tablesOf(text);
  const columns = { calls: callColumns(scope.services), events: eventColumns(scope.services) };
  const expected = [...expectedCalls(scope, columns.calls), ...expectedEvents(scope, columns.events)];
  const found = new Map<string, Line>();
  for (const line of lines) {
    const key = keyOf(line);
    if (found.has(key)) problems.push(`stands twice: ${key}`);
    found.set(key, line);
  }
  for (const row of expected) {
    const line = found.get(row.key);
    found.delete(row.key);
    if (line) problems.push(...faultsOf(row, line));
    else problems.push(`missing under "## ${row.section}"; decide each ? and add:\n${row.blank}`);
  }
  for (const key of found.keys()) problems.push(`superfluous, since no contract has it: ${key}`);
  if (problems.length > 0) throw new Error(`access.matrix.md:\n${problems.join('\n')}`);
  const cells = new Map(lines.map((line) => [keyOf(line), line.cells]));
  const cell = (key: string, column: string) => cells.get(key)?.get(column) ?? '';
  return {
    call: (method, column) => cell(method.path, column) as CallCode,
    event: (consumer, type, claim, column) => cell(`${consumer} consumes ${type} ${claim}`, column) as EventCode,
  };
}

const callColumns = (services: readonly string[]) => [...strangers, ...[...services].sort(), ...persons];
const eventColumns = (services: readonly string[]) => [...[...services].sort(), ...outsiders];

function keyOf({ section, cells }: Line): string {
  const method = cells.get('method');
  if (method !== undefined) return `/${section.replace(/^\S+: /, '')}/${method}`;
  return `${section} ${cells.get('event')} ${cells.get('published as')}`;
}

/** A row that the file must contain. */
interface Expected {
  key: string;
  section: string;
  /** The row to add, with a ? for each decision. */
  blank: string;
  /** Cells whose content follows from the contract. */
  fixed: ReadonlyMap<string, string>;
  columns: readonly string[];
  codes: readonly string[];
}

function expectedCalls({ contracts }: Scope, columns: readonly string[]): Expected[] {
  // A contract that each service serves has one row for all of them.
  const once = new Map(contracts.map((served) => [served.contract.name, served]));
  return [...once.values()].flatMap(({ service, contract, byEach }) =>
    Object.values(contract.methods).map((method) => {
      const { name, permission, owner } = method;
      const fixed = new Map([
        ['method', name],
        ['permission', permission],
        ['owner', owner === null ? '-' : owner.kind === 'loaded' ? 'loaded' : owner.field],
        ['none', 'U'],
        ['foreign', 'U'],
        ...(owner === null ? [['other', '-'] as const] : []),
      ]);
      const all = ['method', 'permission', 'owner', ...columns];
      return {
        key: method.path,
        section: `${byEach ? 'each' : service}: ${contract.name}`,
        blank: blankOf(all, fixed),
        fixed,
        columns: all,
        // A method without an owner has no column for another's resource. All other codes must be decided by hand.
        codes: owner === null ? callCodes : callCodes.filter((code) => code !== '-'),
      };
    }),
  );
}

function expectedEvents({ contracts }: Scope, columns: readonly string[]): Expected[] {
  return contracts.flatMap(({ service, contract }) =>
    contract.consumes.flatMap(({ type }) =>
      claims.map((claim) => {
        const fixed = new Map([
          ['event', type],
          ['published as', claim],
          ['stranger', 'R'],
        ]);
        const section = `${service} consumes`;
        const all = ['event', 'published as', ...columns];
        const key = `${section} ${type} ${claim}`;
        return { key, section, blank: blankOf(all, fixed), fixed, columns: all, codes: eventCodes };
      }),
    ),
  );
}

const blankOf = (columns: readonly string[], fixed: ReadonlyMap<string, string>) =>
  `| ${columns.map((column) => fixed.get(column) ?? '?').join(' | ')} |`;

function faultsOf(row: Expected, { section, cells }: Line): string[] {
  const faults: string[] = [];
  const at = `${row.key}:`;
  if (section !== row.section) faults.push(`${at} stands under "## ${section}" instead of "## ${row.section}"`);
  for (const column of row.columns) {
    const cell = cells.get(column);
    const fixed = row.fixed.get(column);
    if (cell === undefined) faults.push(`${at} has no column ${column}`);
    else if (fixed !== undefined) {
      if (cell !== fixed) faults.push(`${at} says ${cell || 'nothing'} as ${column}; it can only be ${fixed}`);
    } else if (!row.codes.includes(cell) || cell === '-') {
      faults.push(`${at} says ${cell || 'nothing'} as ${column}; decide for one of ${row.codes.join(', ')}`);
    }
  }
  for (const column of cells.keys()) if (!row.columns.includes(column)) faults.push(`${at} has a column ${column}`);
  return faults;
}

/** The tables under headings of methods and events. The tables of the legend have other first columns. */
function tablesOf(text: string): { lines: Line[]; problems: string[] } {
  const lines: Line[] = [];
  const problems: string[] = [];
  let section = '';
  let head: string[] | null = null;
  text.split('\n').forEach((line, index) => {
    if (line.startsWith('#')) section = line.replace(/^#+ /, '');
    if (!line.startsWith('|')) {
      head = null;
      return;
    }
    const cells = line
      .slice(1, -1)
      .split('|')
      .map((cell) => cell.trim());
    if (head === null) head = cells;
    else if (/^(method|event)$/.test(head[0] ?? '') && !cells.every((cell) => /^-{3,}$/.test(cell))) {
      if (cells.length !== head.length)
        problems.push(`line ${index + 1} has ${cells.length} cells, not ${head.length}`);
      lines.push({ section, cells: new Map(head.map((name, column) => [name, cells[column] ?? ''])) });
    }
  });
  return { lines, problems };
}
