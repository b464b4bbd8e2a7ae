// Checks everything that needs no servers, all at once: types, style, contracts, house rules, lists of services.
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { repository } from '../devmesh/state.ts';
import { describe, tally } from './tally.ts';

interface Check {
  name: string;
  command: string;
  args: string[];
  /** Makes of the output what a person needs; all of it otherwise. */
  explain?: (output: string) => string;
}

const mostLinesShown = 150;

const bin = (name: string) => join(repository, 'node_modules', '.bin', name);

const checks: Check[] = [
  { name: 'types', command: bin('tsc'), args: ['-p', 'tsconfig.json'] },
  { name: 'style', command: bin('biome'), args: ['ci', '--colors=off', '--diagnostic-level=error', '.'] },
  { name: 'function length', command: process.execPath, args: ['scripts/checks/function-length.ts'] },
  { name: 'contracts', command: bin('buf'), args: ['lint'] },
  { name: 'contracts against main', command: process.execPath, args: ['scripts/checks/breaking.ts'] },
  { name: 'house rules', command: process.execPath, args: ['test/tidy.test.ts'], explain: failuresOf },
  { name: 'documents', command: process.execPath, args: ['test/docs.test.ts'], explain: failuresOf },
  { name: 'figures of documents', command: process.execPath, args: ['test/docs.figures.test.ts'], explain: failuresOf },
  { name: 'services at every place', command: process.execPath, args: ['scripts/checks/services.ts'] },
];

/** What failed in the output of a tap test file. */
function failuresOf(output: string): string {
  const { parser, result } = tally();
  parser.end(output);
  return result.failures.map(describe).join('\n') || output;
}

async function run({ name, command, args, explain = (output) => output }: Check): Promise<boolean> {
  const start = performance.now();
  const child = spawn(command, args, { cwd: repository, stdio: ['ignore', 'pipe', 'pipe'] });
  const output: Buffer[] = [];
  child.stdout.on('data', (chunk) => output.push(chunk));
  child.stderr.on('data', (chunk) => output.push(chunk));
  const code = await new Promise((resolve) => {
    child.once('error', (error) => {
      output.push(Buffer.from(error.message));
      resolve(1);
    });
    child.once('close', resolve);
  });
  const seconds = ((performance.now() - start) / 1000).toFixed(1);
  console.log(`  ${code === 0 ? 'ok' : '!!'} ${name} (${seconds} s)`);
  if (code !== 0) console.log(shortened(explain(Buffer.concat(output).toString())));
  return code === 0;
}

function shortened(text: string): string {
  const lines = text.trimEnd().split('\n');
  if (lines.length <= mostLinesShown) return lines.join('\n');
  return [...lines.slice(0, mostLinesShown), `(${lines.length - mostLinesShown} more lines)`].join('\n');
}

const results = await Promise.all(checks.map(run));
const failed = results.filter((ok) => !ok).length;
console.log(failed === 0 ? 'All checks pass.' : `${failed} of ${checks.length} checks failed.`);
process.exitCode = failed === 0 ? 0 : 1;
