// Compares the figures that documents quote with the code, by the list in docs.figures.txt.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { repository } from '../scripts/devmesh/state.ts';
import { documentOf, linksOf, read } from './support/documents.ts';
import { figureProblems, figuresIn, figureValue, readFigures, withoutRow } from './support/figures.ts';

const list = readFigures(read('test/docs.figures.txt'));

t.test('the figures of documents are those of the code, and all are in the list', async (t) => {
  t.ok(list.size >= 8, `${list.size} documents`);
  for (const [path, rows] of list) {
    t.ok(rows.length > 0, `${path}: ${rows.length} rows`);
    const { prose } = documentOf(path, read(path));
    const codeOf = (file: string) => (existsSync(join(repository, file)) ? read(file) : undefined);
    t.strictSame(figureProblems(path, prose, rows, codeOf), []);
  }
});

t.test('the table of limits links the files that its figures come from', async (t) => {
  const page = documentOf('ARCHITECTURE.md', read('ARCHITECTURE.md'));
  const links = linksOf(page);
  const lines = page.prose.split('\n');
  let checked = 0;
  for (const { words, source } of list.get('ARCHITECTURE.md')!) {
    const line = lines.findIndex((text) => text.startsWith('| ') && text.includes(words.replace(/[{}]/g, ''))) + 1;
    const linked = links.filter((link) => link.line === line).map(({ target }) => target);
    if (!source || linked.length === 0) continue;
    checked += 1;
    t.ok(linked.includes(source.file), `ARCHITECTURE.md:${line} links ${source.file}`);
  }
  t.ok(checked > 80, `${checked} figures`);
});

t.test('values', async (t) => {
  const rows: [string, number][] = [
    ['4 MiB', 4_194_304],
    ['0.5 s', 500],
    ['half a minute', 30_000],
    ['ten minutes', 600_000],
    ['a second', 1_000],
    ['1,000', 1_000],
    ['10^11', 1e11],
    ['7 days', 604_800_000],
    ['16 Mi characters', 16_777_216],
    ['70 %', 0.7],
    ['five', 5],
  ];
  for (const [text, value] of rows) t.equal(figureValue(text), value, text);
});

t.test('what differs is found', async (t) => {
  const page = 'It waits 5 s, three times.\n\n## Limits\n\n| what | value |\n| --- | --- |\n| page | 200 |\n';
  const [rows] = readFigures(
    'x.md\n  It waits {5 s}, <- a.ts <- waitMs = {5_000}\n  | page | {200} | <- a.ts <- page: {200}\n',
  ).values();
  const code = 'const waitMs = 5_000;\nconst limits = { page: 200 };';
  const problems = (text: string, changed = code, changedRows = rows!) =>
    figureProblems('x.md', text, changedRows, (file) => (file === 'a.ts' ? changed : undefined));
  t.strictSame(problems(page), []);
  t.match(problems(page, code.replace('5_000', '6_000')), [/^x\.md: .*a\.ts has no "waitMs = 5_000"/]);
  t.match(problems(page.replace('5 s', '6 s')), [/no "It waits 5 s,"/, /`6 s` .* is not in test\/docs\.figures\.txt/]);
  t.match(problems(page, code, withoutRow(rows!, 1)), [/`200` .* is not in/]);
  const wrong = [...readFigures('x.md\n  It waits {5 s}, <- a.ts <- page: {200}\n').values()][0]!;
  t.match(problems(page, code, [...wrong, rows![1]!]), [/5 s is not 200/]);
  t.strictSame(
    figuresIn('A 5 s and 1,024 characters; half a minute, a second.').map(({ text }) => text),
    ['5 s', '1,024 characters', 'half a minute', 'a second'],
  );
});
