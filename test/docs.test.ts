// Checks what documents quote from the repository: links, files, commands, make targets, names in backticks, metrics,
// environment variables and methods. docs.figures.test.ts checks figures and versions.
import { basename } from 'node:path';
import { collectDefaultMetrics, Registry } from 'prom-client';
import t from 'tap';
import { servicePlaces } from '../scripts/checks/service-places.ts';
import { serviceNames } from '../services/manifest.ts';
import { contracts } from './conformance/contracts.ts';
import {
  armatureWords,
  leaves,
  makeCommands,
  makeTargets,
  parseProblem,
  quotedProblem,
} from './support/command-lines.ts';
import { anchorsOf, type Document, documentOf, files, linksOf, read } from './support/documents.ts';

const tracked = files();
if (!tracked) {
  t.pass('not a git checkout, so there is no list of our files', { skip: true });
  process.exit();
}

const known = new Set(tracked);
const folders = new Set(
  tracked.flatMap((path) => path.split('/').map((_, end, parts) => parts.slice(0, end).join('/'))),
);
const documents = tracked.filter((path) => path.endsWith('.md')).map((path) => documentOf(path, read(path)));
/** Documents that say how things are; the changelog and decisions also name what is no more. */
const current = documents.filter(({ path }) => path !== 'CHANGELOG.md' && !path.startsWith('docs/adr/'));

const code = tracked.filter((path) => !/\.md$|(^|\/)package-lock\.json$|^test\/docs\b/.test(path)).map(read);
/** Every word of the code, and what follows an underscore in it: ORDER_NOT_FOUND of ORDER_ERROR_REASON_ORDER_NOT_FOUND. */
const words = new Set<string>();
for (const text of code) {
  for (const [word] of text.matchAll(/\w{3,}/g)) {
    for (let end = 0; end >= 0; end = word.indexOf('_', end + 1)) words.add(end === 0 ? word : word.slice(end + 1));
  }
}
for (const name of serviceNames) words.add(`ARMATURE_PEER_${name.toUpperCase()}`).add(`armature_${name}`);

type Found = [line: number, problem: string];

/** Asserts that no document has a problem of a kind. `atLeast` is how much the documents quote of that kind. */
function noProblems(
  t: Tap,
  on: readonly Document[],
  atLeast: number,
  problemsOf: (document: Document, count: () => void) => Found[],
): void {
  let checked = 0;
  const count = () => {
    checked += 1;
  };
  const problems = on.flatMap((document) =>
    problemsOf(document, count).map(([line, problem]) => `${document.path}${line > 0 ? `:${line}` : ''}: ${problem}`),
  );
  t.strictSame(problems, []);
  t.ok(checked >= atLeast, `${checked} are checked`);
}
type Tap = Pick<typeof t, 'strictSame' | 'ok'>;

t.test('every link leads to a file and a heading that exist', async (t) => {
  noProblems(t, documents, 350, (document, count) =>
    linksOf(document).flatMap(({ text, line, target, anchor, about }): Found[] => {
      count();
      if (!known.has(target) && !folders.has(target)) return [[line, `${text} does not exist`]];
      if (anchor && !anchorsOf(read(target)).has(anchor)) return [[line, `${target} has no heading #${anchor}`]];
      if (about && known.has(target) && !new RegExp(`\\b${about}\\b`).test(read(target))) {
        return [[line, `\`${about}\` does not occur in ${target}, the link before it`]];
      }
      return [];
    }),
  );
});

/** Paths that are no files of the repository: packages, pages of an admin port, what a program writes. */
const otherPaths =
  /^(@|\.run\/|proto\/gen\/|node_modules\/|\/(metrics|healthz|readyz|jwks)$|[\w.]+Service\/|Service\/Method$)/;
/** Files that are generated. */
const generated = new Set(['subscriptions.ts']);

t.test('every path in backticks exists', async (t) => {
  noProblems(t, current, 40, ({ spans }, count) =>
    spans.flatMap(({ text, line }): Found[] => {
      const isPath = /^[\w./-]+\/[\w./-]*$|^[\w.-]+\.(ts|md|json|proto|csv|sh|mjs|yaml|conf)$/.test(text);
      if (!isPath || otherPaths.test(text) || text.includes('NNNN') || generated.has(text)) return [];
      count();
      const path = text.replace(/\/$/, '');
      const ends = (one: string) => one === path || one.endsWith(`/${path}`);
      return tracked.some(ends) || [...folders].some(ends) ? [] : [[line, `there is no ${text}`]];
    }),
  );
});

