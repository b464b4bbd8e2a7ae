// Runs small test files by the pool: order, results, a file that does not end, and what a file leaves behind.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { identify } from '../devmesh/processes.ts';
import { type FileResult, type Pool, runFiles } from './pool.ts';

const tap = JSON.stringify(import.meta.resolve('tap'));
const dir = t.testdir({
  'good.mjs': `import t from ${tap}; t.pass('a'); t.test('inner', async (t) => { t.pass('b'); });`,
  'bad.mjs': `import t from ${tap}; t.equal(1, 2, 'numbers'); console.error('on standard error');`,
  'broken.mjs': "throw new Error('at its top level')",
  'endless.mjs': "setInterval(() => {}, 1000); console.log('TAP version 14\\nok 1 - a\\n1..1')",
  'parent.mjs': `import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import t from ${tap};
const child = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)'], { stdio: 'ignore' });
writeFileSync(new URL('pid', import.meta.url), String(child.pid));
child.unref();
t.pass('a');`,
});

async function run(names: readonly string[], pool: Partial<Pool> = {}): Promise<FileResult[]> {
  const results: FileResult[] = [];
  await runFiles(
    names.map((name) => join(dir, name)),
    {
      ...{ jobs: 1, env: process.env, fileTimeoutSeconds: 60, graceSeconds: 0, stopping: new AbortController().signal },
      whenFileEnds: (result) => void results.push({ ...result, name: result.name.slice(dir.length + 1) }),
      ...pool,
    },
  );
  return results;
}
const failuresOf = ({ failures }: FileResult) => failures.map(({ path }) => path.join(' > '));

t.test('counts the assertions of each file, and keeps what it wrote', async (t) => {
  const [bad, good] = await run(['good.mjs', 'bad.mjs']);
  t.match(good, { name: 'good.mjs', passed: 2, failures: [] });
  t.match(bad, { name: 'bad.mjs', passed: 0, output: /on standard error/ });
  t.strictSame(failuresOf(bad!), ['numbers']);
});

t.test('a file that fails outside of a test has failed', async (t) => {
  const [broken] = await run(['broken.mjs']);
  t.strictSame(failuresOf(broken!), ['ended by code 1']);
  t.match(broken!.output, /at its top level/);
});

t.test('a file that does not end is killed and has failed', async (t) => {
  const [endless] = await run(['endless.mjs'], { fileTimeoutSeconds: 1 });
  t.strictSame(failuresOf(endless!), ['did not end within 1 s']);
  t.equal(endless!.passed, 1);
});

t.test('processes that a file leaves behind end with it', async (t) => {
  const [parent] = await run(['parent.mjs']);
  t.strictSame(failuresOf(parent!), []);
  t.ok(existsSync(join(dir, 'pid')));
  t.equal(identify(Number(readFileSync(join(dir, 'pid'), 'utf8'))), undefined);
});

t.test('workers take files from both ends; none is started after a stop', async (t) => {
  const names = ['good.mjs', 'bad.mjs', 'broken.mjs'];
  t.same(
    (await run(names)).map(({ name }) => name),
    names.toReversed(),
  );
  const all = await run(names, { jobs: 2 });
  t.same(all.map(({ name }) => name).toSorted(), names.toSorted());
  const stopping = new AbortController();
  const ended: string[] = [];
  await run(names, {
    stopping: stopping.signal,
    whenFileEnds: ({ name }) => {
      ended.push(name);
      stopping.abort();
    },
  });
  t.equal(ended.length, 1);
});
