// Checks that docs/runtime.md describes every public entry of the runtime, names only exports that exist, and says which
// entries services, clients and tools import.
import { existsSync, globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { repository } from '../scripts/devmesh/state.ts';
import { imports } from './support/source-file.ts';

const runtime = join(repository, 'services/runtime');

/** The sections of the page by the entry in their heading, with the exports in the first column of their table. */
export function sectionsOf(page: string): Map<string, string[]> {
  const sections = page.split(/^## `@armature\/runtime/m).slice(1);
  return new Map(
    sections.map((section) => {
      const entry = `.${section.slice(0, section.indexOf('`'))}`;
      const names = [...section.matchAll(/^\| (`[^|]+) \|/gm)].flatMap(([, cell]) =>
        [...cell!.matchAll(/`(\w+)`/g)].map((match) => match[1]!),
      );
      return [entry, names];
    }),
  );
}

/** What is missing on the page, and what it names that does not exist. */
export function entryProblems(
  sections: ReadonlyMap<string, readonly string[]>,
  entries: Readonly<Record<string, string>>,
  exports: (file: string, name: string) => boolean,
): string[] {
  const missing = Object.keys(entries).filter((entry) => !sections.has(entry));
  return [
    ...missing.map((entry) => `docs/runtime.md has no section on @armature/runtime${entry.slice(1)}; write one`),
    ...[...sections].flatMap(([entry, names]) => {
      const file = entries[entry];
      if (!file) return [`docs/runtime.md describes @armature/runtime${entry.slice(1)}, which is no entry; remove it`];
      if (names.length === 0) return [`docs/runtime.md names no export of @armature/runtime${entry.slice(1)}`];
      return names
        .filter((name) => !exports(file, name))
        .map((name) => `docs/runtime.md names ${name}, which @armature/runtime${entry.slice(1)} does not export`);
    }),
  ];
}

/** Who imports entries of the runtime in production files, as the table of users names them. */
const users: Readonly<Record<string, { files: string; not?: string }>> = {
  services: { files: 'services/**/*.ts', not: 'services/runtime/' },
  clients: { files: 'clients/**/*.ts' },
  'tools (`scripts/`)': { files: 'scripts/**/*.ts' },
};
const root = '@armature/runtime';

/** The table of users: the entries of each row, in alphabetical order. */
function usersOf(page: string): Record<string, string[]> {
  const [, table = ''] = /^\| users \| entries \|\n\| --- \| --- \|\n((?:\|.*\n)+)/m.exec(page) ?? [];
  const rows = [...table.matchAll(/^\| (.+?) \| (.+) \|$/gm)];
  const entriesOf = (cell: string) => [...cell.matchAll(/`([^`]+)`/g)].map(([, entry]) => entry!);
  return Object.fromEntries(rows.map(([, name, cell]) => [name!, entriesOf(cell!).sort()]));
}

/** The entries that files import, in alphabetical order. */
function entriesImported(texts: readonly string[]): string[] {
  const specifiers = texts.flatMap(imports).filter((one) => one === root || one.startsWith(`${root}/`));
  return [...new Set(specifiers.map((one) => (one === root ? root : one.slice(root.length + 1))))].sort();
}

/** The texts of production files: no tests, and no testbeds beside the code. */
function productionTexts({ files, not }: { files: string; not?: string }): string[] {
  return globSync(files, { cwd: repository, exclude: (name) => name === 'node_modules' })
    .filter((path) => !/(\.test\.ts|\/testbed\.ts)$/.test(path) && !(not && path.startsWith(not)))
    .map((path) => readFileSync(join(repository, path), 'utf8'));
}

/** Whether a module exports a name, by its text; follows `export * from`. */
function exportsName(file: string, name: string): boolean {
  const path = join(runtime, file);
  if (!existsSync(path)) return false;
  const text = readFileSync(path, 'utf8').replace(/\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gm, '');
  const listed = [...text.matchAll(/export (?:type )?\{([^}]*)\}/g)].flatMap((match) => match[1]!.split(','));
  if (
    listed.some(
      (one) =>
        one
          .trim()
          .replace(/^type /, '')
          .split(' as ')
          .at(-1) === name,
    )
  )
    return true;
  if (new RegExp(`export (async )?(function|const|class|interface|type) ${name}\\b`).test(text)) return true;
  return [...text.matchAll(/export \* from '(\.[^']+)'/g)].some((match) =>
    exportsName(join(file, '..', match[1]!), name),
  );
}

t.test('a page that differs from the entries', async (t) => {
  const page = '# x\n\n## `@armature/runtime/a`\n\n| export | |\n| --- | --- |\n| `one`, `two` | x |\n';
  const sections = sectionsOf(page);
  t.strictSame([...sections], [['./a', ['one', 'two']]]);
  const one = (_file: string, name: string) => name === 'one';
  t.strictSame(
    entryProblems(sections, { './a': './a/index.ts', './b': './b/index.ts' }, () => true),
    ['docs/runtime.md has no section on @armature/runtime/b; write one'],
  );
  t.match(entryProblems(sections, { './a': './a/index.ts' }, one), [/names two/]);
  t.match(entryProblems(sections, {}, one), [/describes @armature\/runtime\/a/]);
});

t.test('docs/runtime.md describes the entries of the runtime', async (t) => {
  const { exports } = JSON.parse(readFileSync(join(runtime, 'package.json'), 'utf8')) as {
    exports: Record<string, string>;
  };
  const sections = sectionsOf(readFileSync(join(repository, 'docs/runtime.md'), 'utf8'));
  t.ok(sections.size > 20, `${sections.size} sections`);
  t.strictSame(entryProblems(sections, exports, exportsName), []);
});

t.test('reads the table of users, and imports', async (t) => {
  const page =
    'x\n\n| users | entries |\n| --- | --- |\n| services | `@armature/runtime`, `b`, `a` |\n| tests only | `c` |\n\ny';
  t.strictSame(usersOf(page), { services: ['@armature/runtime', 'a', 'b'], 'tests only': ['c'] });
  const text = ['', '/b', '/a'].map((entry) => `import { x } from '${root}${entry}';`).join('\n');
  t.strictSame(entriesImported([text, text, "import '@armature/other';"]), ['@armature/runtime', 'a', 'b']);
});

t.test('the table of users in docs/runtime.md is what production files import', async (t) => {
  const { exports } = JSON.parse(readFileSync(join(runtime, 'package.json'), 'utf8')) as {
    exports: Record<string, string>;
  };
  const imported = Object.entries(users).map(([name, files]) => {
    const texts = productionTexts(files);
    t.ok(texts.length > 10, `${texts.length} files of ${name}`);
    return [name, entriesImported(texts)] as const;
  });
  const used = new Set(imported.flatMap(([, entries]) => entries));
  const all = Object.keys(exports).map((entry) => (entry === '.' ? root : entry.slice(2)));
  const tests = all.filter((entry) => !used.has(entry)).sort();
  const documented = usersOf(readFileSync(join(repository, 'docs/runtime.md'), 'utf8'));
  t.strictSame(documented, { ...Object.fromEntries(imported), 'tests only': tests });
});
