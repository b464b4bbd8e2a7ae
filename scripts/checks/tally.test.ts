import t from 'tap';
import { type FileEnd, tally } from './tally.ts';

const rows: { name: string; tap: string; ended?: FileEnd; passed: number; failed: string[] }[] = [
  {
    name: 'assertions inside tests count, tests do not',
    tap: '# Subtest: x\n    ok 1 - p\n    ok 2 - q\n    1..2\nok 1 - x\n1..1\n',
    passed: 2,
    failed: [],
  },
  {
    name: 'a failed assertion counts once, however deep',
    tap: '# Subtest: x\n    ok 1 - p\n    not ok 2 - q\n    1..2\nnot ok 1 - x\n1..1\n',
    ended: { code: 1, signal: null },
    passed: 1,
    failed: ['x > q'],
  },
  {
    name: 'a test that ends badly without an assertion counts as a failure',
    tap: '# Subtest: x\n    ok 1 - p\n    1..1\nnot ok 1 - x\n1..1\n',
    ended: { code: 1, signal: null },
    passed: 1,
    failed: ['x'],
  },
  {
    name: 'a file that is killed counts as a failure',
    tap: 'ok 1 - p\n1..1\n',
    ended: { code: null, signal: 'SIGKILL' },
    passed: 1,
    failed: ['ended by SIGKILL'],
  },
  {
    name: 'a file that takes too long counts as a failure',
    tap: 'ok 1 - p\n1..1\n',
    ended: { code: null, signal: null, reason: 'did not end within 1 s' },
    passed: 1,
    failed: ['did not end within 1 s'],
  },
  {
    name: 'a file that fails after its tests counts as a failure',
    tap: 'ok 1 - p\n1..1\n',
    ended: { code: 1, signal: null },
    passed: 1,
    failed: ['ended by code 1'],
  },
  { name: 'a file that writes nothing counts as a failure', tap: '', passed: 0, failed: ['no test ran'] },
  {
    name: 'a file that ends early counts as a failure',
    tap: 'ok 1 - p\n1..2\n',
    passed: 1,
    failed: ['incorrect number of tests'],
  },
  {
    name: 'what is skipped counts as neither',
    tap: 'ok 1 - p # SKIP no disk\nok 2 - q\n1..2\n',
    passed: 1,
    failed: [],
  },
  { name: 'a file that is skipped as a whole is no failure', tap: '1..0 # SKIP no disk\n', passed: 0, failed: [] },
];

for (const { name, tap, ended = { code: 0, signal: null }, passed, failed } of rows) {
  t.test(name, async (t) => {
    const { parser, end } = tally();
    parser.write(`TAP version 14\n${tap}`);
    const result = end(ended);
    t.equal(result.passed, passed);
    t.same(
      result.failures.map(({ path }) => path.join(' > ')),
      failed,
    );
  });
}
