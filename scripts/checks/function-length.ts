// Checks that no function has more than 70 lines, except those of long-functions.json. That list can only shrink: the
// check also fails where a file has fewer or shorter long functions than the list says (`--shrink` lowers the list to
// that), where the list allows more than the list of the branch main, and where a comment suppresses the rule.
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { repository } from '../devmesh/state.ts';
import { commitNamed, git, mainBranches } from './archive.ts';

/** The long functions of a file: how many there are, and the lines of the longest. */
export interface LongFunctions {
  readonly functions: number;
  readonly longest: number;
}

export type LongFunctionsByFile = Readonly<Record<string, LongFunctions>>;

interface BiomeReport {
  diagnostics: { message: string; category: string; location: { path: string } }[];
}

const rule = 'complexity/noExcessiveLinesPerFunction';
const listFile = 'scripts/checks/long-functions.json';
const none: LongFunctions = { functions: 0, longest: 0 };

/** Groups biome's findings by file. */
export function longFunctionsOf({ diagnostics }: BiomeReport): LongFunctionsByFile {
  const byFile: Record<string, LongFunctions> = {};
  for (const { message, location } of diagnostics) {
    const lines = Number(/too many lines \((\d+)\)/.exec(message)?.[1]);
    if (!Number.isInteger(lines))
      throw new Error(`biome reports ${location.path} without a number of lines: ${message}`);
    const { functions, longest } = byFile[location.path] ?? { functions: 0, longest: 0 };
    byFile[location.path] = { functions: functions + 1, longest: Math.max(longest, lines) };
  }
  return byFile;
}

/** Compares the findings with the list, in both directions. Returns one sentence for each difference. */
export function lengthProblems(found: LongFunctionsByFile, listed: LongFunctionsByFile): string[] {
  return [...new Set([...Object.keys(found), ...Object.keys(listed)])].sort().flatMap((file) => {
    const is = found[file] ?? none;
    const allowed = listed[file] ?? none;
    if (is.functions > allowed.functions || is.longest > allowed.longest) {
      const limit = allowed === none ? '' : `; ${listFile} allows ${describe(allowed)}`;
      return [`${file}: ${describe(is)}${limit}. Split it: the limit is 70 lines`];
    }
    if (is.functions < allowed.functions || is.longest < allowed.longest) {
      const entry = is.functions === 0 ? 'remove the file' : `write ${JSON.stringify(is)}`;
      return [`${file}: ${describe(is)}, ${listFile} says ${describe(allowed)}: ${entry} there`];
    }
    return [];
  });
}

/** Compares the list with that of the branch main. Returns one sentence for each entry that is new or larger. */
export function growthProblems(listed: LongFunctionsByFile, main: LongFunctionsByFile): string[] {
  return Object.entries(listed).flatMap(([file, now]) => {
    const before = main[file] ?? none;
    if (now.functions <= before.functions && now.longest <= before.longest) return [];
    const allowed = before === none ? 'does not name the file' : `allows ${describe(before)}`;
    return [
      `${file}: ${listFile} allows ${describe(now)}, but that of main ${allowed}. Split it: the list only shrinks`,
    ];
  });
}

/** The lines of a text with a comment that suppresses the rule: by its own name, its group's, or all rules of biome. */
export function suppressions(text: string): number[] {
  return text.split('\n').flatMap((line, index) => {
    const [, suppressed = ''] = /biome-ignore(?:-all|-start)?\s+([^:]*)/.exec(line) ?? [];
    const all = suppressed.split(/\s+/).map((word) => word.replace(/\(.*/, ''));
    return all.some((word) => ['lint', 'lint/complexity', `lint/${rule}`].includes(word)) ? [index + 1] : [];
  });
}

/** One sentence for each suppression of the rule in the sources. */
function suppressionProblems(): string[] {
  const sources = ['*.ts', '*.mts', '*.js', '*.mjs', '*.cjs'];
  const { ok, output } = git(repository, 'ls-files', '-z', '-co', '--exclude-standard', ...sources);
  if (!ok) throw new Error(`git cannot list the files of ${repository}`);
  const files = output
    .toString()
    .split('\0')
    .filter((file) => file && existsSync(join(repository, file)));
  return files.flatMap((file) =>
    suppressions(readFileSync(join(repository, file), 'utf8')).map(
      (line) => `${file}:${line}: the limit of 70 lines cannot be suppressed. Split the function`,
    ),
  );
}

/** The list of the branch main. Undefined where there is no main here, or where it has no list. */
function listOfMain(): LongFunctionsByFile | undefined {
  const base = commitNamed(repository, mainBranches);
  const { ok, output } = base ? git(repository, 'show', `${base}:${listFile}`) : { ok: false, output: '' };
  return ok ? (JSON.parse(output.toString()) as LongFunctionsByFile) : undefined;
}

/** Lowers the entries of the list to what was found. Adds none and raises none. */
export function shrunk(found: LongFunctionsByFile, listed: LongFunctionsByFile): LongFunctionsByFile {
  return Object.fromEntries(
    Object.entries(listed).flatMap(([file, { functions, longest }]) => {
      const is = found[file];
      if (!is) return [];
      return [[file, { functions: Math.min(functions, is.functions), longest: Math.min(longest, is.longest) }]];
    }),
  );
}

const describe = ({ functions, longest }: LongFunctions): string =>
  functions === 0
    ? 'no function above 70 lines'
    : `${functions} ${functions === 1 ? 'function' : 'functions'} above 70 lines, the longest has ${longest}`;

if (import.meta.main) {
  const biome = join(repository, 'node_modules', '.bin', 'biome');
  const report = execFileSync(biome, ['lint', `--only=${rule}`, '--reporter=json', '--max-diagnostics=none', '.'], {
    cwd: repository,
    encoding: 'utf8',
    maxBuffer: 64 * 1024 * 1024,
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const found = longFunctionsOf(JSON.parse(report) as BiomeReport);
  const path = join(repository, listFile);
  let listed = JSON.parse(readFileSync(path, 'utf8')) as LongFunctionsByFile;
  if (process.argv.includes('--shrink')) {
    listed = shrunk(found, listed);
    writeFileSync(path, `${JSON.stringify(listed, null, 2)}\n`);
  }
  const main = listOfMain();
  const problems = [
    ...lengthProblems(found, listed),
    ...(main ? growthProblems(listed, main) : []),
    ...suppressionProblems(),
  ];
  for (const problem of problems) console.error(problem);
  process.exitCode = problems.length > 0 ? 1 : 0;
}
