import { globSync, readFileSync } from 'node:fs';
import type { Connection, RowDataPacket } from 'mysql2/promise';

/** A statement in the source code. */
export interface SourceStatement {
  file: string;
  text: string;
  /** Matches the statement with values in place of its parameters. */
  pattern: RegExp;
}

/** Unique keys of every table, as lists of columns. */
export type UniqueKeys = ReadonlyMap<string, readonly (readonly string[])[]>;

export async function uniqueKeys(server: Connection): Promise<UniqueKeys> {
  const [rows] = await server.query<RowDataPacket[]>(
    `select table_name as name, index_name as one, group_concat(distinct column_name) as columns
     from information_schema.statistics where non_unique = 0 and table_schema like 'armature%'
     group by table_name, index_name`,
  );
  const byTable = Map.groupBy(rows, ({ name }) => String(name));
  return new Map([...byTable].map(([name, found]) => [name, found.map(({ columns }) => String(columns).split(','))]));
}

/**
 * Whether a statement uses a whole unique key of its table, and so finds at most as many rows as it is given values.
 */
export function findsByKey({ text }: SourceStatement, keys: UniqueKeys): boolean {
  const table = /(?: from|^update) (\w+)/.exec(text)?.[1] ?? '';
  if (/ (join|union) /.test(text)) return false;
  const given = new Set(
    [...text.matchAll(/(?:where|and) (?:\w\.)?(\w+) (?:=|in) (?:\(?\?|\d)/g)].map(([, column]) => column),
  );
  return (keys.get(table) ?? []).some((columns) => columns.every((column) => given.has(column)));
}

const literal = /(`|'|")\s*(\(?(?:select|update|delete|with)\b(?:\\.|(?!\1)[^\\])*)\1/g;
const parameter = /\$\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\}|\?/g;

/** Every statement that reads a table in the sources of the services, except tests and migrations. */
export function statementsInSources(): SourceStatement[] {
  const files = globSync('services/**/*.ts', {
    exclude: [
      '**/node_modules/**',
      '**/*.test.ts',
      '**/*.bench.ts',
      '**/testbed.ts',
      'services/runtime/testing/**',
      '**/observe.ts',
      '**/migrations/**',
      'services/acquirer/**',
    ],
  });
  return files.sort().flatMap((file) =>
    [...readFileSync(file, 'utf8').matchAll(literal)].flatMap(([, , found = '']) => {
      // A nested template ends the match early.
      const text = found
        .replace(/\s+/g, ' ')
        .replace(/\$\{[^}]*$/, '')
        .trim();
      if (!/ from | set /.test(text)) return [];
      const parts = text.split(parameter).map((part) => part.trim().replace(/[.*+?^${}()|[\]\\]/g, '\\$&'));
      return [{ file, text, pattern: new RegExp(parts.join('.*'), 'i') }];
    }),
  );
}
