import { everyUser } from '@armature/runtime/authz';
import { type Format, writeTable } from '../table.ts';
import type { Access, EffectiveAccess } from './effective-access.ts';
import type { Operation } from './operations.ts';

/** Who may do what: a row for each operation, a column for each principal. */
export interface Matrix {
  kind: Operation['kind'];
  principals: readonly string[];
  rows: readonly { operation: Operation; access: readonly Access[] }[];
}

/** Roles, workloads and clients at every operation of one kind. Users are left out: they may what their roles may. */
export function matrixOf(
  operations: readonly Operation[],
  effective: EffectiveAccess,
  kind: Operation['kind'],
): Matrix {
  const principals = effective.principals.filter((principal) => !principal.startsWith('user:'));
  const rows = operations
    .filter((operation) => operation.kind === kind)
    .map((operation) => ({
      operation,
      access: principals.map((principal) => effective.find(principal, operation).access),
    }));
  return { kind, principals, rows };
}

/** A matrix without the columns that say nothing new, and who they were. */
export interface Folded extends Matrix {
  /** Who may nothing here. */
  idle: readonly string[];
  /** Who may exactly what one of their roles may, by that role. */
  alike: ReadonlyMap<string, readonly string[]>;
}

/** Leaves out the columns of those who may nothing, or exactly what a role of theirs may. */
export function folded(matrix: Matrix, effective: EffectiveAccess): Folded {
  const columns = new Map(
    matrix.principals.map((principal, index) => [principal, matrix.rows.map(({ access }) => access[index]!)]),
  );
  const idle: string[] = [];
  const alike = new Map<string, string[]>();
  const kept: string[] = [];
  for (const [principal, column] of columns) {
    if (column.every((access) => access === 'deny')) {
      idle.push(principal);
      continue;
    }
    const roles = [...effective.rolesOf(principal)].filter((role) => role !== principal && columns.has(role));
    const same = roles.find((role) => columns.get(role)!.every((access, row) => access === column[row]));
    if (same === undefined) kept.push(principal);
    else alike.set(same, [...(alike.get(same) ?? []), principal]);
  }
  const rows = matrix.rows.map(({ operation }, row) => ({
    operation,
    access: kept.map((one) => columns.get(one)![row]!),
  }));
  return { kind: matrix.kind, principals: kept, rows, idle, alike };
}

/** The lines of both matrices. CSV holds every column and no prose, since programs read it. */
export function renderMatrices(
  operations: readonly Operation[],
  effective: EffectiveAccess,
  format: Format,
  width = Number.POSITIVE_INFINITY,
): string[] {
  const [methods, events] = (['method', 'event'] as const).map((kind) => matrixOf(operations, effective, kind));
  if (format === 'csv') {
    const head = ['kind', 'name', 'permission', 'owner', 'audit', ...methods!.principals];
    const rows = [...methods!.rows, ...events!.rows].map(({ operation, access }) => [
      operation.kind,
      operation.name,
      operation.permission,
      operation.owner,
      operation.audit ? 'every decision' : 'denials',
      ...access,
    ]);
    return writeTable([head, ...rows], format);
  }
  return [
    ...legend,
    '',
    ...section(folded(methods!, effective), { format, width, verb: 'called' }),
    '',
    ...section(folded(events!, effective), { format, width, verb: 'published' }),
  ];
}

const legend = [
  'any: everything. own: only their own things. on-behalf: only together with a user. -: nothing.',
  'A call needs its workload and whom its token names, and both must be allowed.',
  `Roles of people are shown with what every user who has signed in may (${everyUser}).`,
];

interface Layout {
  format: Format;
  width: number;
  /** What principals do there. */
  verb: string;
}

function section(matrix: Folded, { format, width, verb }: Layout): string[] {
  const what = matrix.kind;
  const head = [`${what} (* every decision is recorded)`, 'permission', 'owner', ...matrix.principals];
  const columns = what === 'method' ? head : [what, ...head.slice(1).filter((name) => name !== 'owner')];
  const cells = ({ operation, access }: Matrix['rows'][number], name: string) => [
    `${name}${operation.audit ? ' *' : ''}`,
    operation.permission,
    ...(what === 'method' ? [operation.owner || '-'] : []),
    ...access.map((one) => (one === 'deny' ? '-' : one)),
  ];
  const rows = format === 'md' ? matrix.rows.map((row) => cells(row, row.operation.name)) : grouped(matrix, cells);
  const [count, they] = matrix.rows.length === 1 ? [`1 ${what}`, 'it'] : [`${matrix.rows.length} ${what}s`, 'they'];
  const title = `${count}, and whom ${they} may be ${verb} by`;
  const notes = [
    ...[...matrix.alike].map(([role, members]) => `As ${role}: ${members.join(', ')}.`),
    ...(matrix.idle.length > 0 ? [`Nothing: ${matrix.idle.join(', ')}.`] : []),
  ];
  // Markdown joins lines into a paragraph unless an empty one stands between them and a table.
  return [format === 'md' ? `## ${title}` : title, '', ...writeTable([columns, ...rows], format, width), '', ...notes];
}

/** Methods under the service and events under the package that they stand in: the whole names are too long for a line. */
function grouped(matrix: Matrix, cells: (row: Matrix['rows'][number], name: string) => string[]): string[][] {
  const end = (name: string) => name.lastIndexOf(matrix.kind === 'method' ? '/' : '.');
  const groups = Map.groupBy(matrix.rows, ({ operation: { name } }) => name.slice(0, end(name)));
  return [...groups].flatMap(([title, rows]) => {
    const lines = rows.map((row) => cells(row, `  ${row.operation.name.slice(end(row.operation.name) + 1)}`));
    return [[title, ...lines[0]!.slice(1).map(() => '')], ...lines];
  });
}
