import { type FinalResults, Parser, type Result } from 'tap-parser';

/** One assertion that failed, with the names of the tests around it, outermost first. */
export interface Failure {
  path: string[];
  diagnostics: Record<string, unknown> | undefined;
}

/** Results of one test file so far. */
export interface Tally {
  passed: number;
  failures: Failure[];
  /** What the file wrote besides its results. */
  output: string;
}

/** How the process of a test file ended. */
export interface FileEnd {
  code: number | null;
  signal: NodeJS.Signals | null;
  /** Why the process was ended from outside, if it was. */
  reason?: string;
}

/**
 * Reads the TAP output of one test file and counts its assertions. Skipped assertions and those marked as todo count as
 * neither passed nor failed. A test that ends badly without a failed assertion (a timeout, a crash) counts as one
 * failure. `whenOneFails` is called at once for each failed assertion.
 */
export function tally(whenOneFails: (failure: Failure) => void = () => undefined): {
  parser: Parser;
  result: Tally;
  /** Ends the parser. A file that ended badly, or ran no test, has at least one failure afterwards. */
  end(ended: FileEnd): Tally;
} {
  const parser = new Parser({ strict: false });
  const result: Tally = { passed: 0, failures: [], output: '' };
  let complete: FinalResults | undefined;
  follow(parser, [], result, whenOneFails);
  parser.on('complete', (results: FinalResults) => {
    complete = results;
  });
  return {
    parser,
    result,
    end(ended) {
      parser.end();
      const badEnd = howItEndedBadly(ended, complete);
      if (badEnd && result.failures.length === 0) result.failures.push({ path: [badEnd], diagnostics: undefined });
      return result;
    },
  };
}

function howItEndedBadly({ code, signal, reason }: FileEnd, results: FinalResults | undefined): string | undefined {
  if (reason !== undefined) return reason;
  if (code !== 0) return `ended by ${signal ?? `code ${code}`}`;
  if (!results || (results.count === 0 && !/^skip/i.test(results.plan.skipReason))) return 'no test ran';
  if (results.ok) return undefined;
  return results.failures.map((one) => String('tapError' in one ? one.tapError : one)).join('; ') || 'not ok';
}

function follow(parser: Parser, path: string[], file: Tally, whenOneFails: (failure: Failure) => void): void {
  let failuresBefore: number | undefined;
  parser.on('child', (child: Parser) => {
    failuresBefore = file.failures.length;
    follow(child, [...path, child.name], file, whenOneFails);
  });
  parser.on('assert', (point: Result) => {
    const closes = failuresBefore !== undefined;
    const alreadyCounted = closes && file.failures.length > failuresBefore!;
    failuresBefore = undefined;
    if (point.skip || point.todo || alreadyCounted) return;
    if (!point.ok) {
      const failure = { path: [...path, point.name].filter(Boolean), diagnostics: point.diag || undefined };
      file.failures.push(failure);
      whenOneFails(failure);
    } else if (!closes) file.passed++;
  });
  parser.on('extra', (text: string) => {
    file.output += text;
  });
}

/** Diagnostics of tap's own, which do not help to find a fault. */
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
