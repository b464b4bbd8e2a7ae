/** How a table is written: for people, for programs, or for a page. */
export const formats = ['text', 'csv', 'md'] as const;
export type Format = (typeof formats)[number];

type Row = readonly string[];

/** Spaces between two columns of text. */
const gap = 2;

const written: Record<Format, (rows: readonly Row[], width: number) => string[]> = {
  text: textTable,
  csv: (rows) => rows.map((row) => row.map(quoted).join(',')),
  md([head, ...body]) {
    const line = (row: Row) => `| ${row.join(' | ')} |`;
    return [line(head!), line(head!.map(() => '---')), ...body.map(line)];
  },
};

/**
 * Writes rows of equal length; the first one holds the headings. Text is made to fit `width` columns without leaving
 * anything out: cells are wrapped at spaces, and where that is not enough each row becomes a block of its own, with one
 * line for each cell. So a value can always be copied whole.
 */
export function writeTable(rows: readonly Row[], format: Format, width = Number.POSITIVE_INFINITY): string[] {
  return written[format](rows, width);
}

function textTable(rows: readonly Row[], width: number): string[] {
  const natural = columnWidths(rows, (cell) => cell.length);
  const widths = fit(natural, columnWidths(rows, longestWord), width - gap * (natural.length - 1));
  if (!widths) return blocks(rows);
  return rows.flatMap((row) => {
    const cells = row.map((cell, column) => wrap(cell, widths[column]!));
    const height = Math.max(...cells.map((lines) => lines.length));
    return Array.from({ length: height }, (_, line) =>
      cells
        .map((lines, column) => (lines[line] ?? '').padEnd(widths[column]!))
        .join(' '.repeat(gap))
        .trimEnd(),
    );
  });
}

function columnWidths(rows: readonly Row[], measure: (cell: string) => number): number[] {
  return rows[0]!.map((_, column) => Math.max(...rows.map((row) => measure(row[column]!))));
}

const longestWord = (cell: string) => Math.max(...cell.split(' ').map((word) => word.length));

/** Takes from the widest column until the sum is at most `width`, or undefined where no column can give any more. */
function fit(natural: readonly number[], least: readonly number[], width: number): number[] | undefined {
  const widths = [...natural];
  let excess = widths.reduce((sum, one) => sum + one, 0) - width;
  while (excess > 0) {
    const shrinkable = widths.map((one, column) => (one > least[column]! ? one : 0));
    const widest = Math.max(...shrinkable);
    if (widest === 0) return undefined;
    widths[shrinkable.indexOf(widest)] = widest - 1;
    excess--;
  }
  return widths;
}

/** Breaks a cell at spaces into lines of at most `width`, as far as its words allow. */
function wrap(cell: string, width: number): string[] {
  if (cell.length <= width) return [cell];
  const lines: string[] = [];
  for (const word of cell.split(' ')) {
    const last = lines.at(-1);
    if (last !== undefined && last.length + 1 + word.length <= width) lines[lines.length - 1] = `${last} ${word}`;
    else lines.push(word);
  }
  return lines;
}

/** Each row as lines of "heading  value", with an empty line between rows. Empty cells are left out. */
function blocks([head, ...body]: readonly Row[]): string[] {
  const width = Math.max(...head!.map((name) => name.length));
  return body.flatMap((row, index) => [
    ...(index === 0 ? [] : ['']),
    ...row.flatMap((cell, column) =>
      cell.trim() === '' ? [] : [`${head![column]!.padEnd(width)}  ${cell.trim()}`.trimStart()],
    ),
  ]);
}

const quoted = (cell: string) => (/[",\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell);