/** Names of other programs. */
const otherWords = new Set(['fdatasync']);

t.test('every name in backticks occurs in the code', async (t) => {
  noProblems(t, current, 700, ({ spans }, count) =>
    spans.flatMap(({ text, line }): Found[] => {
      if (!/^[A-Za-z_]\w{2,}(\(\))?$/.test(text) || otherWords.has(text)) return [];
      count();
      return words.has(text.replace('()', '')) ? [] : [[line, `\`${text}\` does not occur in the code`]];
    }),
  );
});

t.test('every environment variable exists', async (t) => {
  const names = [...words].filter((word) => word.startsWith('ARMATURE_'));
  const exists = (name: string) =>
    names.includes(name) || (name.endsWith('_') && names.some((one) => one.startsWith(name)));
  noProblems(
    t,
    documents.filter(({ path }) => path !== 'CHANGELOG.md'),
    100,
    ({ text }, count) =>
      [...text.matchAll(/\bARMATURE_[A-Z_]+|…(_[A-Z_]+)/g)].flatMap(([name, end]): Found[] => {
        count();
        const found = end ? names.some((one) => one.endsWith(end)) : exists(name);
        return found ? [] : [[0, `no program reads ${name}`]];
      }),
  );
});

t.test('every metric exists', async (t) => {
  const metrics = metricNames();
  t.ok(metrics.size > 50, `${metrics.size} metrics`);
  const exists = (name: string) =>
    metrics.has(name) || (name.endsWith('_') && [...metrics].some((one) => one.startsWith(name)));
  noProblems(t, current, 60, ({ text }, count) =>
    [...text.matchAll(/\b(?:armature|grpc|process|nodejs)_[a-z0-9_]+/g)].flatMap(([name]): Found[] => {
      if (name === 'grpc_code' || name.startsWith('grpc_python') || /^armature_(clients)$/.test(name)) return [];
      if (serviceNames.some((service) => name === `armature_${service}`)) return [];
      count();
      return exists(name) ? [] : [[0, `there is no metric ${name}`]];
    }),
  );
});

