import { paint } from '../cli/terminal.ts';

/** What the demo shows, in short aligned lines. Colour only where a terminal shows it. */
export interface Screen {
  heading(text: string): void;
  /** A line under the heading. */
  line(text: string): void;
  /** One step of an order with its milliseconds since the order was placed. */
  step(elapsedMs: number, name: string, detail: string): void;
  /** Columns as wide as their widest cell; under its heading a column of numbers stands to the right. */
  table(rows: readonly (readonly string[])[]): void;
  /** Something to type, under what it is for. */
  command(what: string, line: string): void;
  /** Text that comes from elsewhere, such as a mail. */
  quote(text: string): void;
  passed(text: string): void;
  failed(text: string): void;
}

export function terminal(write: (line: string) => void = (line) => console.log(line)): Screen {
  return {
    heading: (text) => write(`\n${paint('bold', text)}`),
    line: (text) => write(`   ${text}`),
    step: (elapsedMs, name, detail) =>
      write(
        `   ${paint('dim', `${Math.round(elapsedMs).toLocaleString('en')} ms`.padStart(9))}  ${name.padEnd(22)}${detail}`.trimEnd(),
      ),
    table(rows) {
      const columns = (rows[0] ?? []).map((_, column) => {
        const cells = rows.map((row) => row[column]!);
        const below = cells.slice(1);
        return {
          width: Math.max(...cells.map((cell) => cell.length)),
          numbers: below.length > 0 && below.every((cell) => /^-?[\d.,]+$/.test(cell)),
        };
      });
      for (const row of rows) {
        const cells = columns.map(({ width, numbers }, column) =>
          numbers ? row[column]!.padStart(width) : row[column]!.padEnd(width),
        );
        write(`   ${cells.join('  ')}`.trimEnd());
      }
    },
    command(what, line) {
      write(`   ${paint('dim', `# ${what}`)}`);
      write(`   ${line}`);
    },
    quote(text) {
      for (const line of text.trimEnd().split('\n')) write(`   ${paint('dim', '|')} ${line}`.trimEnd());
    },
    passed: (text) => write(`   ${paint('green', '✓')} ${text}`),
    failed: (text) => write(`   ${paint(['bold', 'red'], '✗')} ${paint('red', text)}`),
  };
}
