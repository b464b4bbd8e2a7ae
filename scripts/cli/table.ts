/** How a table is written: for people, for programs, or for a page. */
export const formats = ['text', 'csv', 'md'] as const;
export type Format = (typeof formats)[number];

const written: Record<Format, (rows: readonly (readonly string[])[]) => string[]> = {
  text(rows) {
    const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
    return rows.map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column]!))
        .join('  ')
        .trimEnd(),
    );
  },
  csv: (rows) => rows.map((row) => row.map(quoted).join(',')),
  md([head, ...body]) {
    const line = (row: readonly string[]) => `| ${row.join(' | ')} |`;
    return [line(head!), line(head!.map(() => '---')), ...body.map(line)];
  },
};

/** Writes rows of equal length; the first one holds the headings. */
export function writeTable(rows: readonly (readonly string[])[], format: Format): string[] {
  return written[format](rows);
}

const quoted = (cell: string) => (/[",\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell);
