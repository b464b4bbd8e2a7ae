// Mutation test: applies known bugs to a copy of the repository and checks that a test catches each. ONLY= selects
// mutations by words of their names. The exit status is 1 if a mutation survives, or if its test cannot run.
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { writeTable } from '../../../scripts/cli/table.ts';
import { fail, terminalProgress } from '../../../scripts/devmesh/progress.ts';
import { openTestState, runDirectory, writeAtomically } from '../../../scripts/devmesh/state.ts';
import { stopEverything, stopInner } from '../../../scripts/devmesh/stop.ts';
import { testServers } from '../../support/infra.ts';
import type { Mutation } from './mutation.ts';
import { equivalentChanges, mutations } from './mutations.ts';
import { reportOf } from './report.ts';
import { makeScratch } from './scratch.ts';
import { detectorsOf, mustHold, type Trial, tryMutation, type Verdict } from './trial.ts';

const stopping = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => stopping.abort(new Error(`${signal}: stopped`)));
}

/** The mutations whose names contain one of the words; all if there are no words. Throws if none matches. */
function chosen(words: string): readonly Mutation[] {
  const wanted = words.split(',').filter((word) => word !== '');
  const found = mutations.filter(({ name }) => wanted.length === 0 || wanted.some((word) => name.includes(word)));
  if (found.length === 0)
    throw new Error(`no mutation matches ONLY; the names are: ${mutations.map(({ name }) => name)}`);
  return found;
}

async function main(): Promise<void> {
  const since = performance.now();
  const only = process.env.ONLY ?? '';
  const all = chosen(only);
  const reportFile = join(runDirectory(), 'mutants.json');
  const runDir = join(runDirectory(), 'mutants');
  // From here on, servers belong to this folder, also those of every test that is run.
  process.env.ARMATURE_RUN_DIR = runDir;
  const state = openTestState();
  const stop = async () => {
    await stopInner(state);
    await stopEverything(state, true);
  };
  // Stops servers of an earlier run that was killed.
  await stop();
  rmSync(runDir, { recursive: true, force: true });
  const progress = terminalProgress();
  try {
    mkdirSync(join(runDir, 'tmp'), { recursive: true });
    const scratch = makeScratch(join(runDir, 'copy'));
    const place = { copy: scratch.dir, runDir, stopping: stopping.signal };
    await testServers(progress);
    const record = (verdicts: readonly Verdict[]) => {
      const seconds = (performance.now() - since) / 1000;
      const report = reportOf(verdicts, { only, mutations: all.length, seconds });
      writeAtomically(reportFile, `${JSON.stringify(report, null, 2)}\n`);
    };
    // An earlier report must not be taken for that of a run that ends before its first mutation.
    record([]);
    const verdicts = await judge({ scratch, place, progress }, all, record);
    for (const line of table(verdicts)) console.log(line);
    const caught = verdicts.filter(({ kind }) => kind === 'caught').length;
    const seconds = ((performance.now() - since) / 1000).toFixed(0);
    console.log(`\n${caught} of ${verdicts.length} mutations caught, ${seconds} s in total; report: ${reportFile}`);
    process.exitCode = caught === verdicts.length ? 0 : 1;
  } finally {
    await stop();
    rmSync(runDir, { recursive: true, force: true });
  }
}

async function judge(
  trial: Trial,
  all: readonly Mutation[],
  record: (verdicts: readonly Verdict[]) => void,
): Promise<Verdict[]> {
  console.log('\nEvery test passes without a mutation:');
  await mustHold(trial, detectorsOf(all));
  for (const one of equivalentChanges) {
    console.log(`\n${one.name}: every test passes:`);
    trial.scratch.mutate(one);
    await mustHold(trial, detectorsOf([one]));
    trial.scratch.restore();
  }
  console.log('\nA test fails for each mutation:');
  const verdicts: Verdict[] = [];
  for (const mutation of all) {
    const verdict = await tryMutation(trial, mutation);
    verdicts.push(verdict);
    record(verdicts);
    const { kind, by, evidence, seconds } = verdict;
    console.log(`  ${kind === 'caught' ? 'ok' : '!!'} ${mutation.name}: ${kind} (${seconds.toFixed(1)} s)`);
    console.log(`${by}\n${evidence.trim()}`.replace(/^/gm, '       '));
  }
  return verdicts;
}

const table = (verdicts: readonly Verdict[]): string[] => [
  '',
  ...writeTable(
    [
      ['mutation', 'what it breaks', 'caught by', 'seconds'],
      ...verdicts.map(({ mutation: { name, breaks }, kind, by, seconds }) => [
        name,
        breaks,
        kind === 'caught' ? by : kind.toUpperCase(),
        seconds.toFixed(1),
      ]),
    ],
    'text',
  ),
];

await main().catch(fail);
