// Checks that every runbook has the same parts and is in the list, for the operator on call. docs.test.ts checks the
// metrics, make targets and links that they name.
import { globSync } from 'node:fs';
import { basename } from 'node:path';
import t from 'tap';
import { repository } from '../scripts/devmesh/state.ts';
import { read } from './support/documents.ts';

const files = globSync('docs/runbooks/*.md', { cwd: repository }).sort();
const parts = [
  'What you see',
  'What it means for customers',
  'How to look',
  'What to do',
  'How to know that it is over',
];

t.ok(files.length > 10, `${files.length} pages`);
for (const file of files.filter((file) => !file.endsWith('README.md'))) {
  const headings = [...read(file).matchAll(/^## (.*)$/gm)].map((match) => match[1]);
  t.strictSame(headings, parts, file);
  t.ok(read('docs/runbooks/README.md').includes(`(${basename(file)})`), `${file} is in the list`);
}
