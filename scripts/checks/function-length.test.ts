import t from 'tap';
import { growthProblems, lengthProblems, longFunctionsOf, shrunk, suppressions } from './function-length.ts';

const finding = (path: string, lines: number) => ({
  message: `This function has too many lines (${lines}). Maximum allowed is 70.`,
  category: 'lint/complexity/noExcessiveLinesPerFunction',
  location: { path },
});

t.test('counts the findings of biome by file', async (t) => {
  const report = { diagnostics: [finding('a.ts', 80), finding('b.ts', 71), finding('a.ts', 90)] };
  t.strictSame(longFunctionsOf(report), {
    'a.ts': { functions: 2, longest: 90 },
    'b.ts': { functions: 1, longest: 71 },
  });
  t.throws(
    () => longFunctionsOf({ diagnostics: [{ ...finding('a.ts', 80), message: 'too long' }] }),
    /without a number/,
  );
});

t.test('the list can only shrink', async (t) => {
  const listed = { 'a.ts': { functions: 2, longest: 90 } };
  for (const { name, found, problem } of [
    { name: 'equal', found: listed, problem: null },
    {
      name: 'a file that is not listed',
      found: { ...listed, 'b.ts': { functions: 1, longest: 71 } },
      problem: /^b\.ts: 1 f.*Split it/,
    },
    { name: 'one function more', found: { 'a.ts': { functions: 3, longest: 90 } }, problem: /^a\.ts: 3 f.*Split it/ },
    { name: 'a longer function', found: { 'a.ts': { functions: 2, longest: 91 } }, problem: /^a\.ts: 2 f.*Split it/ },
    { name: 'one function less', found: { 'a.ts': { functions: 1, longest: 90 } }, problem: /^a\.ts: 1 f.*write/ },
    { name: 'a shorter function', found: { 'a.ts': { functions: 2, longest: 89 } }, problem: /^a\.ts: 2 f.*write/ },
    { name: 'no long function any more', found: {}, problem: /^a\.ts: no f.*remove the file/ },
  ]) {
    const problems = lengthProblems(found, listed);
    if (problem === null) t.strictSame(problems, [], name);
    else t.match(problems, [problem], name);
  }
});

t.test('the list allows no more than that of main', async (t) => {
  const main = { 'a.ts': { functions: 2, longest: 90 }, 'b.ts': { functions: 1, longest: 75 } };
  for (const { name, listed, problem } of [
    { name: 'equal', listed: main, problem: null },
    { name: 'smaller', listed: { 'a.ts': { functions: 1, longest: 80 } }, problem: null },
    {
      name: 'a new file',
      listed: { 'c.ts': { functions: 1, longest: 82 } },
      problem: /^c\.ts: .*does not name the file/,
    },
    {
      name: 'a longer function',
      listed: { 'a.ts': { functions: 1, longest: 91 } },
      problem: /^a\.ts: .*main allows 2 f/,
    },
    { name: 'one more', listed: { 'b.ts': { functions: 2, longest: 75 } }, problem: /^b\.ts: .*main allows 1 f/ },
  ]) {
    const problems = growthProblems(listed, main);
    if (problem === null) t.strictSame(problems, [], name);
    else t.match(problems, [problem], name);
  }
});

t.test('finds comments that suppress the rule', async (t) => {
  // In halves, since this file is checked too.
  const ignore = ['biome', 'ignore'].join('-');
  for (const [comment, found] of [
    [`// ${ignore} lint/complexity/noExcessiveLinesPerFunction: a table`, true],
    [`/* ${ignore} lint/complexity/noExcessiveLinesPerFunction(x): a table */`, true],
    [`// ${ignore}-all lint/complexity: long`, true],
    [`  // ${ignore}-start lint: long`, true],
    [`// ${ignore} lint/suspicious/noExplicitAny lint/complexity: both`, true],
    [`// ${ignore} lint/suspicious/noExplicitAny: rows of any shape, see lint`, false],
    [`// ${ignore} lint/complexity/useLiteralKeys: reads well`, false],
    ['const lines = 1;', false],
  ] as const) {
    t.strictSame(suppressions(`const x = 1;\n${comment}\n`), found ? [2] : [], comment.replace(ignore, ''));
  }
});

t.test('--shrink lowers entries and adds none', async (t) => {
  const listed = { 'a.ts': { functions: 2, longest: 90 }, 'b.ts': { functions: 1, longest: 75 } };
  const found = { 'a.ts': { functions: 1, longest: 95 }, 'c.ts': { functions: 1, longest: 71 } };
  t.strictSame(shrunk(found, listed), { 'a.ts': { functions: 1, longest: 90 } });
});
