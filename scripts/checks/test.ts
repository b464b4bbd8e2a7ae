// Runs the tests on private servers of their own. The last line is the count of assertions.
import { type ChildProcess, spawn } from 'node:child_process';
import { globSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { testServers } from '../../test/support/infra.ts';
import { long } from '../../test/support/tier.ts';
import { endGroup } from '../devmesh/processes.ts';
import { terminalProgress } from '../devmesh/progress.ts';
import { compileCacheOf, openTestState, repository, runDirectory, writeAtomically } from '../devmesh/state.ts';
import { runsDirectory, stopEverything, stopInner } from '../devmesh/stop.ts';
import { describe, type FileResult, tally } from './tally.ts';

const jobs = 2;
const fileTimeoutSeconds = long ? 1_800 : 300;

const counts = { files: 0, passed: 0, failed: 0 };
const durations: { name: string; seconds: number }[] = [];
const failures: { file: string; test: string }[] = [];
const slowestShown = 10;
const state = openTestState();
let tests: ChildProcess | undefined;
let interrupted: NodeJS.Signals | undefined;

function testFiles(): string[] {
  const asked = process.argv.slice(2);
  if (asked.length > 0) return asked;
  // Taking surroundings away takes minutes of waiting: `armature faults` and `armature prove` do that.
  const skipped = ['node_modules', '.tap', 'dist', 'gen', ...(long ? [] : ['faults'])];
  return globSync('**/*.test.ts', {
    cwd: repository,
    exclude: (name) => skipped.includes(name) || name.startsWith('.run'),
  }).sort();
}

function report(file: FileResult): void {
  counts.files++;
  counts.passed += file.passed;
  counts.failed += file.failures.length;
  const seconds = file.timeMs === undefined ? '' : `, ${(file.timeMs / 1000).toFixed(1)} s`;
  durations.push({ name: file.name, seconds: (file.timeMs ?? 0) / 1000 });
  const failed = file.failures.length > 0;
  console.log(
    `  ${failed ? '!!' : 'ok'} ${file.name} (${file.passed} passed${failed ? `, ${file.failures.length} failed` : ''}${seconds})`,
  );
  for (const failure of file.failures) {
    console.log(describe(failure));
    failures.push({ file: file.name, test: failure.path.join(' > ') });
  }
  if (failed && file.output.trim())
    console.log(`       its output:\n${file.output.slice(-4_000).replace(/^/gm, '       | ')}`);
}

/** Runs tap in a process group of its own, so that whatever a test leaves behind can be ended with it. */
async function runTap(files: string[]): Promise<number> {
  const options = ['--disable-coverage', '--reporter=tap', `--jobs=${jobs}`, `--timeout=${fileTimeoutSeconds}`];
  const tap = join(repository, 'node_modules', '.bin', 'tap');
  const env = {
    ...process.env,
    PATH: `${join(repository, 'node_modules', '.bin')}:${process.env.PATH}`,
    // What one test file has compiled, the next need not: the same as services are given.
    NODE_COMPILE_CACHE: compileCacheOf(state),
  };
  tests = spawn(process.execPath, [tap, 'run', ...options, ...files], {
    cwd: repository,
    env,
    detached: true,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const parser = tally(report);
  tests.stdout!.on('data', (chunk: Buffer) => parser.write(chunk));
  return new Promise((resolve, reject) => {
    tests!.once('error', reject);
    tests!.once('close', (code) => {
      parser.end();
      resolve(code ?? 1);
    });
  });
}

/** Ends every process that the tests have left in their group. */
async function endTests(): Promise<void> {
  if (tests?.pid !== undefined) await endGroup(tests.pid);
}

async function main(): Promise<void> {
  const files = testFiles();
  let startedHere = true;
  try {
    ({ started: startedHere } = await testServers(terminalProgress()));
    if (!interrupted && (await runTap(files)) !== 0 && counts.failed === 0) {
      console.error('tap ended with an error although no assertion failed');
      counts.failed++;
    }
  } finally {
    await endTests();
    await stopInner(state);
    rmSync(runsDirectory(state), { recursive: true, force: true });
    // Servers that a single test file had started stay for its next run.
    if (startedHere) await stopEverything(state);
  }
}

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => {
    interrupted ??= signal;
    console.error(`\n${signal}: stopping the tests and their servers`);
    void endTests();
  });
}

const start = performance.now();
try {
  await main();
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  counts.failed++;
}
if (counts.passed + counts.failed === 0) console.error('No test ran.');
if (counts.files > slowestShown) {
  const slowest = durations.sort((a, b) => b.seconds - a.seconds).slice(0, slowestShown);
  console.log(`slowest: ${slowest.map(({ name, seconds }) => `${name} ${seconds.toFixed(0)} s`).join(', ')}`);
}
const seconds = Math.round((performance.now() - start) / 1000);
// For `--json` of the commands that run tests.
writeAtomically(
  join(runDirectory(), 'tests.json'),
  JSON.stringify({ ...counts, seconds, failures, durations }, null, 2),
);
console.log(`${counts.files} files in ${seconds} s`);
console.log(`${counts.passed} passed, ${counts.failed} failed`);
process.exitCode = counts.failed > 0 || counts.passed === 0 || interrupted ? 1 : 0;