function metricNames(): Set<string> {
  const defaults = new Registry();
  collectDefaultMetrics({ register: defaults });
  const names = new Set(defaults.getMetricsAsArray().map(({ name }) => name));
  const sources = tracked!.filter(
    (path) => /^services\/.*\.ts$/.test(path) && !/\.(test|bench)\.ts$|testbed/.test(path),
  );
  for (const path of sources)
    for (const [, name] of read(path).matchAll(/['"`](armature_[a-z0-9_]+)['"`]/g)) names.add(name!);
  names.add(/(armature_metrics_unreadable) \$/.exec(read('services/runtime/telemetry/metrics.ts'))![1]!);
  for (const side of ['server', 'client']) {
    const quoted = read('services/runtime/rpc/metrics.ts').matchAll(/grpc_\$\{\w+\}_(\w+)/g);
    for (const [, rest] of quoted) names.add(`grpc_${side}_${rest}`);
  }
  return names;
}

t.test('every method exists', async (t) => {
  const methods = new Set(
    contracts.flatMap(({ contract }) =>
      Object.keys(contract.methods).map((name) => `${contract.name.split('.').at(-1)}/${name}`.toLowerCase()),
    ),
  );
  noProblems(t, current, 25, ({ text }, count) =>
    [...text.matchAll(/\b(\w+Service\/)(\w+)/g)].flatMap(([name]): Found[] => {
      if (name.startsWith('GiftService/')) return [];
      count();
      return methods.has(name.toLowerCase()) ? [] : [[0, `there is no method ${name}`]];
    }),
  );
});

t.test('every make target exists and reads the variables that it is given', async (t) => {
  const targets = makeTargets();
  t.ok(targets.size > 30, `${targets.size} targets`);
  noProblems(t, current, 100, ({ path, text, spans, commands }, count) => {
    const others = path === 'README.md' ? targetsOfTable(text) : [];
    const quoted = [
      ...spans.map(({ text, line }) => ({ text, line })),
      ...[...commands, ...others].map((text) => ({ text, line: 0 })),
    ];
    return quoted.flatMap(({ text, line }) =>
      makeCommands(text).flatMap(({ target, variables }): Found[] => {
        count();
        const read = targets.get(target);
        if (!read) return [[line, `there is no make ${target}`]];
        const unknown = variables.filter((name) => !read.has(name) && name !== 'FORCE');
        return unknown.map((name) => [line, `make ${target} does not read ${name}`]);
      }),
    );
  });
});

/** The targets of the table "Targets": `make up`, `down`. */
function targetsOfTable(text: string): string[] {
  const rows = text.matchAll(/^\| (`make [^|]*) \| /gm);
  return [...rows].flatMap(([, cell]) =>
    [...cell!.matchAll(/`([^`]+)`/g)].map(([, one]) => (one!.startsWith('make ') ? one! : `make ${one}`)),
  );
}

t.test('README.md names every make target', async (t) => {
  const named = new Set(
    targetsOfTable(read('README.md')).flatMap((text) => makeCommands(text).map(({ target }) => target)),
  );
  const missing = [...makeTargets().keys()].filter((target) => !named.has(target));
  t.strictSame(missing, ['runtime-graph'], 'which is for the runtime itself: ARCHITECTURE.md');
});

t.test('every armature command exists and has the flags that it is given', async (t) => {
  noProblems(t, current, 30, ({ spans, commands }, count) => [
    ...spans.flatMap(({ text, line }): Found[] => {
      if (!text.startsWith('armature ')) return [];
      count();
      const problem = quotedProblem(text.split(' ').slice(1));
      return problem ? [[line, `\`${text}\`: ${problem}`]] : [];
    }),
    ...commands.flatMap((line): Found[] => {
      const typed = armatureWords(line.replace(/\s#.*/, ''));
      if (!typed) return [];
      count();
      const problem = parseProblem(typed);
      return problem ? [[0, `${line}: ${problem}`]] : [];
    }),
  ]);
});

/** Seconds of "30 s", "10 min" or "24 h". */
function secondsOf(text: string): number {
  const [, number, unit] = /^(\d+) (s|min|h)$/.exec(text) ?? [];
  return Number(number) * ({ s: 1, min: 60, h: 3_600 }[unit as 's'] ?? Number.NaN);
}

t.test('docs/cli.md says the deadline of each command, and which have --json', async (t) => {
  const rows = read('docs/cli.md').matchAll(/^\| (`[^|]+`.*?) \| [^|]+ \| ([^|]+) \|(.*)\|$/gm);
  const stated = new Map<string, { deadline: number; json: boolean }>();
  for (const [, names, deadlines, json] of rows) {
    const all = [...names!.matchAll(/`([^`]+)`/g)].map(([, name]) => name!.replace(/ [[<-].*$/, ''));
    const group = all[0]!.includes(' ') ? all[0]!.split(' ')[0] : undefined;
    const paths = all.map((name) => (group && !name.includes(' ') ? `${group} ${name}` : name));
    const special = new Map([...deadlines!.matchAll(/`([a-z-]+)` (\d+ \w+)/g)].map(([, name, time]) => [name, time!]));
    const plain = deadlines!.split(', ').filter((part) => !part.includes('`'));
    for (const [index, path] of paths.entries()) {
      const time = special.get(path.split(' ').at(-1)!) ?? plain[plain.length > 1 && !special.size ? index : 0]!;
      stated.set(path, { deadline: secondsOf(time.trim()), json: json!.trim() !== '' });
    }
  }
  for (const { path, command } of leaves()) {
    const name = path.join(' ');
    const row = stated.get(name);
    if (!t.ok(row, `armature ${name} has a row`)) continue;
    const timeout = command.options.find(({ long }) => long === '--timeout')!;
    // The deadline of a call is that of its method.
    if (name !== 'call')
      t.equal(row!.deadline, Number(timeout.defaultValue) / 1_000, `the deadline of armature ${name}`);
    t.equal(
      row!.json,
      command.options.some(({ long }) => long === '--json'),
      `whether armature ${name} has --json`,
    );
  }
});

/** Which test runs the commands of fenced blocks that the tests above do not only compare with the program. */
const ranBy: { documents: RegExp; commands: RegExp; test: string; says: RegExp }[] = [
  { documents: /^README/, commands: /^make demo$/, test: 'test/e2e/any-path.test.ts', says: /demo/ },
  { documents: /^README/, commands: /^make test$/, test: '.ci/run', says: /^make test/m },
  { documents: /^README/, commands: /npx buf|TLS=|order\.json/, test: 'clients/pack.test.ts', says: /'npx buf curl'/ },
  {
    documents: /^README/,
    commands: /protoc|stubs|place_order/,
    test: 'clients/pack.test.ts',
    says: /'place_order\.py'/,
  },
  {
    documents: /^README/,
    commands: /npm (pack|install)|^export ARM|list\.mjs/,
    test: 'clients/pack.test.ts',
    says: /npm/,
  },
  {
    documents: /acquirer\/README/,
    commands: /curl|acquirer\/main/,
    test: 'services/acquirer/routes.test.ts',
    says: /README\.md/,
  },
  { documents: /cli\.md/, commands: /completion/, test: 'scripts/cli/completion/completion.test.ts', says: /bash/ },
];

t.test('every command of a fenced block is a target, an armature command, or run by a test', async (t) => {
  noProblems(t, current, 80, ({ path, commands }, count) =>
    commands.flatMap((line): Found[] => {
      if (!/^(\S+=\S+ |\()*(make|armature|npm|npx|node|curl|protoc|cat|mkdir|export|cd|source|git|TLS=)/.test(line))
        return [];
      count();
      const row = ranBy.find((one) => one.documents.test(path) && one.commands.test(line));
      if (row) {
        if (known.has(row.test) && row.says.test(read(row.test))) return [];
        return [[0, `${row.test} does not run \`${line}\``]];
      }
      if (makeCommands(line).length > 0 || armatureWords(line)) return [];
      return /^export PATH=|^git clone/.test(line) ? [] : [[0, `name a test that runs \`${line}\` in ranBy`]];
    }),
  );
});

t.test('the recipe of a service names every place that lists services', async (t) => {
  const [, recipe = ''] = /^### A service$([\s\S]*?)^###? /m.exec(read('CONTRIBUTING.md')) ?? [];
  const places = servicePlaces.map(({ path }) => path.split(',')[0]!);
  t.strictSame(
    places.filter((path) => !recipe.includes(basename(path))),
    [],
  );
});

t.test('versions of packages', async (t) => {
  const version = (path: string) => (JSON.parse(read(path)) as { version: string }).version;
  t.match(read('README.md'), `./armature-clients-${version('clients/package.json')}.tgz`);
  const { optionalDependencies: node } = JSON.parse(read('package.json')) as {
    optionalDependencies: Record<string, string>;
  };
  const [, major] = /Node (\d+) comes with the packages/.exec(read('README.md')) ?? [];
  for (const [name, brought] of Object.entries(node)) t.equal(brought.split('.')[0], major, name);
});

t.test('what is wrong is found', async (t) => {
  const bad = documentOf(
    'docs/x.md',
    'See [a](../nothing.ts#b) `c`, `make nothing A=1`.\n\n```\n$ armature call \\\n    --nothing\n```\n',
  );
  t.match(linksOf(bad), [{ target: 'nothing.ts', anchor: 'b', about: 'c', line: 1 }]);
  t.strictSame(
    bad.spans.map(({ text }) => text),
    ['c', 'make nothing A=1'],
  );
  t.strictSame(makeCommands('make nothing A=1'), [{ target: 'nothing', variables: ['A'] }]);
  t.strictSame(makeCommands('x $(make -s -C armature token AS=staff:bo)'), [{ target: 'token', variables: ['AS'] }]);
  t.match(bad.commands, [/^armature call/]);
  t.match(parseProblem(['call', '--nothing']), /unknown option/);
  t.match(quotedProblem(['call', '…', '--nothing']), /has no --nothing/);
  t.match(quotedProblem(['sagas', 'nothing']), /no command nothing/);
  t.strictSame(
    [...anchorsOf('# One effect, one response\n\n## `a` and b_c\n')],
    ['one-effect-one-response', 'a-and-b_c'],
  );
});
