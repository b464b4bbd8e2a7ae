// Checks that every metric, make target and page that the runbooks name exists, for the operator on call.
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { collectDefaultMetrics, Registry } from 'prom-client';
import t from 'tap';
import { repository } from '../scripts/devmesh/state.ts';
import { serviceNames } from '../services/manifest.ts';

const read = (file: string) => readFileSync(join(repository, file), 'utf8');
const files = globSync('docs/runbooks/*.md', { cwd: repository }).sort();
const sources = globSync('services/**/*.ts', { cwd: repository })
  .filter((file) => !/\.(test|bench)\.ts$|testbed/.test(file))
  .map(read);

const defaults = new Registry();
collectDefaultMetrics({ register: defaults });
const known = new Set(defaults.getMetricsAsArray().map(({ name }) => name));
for (const text of sources) for (const [, name] of text.matchAll(/['"`](armature_[a-z0-9_]+)['"`]/g)) known.add(name!);
known.add(/(armature_metrics_unreadable) \$/.exec(read('services/runtime/telemetry/metrics.ts'))![1]!);
for (const side of ['server', 'client']) {
  for (const [, rest] of read('services/runtime/rpc/metrics.ts').matchAll(/grpc_\$\{\w+\}_(\w+)/g))
    known.add(`grpc_${side}_${rest}`);
}
const targets = new Set([...read('Makefile').matchAll(/^([a-z][a-z-]*):/gm)].map((match) => match[1]!));

const schemas = new Set(serviceNames.map((name) => `armature_${name}`));

t.ok(files.length > 10, `${files.length} pages`);
t.ok(known.size > 50 && targets.size > 20, `${known.size} metrics, ${targets.size} targets`);
for (const file of files) {
  const text = read(file);
  const metrics = [...text.matchAll(/\b((?:armature|grpc|process|nodejs)_[a-z0-9_]+)/g)].map((match) => match[1]!);
  const named = metrics.filter((name) => name !== 'grpc_code' && !schemas.has(name));
  t.strictSame(
    named.filter((name) => !known.has(name)),
    [],
    `metrics of ${file}`,
  );
  const called = [...text.matchAll(/(?:\$ |`)make ([a-z][a-z-]*)/g)].map((match) => match[1]!);
  t.strictSame(
    called.filter((target) => !targets.has(target)),
    [],
    `targets of ${file}`,
  );
  if (!file.endsWith('README.md')) {
    const headings = [...text.matchAll(/^## (.*)$/gm)].map((match) => match[1]);
    t.strictSame(headings, [
      'What you see',
      'What it means for customers',
      'How to look',
      'What to do',
      'How to know that it is over',
    ]);
    t.ok(read('docs/runbooks/README.md').includes(`(${file.split('/').at(-1)})`), 'is in the list');
  }
}
