// Every mutation must find the text that it changes, and its result must still compile.
import { existsSync, readFileSync } from 'node:fs';
import { stripTypeScriptTypes } from 'node:module';
import { join } from 'node:path';
import t from 'tap';
import { repository } from '../../../scripts/devmesh/state.ts';
import { edited, mutated, nameOf } from './mutation.ts';
import { equivalentChanges, mutations } from './mutations.ts';
import { reportOf } from './report.ts';
import { detectorsOf } from './trial.ts';

const read = (file: string) => readFileSync(join(repository, file), 'utf8');

t.test('an edit changes exactly one place', async (t) => {
  const rows: [string, string, string, RegExp | string][] = [
    ['one', 'one two three', 'two', 'one 2 three'],
    ['none', 'one three', 'two', /occurs 0 times/],
    ['several', 'two and two', 'two', /occurs 2 times/],
  ];
  for (const [name, text, old, expected] of rows) {
    const edit = () => edited(text, { file: 'a.ts', old, new: '2' });
    if (typeof expected === 'string') t.equal(edit(), expected, name);
    else t.throws(edit, { message: expected }, name);
  }
  t.throws(() => edited('two', { file: 'a.ts', old: 'two', new: 'two' }), { message: /nothing is changed/ });
});

t.test('every mutation finds its texts, and leaves code that can be parsed', async (t) => {
  for (const mutation of [...mutations, ...equivalentChanges]) {
    const files = mutated(mutation, read);
    t.ok(files.size > 0, `${mutation.name}: changes something`);
    for (const [file, text] of files) t.ok(stripTypeScriptTypes(text), `${mutation.name}: ${file} can be read`);
  }
});

t.test('every mutation has an existing test and a unique name', async (t) => {
  const all = [...mutations, ...equivalentChanges];
  t.equal(new Set(all.map(({ name }) => name)).size, all.length);
  for (const detector of detectorsOf(all)) {
    t.ok(existsSync(join(repository, detector.file)), nameOf(detector));
    // A name may be built from parts: each word of it is written somewhere.
    const text = read(detector.file);
    const missing = detector.only.filter(
      (name) => !name.split(' ').every((word) => word.split('.').every((part) => text.includes(part))),
    );
    t.strictSame(missing, [], `${detector.file} has tests of these names`);
  }
});

t.test('the report says of each mutation whether its test caught it', async (t) => {
  const [mutation] = mutations;
  const { name, breaks } = mutation!;
  const verdicts = [
    { mutation: mutation!, kind: 'caught', by: 'a.test.ts', evidence: 'a > b', seconds: 1.26 },
    { mutation: mutation!, kind: 'survived', by: 'b.test.ts', evidence: '', seconds: 2 },
    { mutation: mutation!, kind: 'broken', by: 'types', evidence: 'TS1', seconds: 3 },
  ] as const;
  t.strictSame(reportOf(verdicts, { only: 'lock', mutations: 4, seconds: 9.99 }), {
    ...{ only: 'lock', mutations: 4, caught: 1, seconds: 10 },
    results: [
      { name, breaks, proof: 'a.test.ts', caught: true, kind: 'caught', evidence: 'a > b', seconds: 1.3 },
      { name, breaks, proof: 'b.test.ts', caught: false, kind: 'survived', evidence: '', seconds: 2 },
      { name, breaks, proof: 'types', caught: false, kind: 'broken', evidence: 'TS1', seconds: 3 },
    ],
  });
});
