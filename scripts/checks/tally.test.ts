import t from 'tap';
import { type FileResult, tally } from './tally.ts';

function read(tap: string): FileResult[] {
  const files: FileResult[] = [];
  tally((file) => files.push(file)).end(tap);
  return files;
}

const rows: { name: string; tap: string; passed: number; failed: string[] }[] = [
  {
    name: 'assertions inside tests count, tests do not',
    tap: '# Subtest: a.test.ts\n    # Subtest: x\n        ok 1 - p\n        ok 2 - q\n        1..2\n    ok 1 - x\n    1..1\nok 1 - a.test.ts\n1..1\n',
    passed: 2,
    failed: [],
  },
  {
    name: 'a failed assertion counts once, however deep',
    tap: '# Subtest: a.test.ts\n    # Subtest: x\n        ok 1 - p\n        not ok 2 - q\n        1..2\n    not ok 1 - x\n    1..1\nnot ok 1 - a.test.ts\n1..1\n',
    passed: 1,
    failed: ['x > q'],
  },
  {
    name: 'a test that ends badly without an assertion counts as a failure',
    tap: '# Subtest: a.test.ts\n    # Subtest: x\n        ok 1 - p\n        1..1\n    not ok 1 - x\n    1..1\nnot ok 1 - a.test.ts\n1..1\n',
    passed: 1,
    failed: ['x'],
  },
  {
    name: 'a file that times out counts as a failure',
    tap: '# Subtest: a.test.ts\n    ok 1 - p\n    1..1\nnot ok 1 - a.test.ts # time=1ms\n  ---\n  signal: SIGTERM\n  ...\n1..1\n',
    passed: 1,
    failed: ['a.test.ts'],
  },
  {
    name: 'a file that writes nothing counts as a failure',
    tap: 'not ok 1 - a.test.ts\n  ---\n  exitCode: 1\n  ...\n1..1\n',
    passed: 0,
    failed: ['a.test.ts'],
  },
  {
    name: 'what is skipped counts as neither',
    tap: '# Subtest: a.test.ts\n    ok 1 - p # SKIP no disk\n    ok 2 - q\n    1..2\nok 1 - a.test.ts\n1..1\n',
    passed: 1,
    failed: [],
  },
];

for (const { name, tap, passed, failed } of rows) {
  t.test(name, async (t) => {
    const [file] = read(`TAP version 14\n${tap}`);
    t.equal(file?.name, 'a.test.ts');
    t.equal(file?.passed, passed);
    t.same(
      file?.failures.map(({ path }) => path.join(' > ')),
      failed,
    );
  });
}
