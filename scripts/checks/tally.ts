import { Parser, type Result } from 'tap-parser';

/** One assertion that failed, with the names of the tests around it, outermost first. */
export interface Failure {
  path: string[];
  diagnostics: Record<string, unknown> | undefined;
}

/** How one test file ended. */
export interface FileResult {
  name: string;
  passed: number;
  failures: Failure[];
  timeMs: number | undefined;
  /** What the file wrote besides its results. */
  output: string;
}

/**
 * Reads tap's own output and counts assertions. Skipped ones and those marked as still to be done are neither
 * passed nor failed. A test that ends badly without a failed assertion (a timeout, a crash) counts as one failure.
 * `whenOneFails` is told of a failed assertion inside a file at once, long before its file ends.
 */
export function tally(
  whenFileEnds: (file: FileResult) => void,
  whenOneFails: (failure: Failure) => void = () => undefined,
): Parser {
  const parser = new Parser({ strict: false });
  let file: FileResult | undefined;
  parser.on('child', (child: Parser) => {
    file = { name: '', passed: 0, failures: [], timeMs: undefined, output: '' };
    follow(child, [], file, whenOneFails);
  });
  parser.on('assert', (point: Result) => {
    const result = file ?? { name: point.name, passed: 0, failures: [], timeMs: undefined, output: '' };
    file = undefined;
    result.name = point.name;
    result.timeMs = typeof point.time === 'number' ? point.time : undefined;
    if (!point.ok && !excused(point) && result.failures.length === 0) result.failures.push(failureOf([], point));
    whenFileEnds(result);
  });
  return parser;
}

function follow(parser: Parser, path: string[], file: FileResult, whenOneFails: (failure: Failure) => void): void {
  let failuresBefore: number | undefined;
  parser.on('child', (child: Parser) => {
    failuresBefore = file.failures.length;
    follow(child, [...path, child.name], file, whenOneFails);
  });
  parser.on('assert', (point: Result) => {
    const closes = failuresBefore !== undefined;
    const alreadyCounted = closes && file.failures.length > failuresBefore!;
    failuresBefore = undefined;
    if (excused(point) || alreadyCounted) return;
    if (!point.ok) {
      const failure = failureOf(path, point);
      file.failures.push(failure);
      whenOneFails(failure);
    } else if (!closes) file.passed++;
  });
  parser.on('extra', (text: string) => {
    file.output += text;
  });
}

function excused(point: Result): boolean {
  return Boolean(point.skip || point.todo);
}

function failureOf(path: string[], point: Result): Failure {
  return { path: [...path, point.name].filter(Boolean), diagnostics: point.diag || undefined };
}

/** How tap ran a file and what it calls things inside: nothing that helps to find a fault. */
const runnersOwn = [
  'args',
  'command',
  'cwd',
  'env',
  'errno',
  'externalID',
  'jobId',
  'stdio',
  'tapCaller',
  'tapCaught',
  'test',
];

/** A failure as a person reads it: where, what differed, and the line of the test. */
export function describe(failure: Failure): string {
  const { diff, at, source, stack, ...rest } = failure.diagnostics ?? {};
  const place = at as { fileName?: string; lineNumber?: number } | undefined;
  const facts = Object.entries(rest).filter(([name, value]) => value !== undefined && !runnersOwn.includes(name));
  const parts = [
    `not ok: ${failure.path.join(' > ')}`,
    place?.fileName ? `at ${place.fileName}:${place.lineNumber}` : undefined,
    typeof source === 'string' ? source : undefined,
    typeof diff === 'string' ? diff : undefined,
    ...facts.map(([name, value]) => `${name}: ${typeof value === 'string' ? value : JSON.stringify(value)}`),
    typeof stack === 'string' && !place?.fileName ? stack : undefined,
  ];
  return parts
    .filter((part): part is string => Boolean(part))
    .map((part) => part.trimEnd())
    .join('\n')
    .slice(0, 6_000)
    .replace(/^/gm, '       ');
}
