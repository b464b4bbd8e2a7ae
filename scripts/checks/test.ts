// Runs the tests on private servers of their own. The last line is the count of assertions.
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { testServers } from '../../test/support/infra.ts';
import { long } from '../../test/support/tier.ts';
import { terminalProgress } from '../devmesh/progress.ts';
import { compileCacheOf, openTestState, repository, runDirectory, writeAtomically } from '../devmesh/state.ts';
import { runsDirectory, stopEverything, stopInner } from '../devmesh/stop.ts';
import { type FileResult, runFiles } from './pool.ts';
import { describe } from './tally.ts';
import { testFiles } from './test-files.ts';

/** One more than the cores of the smallest machine: tests of single parts often wait for a server. */
const jobs = 3;
const fileTimeoutSeconds = long ? 1_800 : 300;

const counts = { files: 0, passed: 0, failed: 0 };
const durations: { name: string; seconds: number }[] = [];
const failures: { file: string; test: string }[] = [];
const slowestShown = 10;
const state = openTestState();
const stopping = new AbortController();

function report({ name, passed, failures: failed, seconds, output }: FileResult): void {
  counts.files++;
  counts.passed += passed;
  counts.failed += failed.length;
  durations.push({ name, seconds });
  const failedText = failed.length > 0 ? `, ${failed.length} failed` : '';
  console.log(`  ${failed.length > 0 ? '!!' : 'ok'} ${name} (${passed} passed${failedText}, ${seconds.toFixed(1)} s)`);
  for (const failure of failed) {
    console.log(describe(failure));
    failures.push({ file: name, test: failure.path.join(' > ') });
  }
  if (failed.length > 0 && output.trim())
    console.log(`       its output:\n${output.slice(-4_000).replace(/^/gm, '       | ')}`);
}

async function main(): Promise<void> {
  const files = testFiles(process.argv.slice(2), { long });
  let startedHere = true;
  try {
    ({ started: startedHere } = await testServers(terminalProgress()));
    // What one test file has compiled, the next need not: the same as services are given.
    const env = {
      ...process.env,
      PATH: `${join(repository, 'node_modules', '.bin')}:${process.env.PATH}`,
      NODE_COMPILE_CACHE: compileCacheOf(state),
    };
    await runFiles(files, {
      ...{ jobs, env, fileTimeoutSeconds, graceSeconds: 15 },
      stopping: stopping.signal,
      whenFileEnds: report,
    });
  } finally {
    await stopInner(state);
    rmSync(runsDirectory(state), { recursive: true, force: true });
    // Servers that a single test file had started stay for its next run.
    if (startedHere) await stopEverything(state);
  }
}

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => {
    console.error(`\n${signal}: stopping the tests and their servers`);
    stopping.abort();
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
process.exitCode = counts.failed > 0 || counts.passed === 0 || stopping.signal.aborted ? 1 : 0;
