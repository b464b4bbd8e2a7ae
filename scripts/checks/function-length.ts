// Checks that no function has more than 70 lines, except those of long-functions.json. That list can only shrink: the
// check also fails where a file has fewer or shorter long functions than the list says; `--shrink` lowers the list to that.
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { repository } from '../devmesh/state.ts';

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
  const none: LongFunctions = { functions: 0, longest: 0 };
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

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
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
  const problems = lengthProblems(found, listed);
  for (const problem of problems) console.error(problem);
  process.exitCode = problems.length > 0 ? 1 : 0;
}
