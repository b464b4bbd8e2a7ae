// The machinery of armature prove, with small programs in the place of the long ones.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { testFiles } from '../../checks/test-files.ts';
import { repository } from '../../devmesh/state.ts';
import { chosenParts, proofParts, proofTable } from './prove.ts';

t.test('all parts, with the seeds and the backlog that the claim names', async (t) => {
  t.same(
    proofParts.map(({ part, seed }) => [part, seed]),
    [
      ['tests', undefined],
      ['races', undefined],
      ['faults', undefined],
      ['keys', 1],
      ['cold-start', 1],
      ['crash-1', 1],
      ['crash-2', 2],
      ['crash-3', 3],
      ['mutants', undefined],
    ],
  );
  const runs = Object.fromEntries(proofParts.map(({ part, run }) => [part, run]));
  const { tests, races, faults, keys, 'crash-1': crash, mutants } = runs;
  const coldStart = runs['cold-start'];
  t.match(tests!.env, { ARMATURE_TEST_TIER: 'long', ARMATURE_STATEMENT_ROWS: '1000000' });
  t.match(keys!.env, { KEYS: '10000', SENDS: '5', SEED: '1' });
  t.match(coldStart!.env, { ROUNDS: '20', SEED: '1' });
  t.match(crash!.env, { DURATION: '600', SEED: '1', POINTS: '', RECORD: '' });
  t.match(mutants!.env, { ARMATURE_TEST_TIER: 'long', ONLY: '' });
  const files = testFiles(tests!.args!, { long: true });
  t.ok(files.length > 100, 'the part tests has all other files');
  const twice = [...races!.args!, ...faults!.args!].filter((file) => files.includes(file));
  t.strictSame(twice, [], 'no file runs in two parts');
  for (const [name, run] of Object.entries({ races, faults })) {
    t.equal(run!.env!.ARMATURE_TEST_TIER, 'long', `${name} run in the long tier`);
    t.ok(run!.args!.length >= 5, `${name} has its files`);
    t.ok(
      run!.args!.every((path) => path.startsWith(`test/verification/${name}/`)),
      `${name} has no other files`,
    );
  }
});

t.test('parts are chosen by name', async (t) => {
  const names = (only?: string[]) => chosenParts(only).map(({ part }) => part);
  t.same(
    names(),
    proofParts.map(({ part }) => part),
  );
  t.same(names(['crash']), ['crash-1', 'crash-2', 'crash-3']);
  t.same(names(['mutants', 'crash-2', 'races']), ['races', 'crash-2', 'mutants'], 'in the order in which they run');
  t.throws(() => names(['crahs']), { message: /no such part; did you mean crash\?/ });
});

t.test('the table', async (t) => {
  const lines = proofTable([
    { part: 'tests', result: 'passed', seconds: 1234.4, exitCode: 0, seed: null },
    { part: 'crash-1', result: 'not run', seed: 1 },
  ]);
  t.same(lines, [
    '',
    'PART     RESULT   SECONDS  SEED',
    'tests    passed   1234     -',
    'crash-1  not run  -        1',
  ]);
});

/** Runs `prove` on parts that are programs of a folder of this test. */
function proving(dir: string, parts: readonly object[], { json = false, timeoutMs = 20_000 } = {}) {
  const at = (name: string) => JSON.stringify(join(repository, 'scripts', 'cli', name));
  const program = `
    import { startDeadline } from ${at('deadline.ts')};
    import { prove } from ${at('verification/prove.ts')};
    const deadline = startDeadline(${timeoutMs}, async () => {
      for (const cleanUp of deadline.cleanUps) await cleanUp();
      process.exit(124);
    });
    await prove(undefined, { json: ${json}, deadline, deadlineChosen: true }, ${JSON.stringify(parts)});
    deadline.clear();`;
  return spawn(process.execPath, ['--input-type=module', '-e', program], {
    env: { ...process.env, ARMATURE_RUN_DIR: dir },
  });
}

async function endOf(child: ReturnType<typeof proving>) {
  const output = { stdout: '', stderr: '' };
  for (const stream of ['stdout', 'stderr'] as const) {
    child[stream].setEncoding('utf8').on('data', (text: string) => {
      output[stream] += text;
    });
  }
  const [code] = await once(child, 'close');
  return { code: code as number | null, ...output };
}

/** Paths of programs are taken from the root of the repository. */
const fromRoot = (path: string) => path.slice(repository.length + 1);

t.test('goes on after a part has failed, keeps each report, and ends with 1', async (t) => {
  const dir = t.testdir({
    'good.mjs': `
      import { writeFileSync } from 'node:fs';
      writeFileSync(process.env.ARMATURE_RUN_DIR + '/crash.json', JSON.stringify({ seed: process.env.SEED }));
      console.log('the output of the part');`,
    'bad.mjs': 'process.exit(3)',
  });
  const good = (seed: number) => ({
    ...{ part: `crash-${seed}`, seed },
    run: { program: fromRoot(join(dir, 'good.mjs')), env: { SEED: String(seed) }, report: 'crash.json' },
  });
  const bad = { part: 'tests', run: { program: fromRoot(join(dir, 'bad.mjs')) } };
  const { code, stdout, stderr } = await endOf(proving(dir, [bad, good(1), good(2)]));
  t.equal(code, 1, stderr);
  t.match(stdout, /^tests +failed +\d+ +-\ncrash-1 +passed +\d+ +1\ncrash-2 +passed +\d+ +2$/m);
  const { parts } = JSON.parse(readFileSync(join(dir, 'prove.json'), 'utf8'));
  t.match(parts, [
    { part: 'tests', result: 'failed', exitCode: 3, seed: null },
    { part: 'crash-1', result: 'passed', exitCode: 0, seed: 1 },
    { part: 'crash-2', result: 'passed', exitCode: 0, seed: 2 },
  ]);
  for (const seed of ['1', '2']) {
    t.same(JSON.parse(readFileSync(join(dir, 'prove', `crash-${seed}.json`), 'utf8')), { seed });
  }
  const json = await endOf(proving(dir, [good(1)], { json: true }));
  t.equal(json.code, 0, json.stderr);
  t.match(JSON.parse(json.stdout), { parts: [{ part: 'crash-1', result: 'passed' }] });
  t.match(json.stderr, /the output of the part/, 'standard output holds the result alone');
});

t.test('a passed deadline ends the part, which may clean up', async (t) => {
  const dir = t.testdir({
    'slow.mjs': `
      process.on('SIGTERM', () => { console.log('cleaned up'); process.exit(0); });
      setInterval(() => {}, 1000);
      console.log('started');`,
  });
  const part = { part: 'tests', run: { program: fromRoot(join(dir, 'slow.mjs')) } };
  const { code, stdout } = await endOf(proving(dir, [part], { timeoutMs: 4_000 }));
  t.equal(code, 124);
  t.match(stdout, /started\n(.*\n)*cleaned up/);
});
